"""A loaded base model: its parts, what family it is, and how it likes to be sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from loratools.base.picture_size import check_size, vae_scale_factor
from loratools.errors import GridError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Defaults:
    """How a base is sampled when the user does not say: sampler steps, CFG scale and sampler name.

    ``frames`` is what a video base draws, of which the middle one is shown; 0 for bases that draw pictures.
    """

    steps: int = 20
    cfg: float = 7.0
    sampler: str = "DPM++ 2M Karras"
    frames: int = 0


class LoadedBase(Protocol):
    """What every base model in memory says of itself, whatever draws with it: a :class:`Base`, whose UNet is called by
    this package, or a :class:`~loratools.base.pipelines.model.PipelineBase`, which diffusers' own pipeline draws with.

    Attributes:
        family: a key of ``FAMILIES``, or ``unknown``.
        digest: what :func:`loratools.base.base_path.base_digest` returns.
        resolution: the pictures' default (height, width) in pixels.
        device: where it computes.
    """

    family: str
    digest: str
    name: str
    source: str
    resolution: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    defaults: Defaults

    @property
    def drawn_by(self) -> str:
        """What determines its pictures."""
        ...

    @property
    def home(self) -> torch.device:
        """Where its weights lie between pictures, and are patched."""
        ...

    def components(self) -> dict[str, Any]:
        """The modules that adapters can touch, by the first word of their canonical names."""
        ...

    def check_settings(self, settings: PictureSettings) -> None:
        """Raise GridError unless pictures can be drawn so."""
        ...

    def check_prompt(self, text: str) -> None:
        """Raise PromptError for a prompt, or a negative one, that the base cannot be given; LoRA tags are taken out."""
        ...


class PictureSettings(Protocol):
    """What a base is asked about a picture before it is drawn; ``size`` is (height, width) in pixels."""

    @property
    def steps(self) -> int: ...

    @property
    def cfg(self) -> float: ...

    @property
    def sampler(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def negative(self) -> str: ...

    @property
    def clip_skip(self) -> int: ...

    @property
    def noise(self) -> str: ...

    @property
    def frames(self) -> int: ...


FAMILY_DEFAULTS: Mapping[str, Defaults] = {
    "sd1": Defaults(),
    "sd2": Defaults(),
    "sdxl": Defaults(steps=30, cfg=6.0),
}


def is_scheduler(sampler: str) -> bool:
    """Whether a sampler's name is the class of a scheduler of diffusers, by which other families' pipelines draw."""
    return sampler.endswith("Scheduler") and sampler.isidentifier()


@dataclass
class Base:
    """A base model in memory, on one device and in one dtype, in eval mode and without gradients.

    ``text_encoders`` and ``tokenizers`` have one entry (SD 1.x, 2.x) or two (SDXL). ``resolution`` is the pictures'
    default (height, width) in pixels. ``digest`` is what :func:`loratools.base.base_path.base_digest` returns, and
    ``vae_digest`` that of the VAE that stands in for the base's own, if one does (:func:`loratools.base.vae.use_vae`).
    ``source`` is what it was loaded from, as it was given: what loads it once more, to be trained on. ``notes`` are
    sentences about what a run changes of it that it says otherwise itself.
    """

    unet: Any
    vae: Any
    text_encoders: tuple[Any, ...]
    tokenizers: tuple[Any, ...]
    scheduler_config: dict[str, Any]
    family: str
    digest: str
    name: str
    resolution: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    defaults: Defaults = field(default_factory=Defaults)
    vae_digest: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def drawn_by(self) -> str:
        """What determines its pictures: its digest, whether its noise ends at zero SNR, which was not obeyed by all
        samplers once, and the digest of a VAE that stands in for its own."""
        marks = ("zero-snr" if self.zero_snr else "", self.vae_digest)
        return " ".join([self.digest, *filter(None, marks)])

    @property
    def home(self) -> torch.device:
        """Where its weights are patched: its device."""
        return self.device

    @property
    def vae_scale_factor(self) -> int:
        """Pixels of a picture along one side for each latent."""
        return vae_scale_factor(self.vae.config)

    @property
    def text_encoder(self) -> Any:
        """The first text encoder: CLIP ViT-L's in SD 1.x and SDXL."""
        return self.text_encoders[0]

    @property
    def tokenizer(self) -> Any:
        """The first tokenizer."""
        return self.tokenizers[0]

    @property
    def prediction(self) -> str:
        """What the UNet predicts: ``epsilon`` or ``v_prediction``."""
        return str(self.scheduler_config.get("prediction_type", "epsilon"))

    @property
    def zero_snr(self) -> bool:
        """Whether its noise schedule ends in pure noise (zero terminal SNR)."""
        return bool(self.scheduler_config.get("rescale_betas_zero_snr", False))

    def components(self) -> dict[str, Any]:
        """The modules that adapters can touch, by the first word of their canonical names."""
        names = ("text_encoder", "text_encoder_2")
        return {"unet": self.unet, **dict(zip(names, self.text_encoders, strict=False))}

    def check_settings(self, settings: PictureSettings) -> None:
        """Raise GridError for a size that has no whole latents, or for several frames; a sampler's name was checked
        when ``settings`` were made."""
        check_size(settings.size, self.vae_scale_factor)
        if is_scheduler(settings.sampler):
            raise GridError(
                f"'{settings.sampler}' is a scheduler of diffusers, and {self.name} is drawn by samplers with the "
                "WebUI's names, such as 'DPM++ 2M Karras'"
            )
        if settings.frames:
            raise GridError(f"{self.name} draws pictures, not videos; leave out the number of frames")

    def check_prompt(self, text: str) -> None:
        """Nothing: what the WebUI's syntax says is read, and checked, when the text is encoded."""
