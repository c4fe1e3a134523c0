"""The WebUI's X/Y/Z plot, as a grid's text tells of it, as axes of a grid step."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loratools.errors import GridError, LoratoolsError

SLOTS = ("x", "y", "z")
_KINDS: Mapping[str, str] = {  # the plot's types -> kinds of axes
    "prompt s/r": "s/r",
    "seed": "seed",
    "steps": "steps",
    "cfg scale": "cfg",
    "sampler": "sampler",
    "schedule type": "sampler",
    "checkpoint name": "base",
    "clip skip": "clip skip",
    "size": "size",
}
_TEXTS = ("s/r", "sampler", "base", "size")
_HASH = re.compile(r"\s*\[[0-9a-fA-F]{8,64}\]\s*\Z")
_KEYS = re.compile(r"(?:Fixed )?[XYZ] (?:Type|Values)")
ReadSampler = Callable[[str, str | None], str]  # sampler, schedule type (None: the picture's own) -> our name


@dataclass(frozen=True)
class Plot:
    """The axes of a plot: slot -> kind -> values as a grid step takes them; ``notes`` say what is left out."""

    axes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of its axes."""
        return frozenset(kind for axis in self.axes.values() for kind in axis)

    @property
    def replacements(self) -> list[list[str]]:
        """The values of each Prompt S/R."""
        return [axis["s/r"] for axis in self.axes.values() if "s/r" in axis]


def is_plot_key(key: str, value: str) -> bool:
    """Whether a pair of the parameters is of the plot alone."""
    return bool(_KEYS.fullmatch(key)) or (key == "Script" and value.startswith(("X/Y/Z", "X/Y")))


def read_plot(parameters: Mapping[str, str], sampler: ReadSampler) -> Plot:
    """The axes that the parameters tell of.

    Args:
        sampler: reads the WebUI's names of samplers and schedule types.
    """
    axes: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for slot in SLOTS:
        title = parameters.get(f"{slot.upper()} Type", "")
        # seeds of -1 are drawn once and written down apart
        text = parameters.get(f"Fixed {slot.upper()} Values") or parameters.get(f"{slot.upper()} Values", "")
        if not title or title.lower() == "nothing":
            continue
        try:
            kind, values = _axis(title, text, sampler, notes)
            if kind != "s/r" and any(kind in axis for axis in axes.values()):
                raise GridError(f"another axis varies the {kind} already")
            _check(kind, values, slot)
        except LoratoolsError as error:
            notes.append(f"the plot's axis {slot.upper()}, '{title}: {text}', is left out: {error}")
        else:
            axes[slot] = {kind: values}
    return Plot(axes, tuple(notes))


def _axis(title: str, text: str, sampler: ReadSampler, notes: list[str]) -> tuple[str, Any]:
    kind = _KINDS.get(title.lower())
    if kind is None:
        raise GridError("no axis of a grid varies that")
    if kind not in _TEXTS:
        return kind, text
    values = _listed(text)
    if title.lower() == "checkpoint name":
        return kind, [_HASH.sub("", value) for value in values]
    if kind == "sampler":
        return kind, _samplers(values, sampler, is_schedule=title.lower() == "schedule type", notes=notes)
    return kind, values


def _listed(text: str) -> list[str]:
    """Values parted by commas as the WebUI reads them: as a line of CSV, whose quotes keep commas."""
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return list(dict.fromkeys(value.strip() for row in rows for value in row if value.strip()))


def _samplers(values: Iterable[str], read: ReadSampler, *, is_schedule: bool, notes: list[str]) -> list[str]:
    """The names of samplers; those that are none here are left out, with a note."""
    names = []
    for value in values:
        try:
            names.append(read("", value) if is_schedule else read(value, None))
        except LoratoolsError as error:
            notes.append(f"the plot's '{value}' is left out: {error}")
    return list(dict.fromkeys(names))


def _check(kind: str, values: str | Sequence[str], slot: str) -> None:
    """Raise GridError for values that no axis of this kind has."""
    from loratools.preview.request.axes import parse_axis
    from loratools.recipe.schema.fields import axis_text

    parse_axis(str(axis_text({kind: values})), slot)
