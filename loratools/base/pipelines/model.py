"""A base that diffusers' own pipeline draws with: the pipeline in memory, and what this package has to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loratools.base.model import Defaults, PictureSettings
from loratools.base.picture_size import check_size
from loratools.base.pipelines.call import PipelineCall
from loratools.base.pipelines.plain_prompt import check_plain

if TYPE_CHECKING:
    import torch


@dataclass
class PipelineBase:
    """A Diffusers folder of any family as a base, in eval mode and without gradients.

    Attributes:
        pipeline: of diffusers.
        call: what it takes.
        size_step: pixels; a picture's sides are multiples of it.
        offloaded: whether only the model that works is on ``device``, as ``enable_model_cpu_offload`` does it.
        tiled: whether pictures are decoded in tiles.
        The others are those of :class:`~loratools.base.model.LoadedBase`.
    """

    pipeline: Any
    call: PipelineCall
    size_step: int
    family: str
    digest: str
    name: str
    resolution: tuple[int, int]
    device: torch.device
    dtype: torch.dtype
    defaults: Defaults
    offloaded: bool = False
    tiled: bool = False
    source: str = ""

    @property
    def drawn_by(self) -> str:
        """What determines its pictures: its digest."""
        return self.digest

    @property
    def home(self) -> torch.device:
        """Where its weights lie between pictures, and are patched: main memory, if they are offloaded."""
        import torch

        return torch.device("cpu") if self.offloaded else self.device

    @property
    def scheduler(self) -> str:
        """The class of its scheduler, which stands for a sampler's name."""
        return type(self.pipeline.scheduler).__name__

    def components(self) -> dict[str, Any]:
        """Every network of the pipeline but its VAE, by its name in the folder."""
        import torch

        parts = self.pipeline.components.items()
        return {name: own for name, own in parts if isinstance(own, torch.nn.Module) and "vae" not in name}

    def check_settings(self, settings: PictureSettings) -> None:
        """Raise GridError for a size that does not fit, and for what the pipeline does not take."""
        check_size(settings.size, self.size_step)
        self.call.check(settings, self.scheduler)

    def check_prompt(self, text: str) -> None:
        """Raise PromptError for what the pipeline would take for words."""
        check_plain(self.call.title, text)

    def offload(self) -> None:
        """From now on keep only the model that works on the device."""
        if self.device.type == "cpu" or self.offloaded:
            return
        self.pipeline.to("cpu")
        self.pipeline.enable_model_cpu_offload(device=self.device)
        self.offloaded = True

    def tile(self) -> bool:
        """Decode pictures in tiles from now on; False where the VAE cannot."""
        if not self.tiled and hasattr(self.pipeline.vae, "enable_tiling"):
            self.pipeline.vae.enable_tiling()
            self.tiled = True
        return self.tiled
