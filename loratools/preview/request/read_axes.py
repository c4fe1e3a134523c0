"""A grid's axes from what a person wrote: names become rows, runs their epochs, files of prompts their lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import GridError, LoratoolsError
from loratools.preview.request.read_rows import build_rows, read_prompts

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.ops.merging.terms import Term
    from loratools.preview.request.arrange import Arrangement
    from loratools.preview.request.axes import Axis
    from loratools.preview.request.rows import GridRow
    from loratools.preview.request.setting import Setting

USUAL_WEIGHTS = "0:1:0.25"


@dataclass(frozen=True)
class NameLookup:
    """How names are found and vectors are read.

    Args:
        lookup: name -> a LoRA file or a training run.
        find: name -> a file of prompts, if it is one.
        presets, missing, best: as for :func:`loratools.ops.merging.terms.resolve_terms`.
    """

    lookup: Callable[[str], Path]
    find: Callable[[str], Path | None]
    presets: Presets
    missing: float | None = None
    best: Callable[[Path], int] | None = None

    def rows(self, texts: Sequence[str]) -> list[GridRow]:
        """The rows that merge strings, files and runs mean, opened."""
        return build_rows(texts, self.lookup, presets=self.presets, missing=self.missing, best=self.best)

    def is_run(self, ref: str) -> bool:
        """Whether ``ref`` is a training run."""
        from loratools.adapter.files.epoch_files import is_run

        return is_run(self.lookup(ref))

    def terms(self, text: str) -> list[Term]:
        """A merge string's terms, their files opened."""
        from loratools.ops.merging.merge_string import parse_merge_string
        from loratools.ops.merging.terms import resolve_terms

        return resolve_terms(
            parse_merge_string(text), self.lookup, presets=self.presets, missing=self.missing, best=self.best
        )


@dataclass(frozen=True)
class GridRequest:
    """A grid as a person asks for it.

    Args:
        rows: LoRA files, runs and merge strings.
        axes: ``x``, ``y``, ``z`` -> ``KIND: VALUES``.
        weights: numbers; None is the usual ones, or none where there are axes.
        prompts: prompts, or files of them.
        seeds: None is seed 1, or none where an axis has seeds.
        given: names of other settings (``cfg``, ``size`` ...) that were given, which no axis may vary too.
        base: whether the base alone stands beside the others.
        most: pictures that are allowed.
    """

    rows: Sequence[str] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    weights: str | None = None
    prompts: Sequence[str] = ()
    seeds: Sequence[int] | None = None
    given: frozenset[str] = frozenset()
    base: bool = True
    most: int | None = None


def build_arrangement(asked: GridRequest, start: Setting, names: NameLookup) -> Arrangement:
    """Every axis in its place, its rows opened; see :func:`loratools.preview.request.arrange.arrange`.

    Args:
        start: what no axis changes; its prompt and seed are not read.
    Raises:
        LoratoolsError: for an axis that cannot be read or says what was said before, or a name that is nothing.
    """
    from loratools.preview.request.arrange import MOST, arrange
    from loratools.preview.request.numbers import parse_weights
    from loratools.preview.request.prompt_loras import has_tag

    axes = read_axes(asked)
    prompts = read_prompts(asked.prompts, names.find) if asked.prompts else []
    if not asked.rows and not axes and not any(has_tag(prompt) for prompt in prompts):
        raise GridError(
            "there is no row; give at least one LoRA file, stack or run, <lora:NAME:1> in the prompt, or "
            'an axis such as --x "adapter: a.safetensors; b.safetensors"'
        )
    weights = asked.weights or (None if axes else USUAL_WEIGHTS)
    columns = parse_weights(weights) if weights else None
    texts = list(asked.rows)
    found: list[Axis] = []
    for axis in axes:
        if axis.kind == "epoch":
            found.append(_epochs(axis, texts, names))
            texts = []
        elif axis.kind == "adapter":
            found.append(replace(axis, values=tuple(names.rows([str(value) for value in axis.values]))))
        else:
            found.append(axis if axis.kind != "prompt" else _prompts(axis, names))
    rows = names.rows(texts)
    if len(prompts) == 1 or not any(axis.kind == "prompt" for axis in found):
        start = replace(start, prompt=prompts[0] if prompts else "")
    return arrange(
        found,
        start,
        rows=rows,
        weights=columns,
        prompts=prompts,
        seeds=asked.seeds or (1,),
        base=asked.base,
        most=asked.most or MOST,
    )


def read_axes(asked: GridRequest) -> list[Axis]:
    """The axes by value, before any name is looked up.

    Raises:
        GridError: for one that cannot be read, or varies what was given as well.
    """
    from loratools.preview.request.axes import parse_axis

    axes = [parse_axis(text, slot) for slot, text in asked.axes.items()]
    for axis in axes:
        check_given(axis, asked.given, asked.seeds is not None)
    return axes


def check_given(axis: Axis, given: Set[str], seeded: bool) -> None:
    """Raise GridError if ``axis`` varies one of the settings that are given, or the seeds where those are."""
    if (axis.kind in given or (axis.kind == "seed" and seeded)) and not axis.term:
        raise GridError(f"the {axis.kind} is given beside the axis {axis.slot}, which varies it; give it once")


def models_of(arrangement: Arrangement, base: str | None) -> list[str]:
    """The names of the base models that are needed: those of an axis, or ``base``.

    Raises:
        GridError: if there is none.
    """
    axis = next((axis for axis in arrangement.axes if axis.kind == "base"), None)
    if axis is None and base is None:
        raise GridError("there is no base model; name one with --base (pocket is the one that ships)")
    return [str(value) for value in axis.values] if axis is not None else [str(base)]


def _prompts(axis: Axis, names: NameLookup) -> Axis:
    try:
        read = read_prompts([str(value) for value in axis.values], names.find)
    except LoratoolsError as error:
        raise GridError(f"axis {axis.slot}: {error}") from error
    return replace(axis, values=tuple(dict.fromkeys(read)))


def _epochs(axis: Axis, rows: Sequence[str], names: NameLookup) -> Axis:
    """The one row with the epochs of its run in its place, as an axis of rows."""
    from loratools.ops.merging.merge_string import parse_merge_string

    if len(rows) != 1:
        raise GridError(f"axis {axis.slot}: epoch needs one row with a training run in it, and there are {len(rows)}")
    specs = parse_merge_string(rows[0])
    runs = [n for n, spec in enumerate(specs) if names.is_run(spec.ref) and axis.term in ("", spec.ref)]
    if len(runs) != 1:
        told = ", ".join(spec.ref for spec in specs)
        raise GridError(
            f"axis {axis.slot}: epoch needs one training run in '{rows[0]}', and {len(runs)} of {told} are "
            'runs; say which one with "epoch of NAME: 1-8"'
        )
    texts = []
    for value in axis.values:
        changed = [replace(spec, epoch=str(value)) if n == runs[0] else spec for n, spec in enumerate(specs)]
        texts.append(",".join(spec.text() for spec in changed))
    try:
        return replace(axis, kind="adapter", term="", values=tuple(names.rows(texts)))
    except LoratoolsError as error:
        raise GridError(f"axis {axis.slot}, epoch: {error}") from error
