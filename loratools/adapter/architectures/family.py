"""Model families, as data: what each is called, what its network is, and which text encoders it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loratools.adapter.architectures.block_transformer import BlockTransformer
from loratools.adapter.architectures.declared import ANIMA, COSMOS, FLUX2, QWEN_IMAGE, WAN, Z_IMAGE
from loratools.errors import FormatError, did_you_mean

ModuleKind = Literal["linear", "conv", "norm", "embedding"]


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder.

    Args:
        component: its canonical first part, such as ``text_encoder_2``.
        prefix: how kohya's flat names begin.
        layers: its usual depth.
        bundle: what a checkpoint that carries its text encoders calls it (ComfyUI's ``text_encoders.clip_l``).
        more_prefixes: other flat beginnings that are read.
    """

    component: str
    prefix: str
    layers: int
    bundle: str
    kind: Literal["clip", "t5", "llama"] = "clip"
    projection: bool = False
    more_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class UNet:
    """A convolutional UNet; ``down`` and ``up`` give the transformer depth of each level.

    ``original_names`` says that kohya spells it by the original (CompVis) paths; both are read.
    """

    down: tuple[int, ...]
    mid: int
    up: tuple[int, ...]
    linear_projection: bool
    original_names: bool


@dataclass(frozen=True)
class Transformer:
    """A multimodal diffusion transformer: blocks of two streams, and (Flux) blocks of one."""

    kind: Literal["flux", "sd3"]
    double: int
    single: int = 0


@dataclass(frozen=True)
class Family:
    """What sets one model family apart. ``network`` is None where nothing is known of its modules."""

    name: str
    title: str
    base_model_version: str
    architecture: str
    network: UNet | Transformer | BlockTransformer | None
    text: tuple[TextEncoder, ...]

    @property
    def component(self) -> str:
        """The canonical first part of the network's own modules; empty for an unknown family."""
        match self.network:
            case UNet():
                return "unet"
            case Transformer():
                return "transformer"
            case BlockTransformer() as net:
                return net.component
        return ""

    @property
    def components(self) -> tuple[str, ...]:
        """The canonical first parts of all modules outside text encoders; the network's own first."""
        return self.network.components if isinstance(self.network, BlockTransformer) else (self.component,)

    @property
    def down(self) -> tuple[int, ...]:
        """A UNet's transformer depth at each level on the way down; empty where there is no UNet."""
        return self.network.down if isinstance(self.network, UNet) else ()

    @property
    def up(self) -> tuple[int, ...]:
        """A UNet's transformer depth at each level on the way up; empty where there is no UNet."""
        return self.network.up if isinstance(self.network, UNet) else ()


@dataclass(frozen=True)
class Module:
    """One module that an adapter may change. ``kernel`` is 1 for all but convolutions wider than 1x1.

    ``attention`` marks those that plain LoRA training changes: attention, feed-forward and text layers.
    """

    name: str
    kind: ModuleKind
    kernel: int
    attention: bool

    @property
    def text(self) -> bool:
        """Whether it belongs to a text encoder."""
        return self.name.startswith("text_encoder")


UNKNOWN = Family("unknown", "a model that no table knows", "", "", None, ())

_SD1 = Family(
    "sd1",
    "Stable Diffusion 1",
    "sd_v1",
    "stable-diffusion-v1/lora",
    UNet((1, 1, 1, 0), 1, (0, 1, 1, 1), linear_projection=False, original_names=False),
    (TextEncoder("text_encoder", "lora_te", 12, "clip_l"),),
)
_SD2 = Family(
    "sd2",
    "Stable Diffusion 2",
    "sd_v2",
    "stable-diffusion-v2-512/lora",
    UNet((1, 1, 1, 0), 1, (0, 1, 1, 1), linear_projection=False, original_names=False),
    (TextEncoder("text_encoder", "lora_te", 23, "clip_h"),),
)
_SDXL = Family(
    "sdxl",
    "Stable Diffusion XL",
    "sdxl_base_v1-0",
    "stable-diffusion-xl-v1-base/lora",
    UNet((0, 2, 10), 10, (10, 2, 0), linear_projection=True, original_names=True),
    (
        TextEncoder("text_encoder", "lora_te1", 12, "clip_l"),
        TextEncoder("text_encoder_2", "lora_te2", 32, "clip_g", projection=True),
    ),
)
_SD3 = Family(
    "sd3",
    "Stable Diffusion 3",
    "sd3",
    "stable-diffusion-3-medium/lora",
    Transformer("sd3", double=38),
    (
        TextEncoder("text_encoder", "lora_te1", 12, "clip_l", projection=True),
        TextEncoder("text_encoder_2", "lora_te2", 32, "clip_g", projection=True),
        TextEncoder("text_encoder_3", "lora_te3", 24, "t5xxl", "t5"),
    ),
)
_FLUX = Family(
    "flux",
    "Flux.1",
    "flux1",
    "flux-1-dev/lora",
    Transformer("flux", double=19, single=38),
    (
        TextEncoder("text_encoder", "lora_te1", 12, "clip_l"),
        TextEncoder("text_encoder_2", "lora_te3", 24, "t5xxl", "t5", more_prefixes=("lora_te2",)),
    ),
)

_DECLARED = (
    Family("z-image", "Z-Image", "z_image", "Z-Image/lora", Z_IMAGE, ()),
    Family("flux2", "Flux.2", "flux_2", "Flux.2/lora", FLUX2, ()),
    Family(
        "qwen-image",
        "Qwen-Image",
        "qwen_image",
        "Qwen-Image/lora",
        QWEN_IMAGE,
        (TextEncoder("text_encoder", "lora_te", 28, "qwen25_7b", "llama"),),
    ),
    Family("wan", "Wan", "wan", "wan2.1/lora", WAN, ()),
    Family(
        "anima",
        "Anima",
        "anima",
        "anima/lora",
        ANIMA,
        (TextEncoder("text_encoder", "lora_te", 28, "qwen3_06b", "llama"),),
    ),
    Family("cosmos-predict2", "Cosmos-Predict2", "cosmos_predict2", "Cosmos-Predict2/lora", COSMOS, ()),
)

FAMILIES: dict[str, Family] = {family.name: family for family in (_SD1, _SD2, _SDXL, _SD3, _FLUX, *_DECLARED)}


def family_of(name: str) -> Family:
    """The family called ``name``; ``unknown`` is one, with no modules of its own.

    Raises:
        FormatError: if there is none of that name.
    """
    if name == UNKNOWN.name:
        return UNKNOWN
    if name not in FAMILIES:
        raise FormatError(f"unknown model family '{name}'{did_you_mean(name, FAMILIES)}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]
