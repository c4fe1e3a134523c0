"""A grid as a person asks for it, on the command line or in a recipe: everything that decides what is rendered, how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.base.sampling.noise_kinds import OWN
from loratools.preview.request.numbers import parse_weights
from loratools.preview.request.options import EngineOptions, ScoreRequest, SheetOptions

if TYPE_CHECKING:
    from loratools.preview.request.axes import Axis
    from loratools.preview.request.row_text import RowText

USUAL_WEIGHTS = "0:1:0.25"


@dataclass(frozen=True)
class SamplingRequest:
    """How pictures are sampled where no axis says it; None takes the base's default.

    Args:
        negative: the negative prompt; None is an empty one.
        size: (height, width) in pixels.
        clip_skip: 1, which None means too, is the text encoder's last layer.
        noise: a kind of :mod:`loratools.base.sampling.noise`.
        frames: the length of a video base's videos, of which the middle frame is shown.
    """

    negative: str | None = None
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    size: tuple[int, int] | None = None
    clip_skip: int | None = None
    noise: str = OWN
    frames: int | None = None

    def over(self, other: SamplingRequest) -> SamplingRequest:
        """What is asked for here, and by ``other`` where nothing is."""
        plain = SamplingRequest()
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(other, **{name: value for name, value in own.items() if value != getattr(plain, name)})

    def facts(self) -> dict[str, Any]:
        """By name, without the number of frames where none is asked for: keys of searches are made of it."""
        return {name: value for name, value in asdict(self).items() if name != "frames" or value is not None}

    @property
    def fixed_kinds(self) -> frozenset[str]:
        """The kinds of axes that may not be used, since the request gives one value for what they vary."""
        values = {
            "negative": self.negative,
            "steps": self.steps,
            "cfg": self.cfg,
            "sampler": self.sampler,
            "size": self.size,
            "clip skip": self.clip_skip,
        }
        return frozenset(kind for kind, value in values.items() if value is not None)


@dataclass(frozen=True)
class ModelRequest:
    """Which base model pictures are made with, how it is loaded, and what is added to it beside LoRAs.

    Args:
        base: a name for :func:`loratools.base.any_base.load_any_base`: a Diffusers folder, a ``.safetensors`` or
            ``.ckpt`` file, a hub id, or ``pocket``; None where an axis names base models.
        default: whether an axis of base models replaces ``base``, as it does a recipe's own; where it does not, a
            request with both is an error.
        vae: decodes pictures in the place of the base's own.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``fp32``, ``fp16`` or ``bf16``; the device's usual one where None.
        embeddings: a folder of textual-inversion embeddings that prompts may name.
    """

    base: str | None = None
    default: bool = False
    vae: Path | None = None
    device: str = "auto"
    dtype: str | None = None
    embeddings: Path | None = None


@dataclass(frozen=True)
class GridRequest:
    """A grid as a person asks for it.

    Args:
        rows: LoRA files, runs and merge strings.
        axes: what differs across, down and between tables, one axis at each of ``x``, ``y``, ``z``.
        weights: numbers; None is the usual ones, or none where there are axes.
        prompts: prompts, or files of them.
        seeds: None is seed 1, or none where an axis has seeds.
        base_alone: whether the base alone stands beside the others.
        most: pictures that are allowed.
        title: over the sheet; made of the settings where it is empty.
        score: what pictures are scored by; None does not score them.
    """

    rows: Sequence[RowText] = ()
    axes: Sequence[Axis] = ()
    weights: str | None = None
    prompts: Sequence[str] = ()
    seeds: Sequence[int] | None = None
    sampling: SamplingRequest = field(default_factory=SamplingRequest)
    model: ModelRequest = field(default_factory=ModelRequest)
    base_alone: bool = True
    most: int | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    title: str = ""
    sheet: SheetOptions = field(default_factory=SheetOptions)
    score: ScoreRequest | None = None

    @property
    def fixed_kinds(self) -> frozenset[str]:
        """The kinds of axes that may not be used, since the request gives one value for what they vary."""
        kinds = set(self.sampling.fixed_kinds)
        if self.model.base is not None and not self.model.default:
            kinds.add("base")
        return frozenset(kinds | ({"seed"} if self.seeds is not None else set()))

    def columns(self) -> tuple[float, ...] | None:
        """The weights as numbers; None where axes stand in their place.

        Raises:
            GridError: if they cannot be read.
        """
        text = self.weights or (None if self.axes else USUAL_WEIGHTS)
        return parse_weights(text) if text else None
