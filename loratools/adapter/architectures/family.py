"""What sets a model family apart: how it is called, what its network is, and which text encoders it has.

The families themselves are :mod:`.known_families`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loratools.adapter.architectures.block_transformer import BlockTransformer

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
class Model:
    """A model that LoRA files' headers name.

    Args:
        name: the family's, of a model that has a table of its own; else a name for comparing.
        title: what messages call it.
        words: how headers' entries begin, in lower case without separators.
    """

    name: str
    title: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """What sets one model family apart.

    Args:
        name: how the command line and reports call it.
        title: what messages call it.
        base_model_version: what is written as ``ss_base_model_version``.
        architecture: what is written as ``modelspec.architecture``.
        network: None where nothing is known of its modules.
        words: how headers' entries that mean it begin, in lower case without separators.
        sizes: models of it that headers tell apart, such as Flux.2's, whose files do not fit one another.
    """

    name: str
    title: str
    base_model_version: str
    architecture: str
    network: UNet | Transformer | BlockTransformer | None
    text: tuple[TextEncoder, ...] = ()
    words: tuple[str, ...] = ()
    sizes: tuple[Model, ...] = ()

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that headers name: the family's own, and its sizes."""
        return (Model(self.name, self.title, self.words), *self.sizes)

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


UNKNOWN = Family("unknown", "a model that no table knows", "", "", None)
