"""What one picture of a grid is asked to be, and how the value of an axis changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from loratools.base.infotext import number
from loratools.base.sampling.noise_kinds import OWN
from loratools.errors import GridError, did_you_mean
from loratools.preview.request.axes import Axis, Value
from loratools.preview.request.placeholders import hint
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow


@dataclass(frozen=True)
class RowEdit:
    """A change of a row: its ``what`` (``weight``, ``vector``, ``block``, ``te``, ``unet``) becomes ``value``.

    ``term`` names the one LoRA of the stack that is meant (empty: all), ``block`` the block or group of blocks.
    """

    what: str
    value: float | str
    term: str = ""
    block: str = ""

    def text(self) -> str:
        """For a label: ``GP1``, ``OUT04=0.5``, ``te=0.5``, ``weight of BASE=-1``."""
        value = self.value if isinstance(self.value, str) else number(self.value)
        of = f" of {self.term}" if self.term else ""
        return f"{value}{of}" if self.what == "vector" else f"{self.block or self.what}{of}={value}"


@dataclass(frozen=True)
class CellSetting:
    """What is asked of one picture, its LoRAs not opened yet; None takes the base's default.

    Args:
        row: what is added to the base, times ``weight``; nothing is where ``weight`` is 0.
        edits: changes of ``row`` that axes ask for.
        size: (height, width) in pixels.
        base: the name of a base model where a grid has several.
    """

    prompt: str
    seed: int
    negative: str = ""
    row: GridRow | None = None
    weight: float = 1.0
    edits: tuple[RowEdit, ...] = ()
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    size: tuple[int, int] | None = None
    clip_skip: int = 1
    base: str = ""
    noise: str = OWN
    frames: int | None = None

    @staticmethod
    def of_sampling(sampling: SamplingRequest) -> CellSetting:
        """What is sampled so, of no prompt and seed yet."""
        return CellSetting(
            "",
            0,
            sampling.negative or "",
            steps=sampling.steps,
            cfg=sampling.cfg,
            sampler=sampling.sampler,
            size=sampling.size,
            clip_skip=1 if sampling.clip_skip is None else sampling.clip_skip,
            noise=sampling.noise,
            frames=sampling.frames,
        )


def applied(start: CellSetting, axes: Sequence[Axis], at: Sequence[int]) -> CellSetting:
    """``start`` with the value at ``at`` of every axis; texts are replaced last, in the order of the axes.

    Raises:
        GridError: if a text that is to be replaced does not stand in the prompts.
    """
    setting = start
    places = sorted(zip(axes, at, strict=True), key=lambda place: place[0].kind == "s/r")
    for axis, index in places:
        setting = _with(setting, axis, axis.values[index])
    return setting


def _with(setting: CellSetting, axis: Axis, value: Value) -> CellSetting:
    if value is None:
        shown = next(value for value in axis.values if value is not None)
        return replace(_with(setting, axis, shown) if axis.placeholder else setting, weight=0.0)
    match axis.kind:
        case "adapter":
            return replace(setting, row=cast(GridRow, value))
        case "weight" if not axis.term:
            return replace(setting, weight=setting.weight * cast(float, value))
        case "weight" | "vector" | "block" | "te" | "unet":
            edit = RowEdit(axis.kind, cast("float | str", value), axis.term, axis.block)
            return replace(setting, edits=(*setting.edits, edit))
        case "s/r":
            texts = replace_all(axis.search, str(value), setting.prompt, setting.negative, axis.slot)
            return replace(setting, prompt=texts[0], negative=texts[1])
    changes: dict[str, Any] = {axis.kind.replace(" ", "_"): value}
    return replace(setting, **changes)


def replace_all(search: str, other: str, prompt: str, negative: str, axis: str) -> tuple[str, str]:
    """``other`` wherever ``search`` stands, in both prompts, as the WebUI does; ``axis`` is the slot, for the error.

    Raises:
        GridError: if it stands in neither; the nearest word of the prompt is named.
    """
    if search not in prompt and search not in negative:
        words = [word.strip() for word in f"{prompt},{negative}".split(",") if word.strip()]
        raise GridError(
            f"axis {axis} (Prompt S/R): '{search}' stands neither in the prompt '{prompt}' nor in the negative prompt"
            f"{did_you_mean(search, words)}; its first value is the text that the others replace{hint(prompt)}",
            axis=axis,
        )
    return prompt.replace(search, other), negative.replace(search, other)
