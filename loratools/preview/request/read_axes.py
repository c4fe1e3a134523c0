"""A grid's axes from what a person wrote: names become rows, runs their epochs, files of prompts their lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING

from loratools.errors import GridError, LoratoolsError
from loratools.preview.request.read_prompts import read_prompts
from loratools.preview.request.row_text import RowText

if TYPE_CHECKING:
    from loratools.preview.request.arrange import Arrangement
    from loratools.preview.request.axes import Axis
    from loratools.preview.request.read_rows import NameLookup
    from loratools.preview.request.request import GridRequest
    from loratools.preview.request.setting import CellSetting


def build_arrangement(request: GridRequest, names: NameLookup) -> Arrangement:
    """Every axis in its place, its rows opened; see :func:`loratools.preview.request.arrange.arrange`.

    Raises:
        LoratoolsError: for an axis that varies what is fixed or varied already, or a name that no file or run has.
    """
    from loratools.blocks.webui_tag import has_tag
    from loratools.preview.request.arrange import MOST, arrange
    from loratools.preview.request.placeholders import without_placeholders

    for axis in request.axes:
        check_fixed(axis, request.fixed_kinds)
    prompts = read_prompts(request.prompts, names.find) if request.prompts else []
    if not request.rows and not request.axes and not any(has_tag(prompt) for prompt in prompts):
        _check_texts(prompts)
        raise GridError(
            "there is no row; give at least one LoRA file, stack or run, <lora:NAME:1> in the prompt, or "
            "an axis such as `x=adapter: a.safetensors; b.safetensors`"
        )
    columns = request.columns()
    texts = [row for text in request.rows for row in names.by_run(text)]
    axes: list[Axis] = []
    for axis in request.axes:
        if axis.kind == "epoch":
            axes.append(_epochs(axis, texts, names))
            texts = []
        elif axis.kind == "adapter":
            values = [row for value in axis.values for row in names.by_run(RowText.parse(str(value)))]
            axes.append(replace(axis, values=tuple(names.rows(values))))
        else:
            axes.append(axis if axis.kind != "prompt" else _prompts(axis, names))
    written = [*prompts, *([request.sampling.negative] if request.sampling.negative else [])]
    axes = without_placeholders(axes, written, names.is_readable)
    rows = names.rows(texts)
    start = _start(request)
    if len(prompts) == 1 or not any(axis.kind == "prompt" for axis in axes):
        start = replace(start, prompt=prompts[0] if prompts else "")
    arrangement = arrange(
        axes,
        start,
        rows=rows,
        weights=columns,
        prompts=prompts,
        seeds=request.seeds or (1,),
        base=request.base_alone,
        most=request.most or MOST,
    )
    _check_prompts(arrangement)
    return arrangement


def _check_prompts(arrangement: Arrangement) -> None:
    """Raise PromptError for a prompt with what nothing carries out, such as a wildcard; GridError for a text that is to
    be replaced and does not stand there."""
    _check_texts(text for _, setting in arrangement.places() for text in (setting.prompt, setting.negative))


def _check_texts(texts: Iterable[str]) -> None:
    from loratools.base.prompt.foreign_syntax import check_prompt
    from loratools.blocks.tokens import clip
    from loratools.blocks.webui_tag import take_tags

    for text in dict.fromkeys(texts):
        check_prompt(take_tags(text)[0], f"the prompt '{clip(text)}'")


def _start(request: GridRequest) -> CellSetting:
    """What no axis changes; prompt and seed are filled in later."""
    from loratools.preview.request.setting import CellSetting

    return CellSetting.of_sampling(request.sampling)


def check_fixed(axis: Axis, fixed_kinds: Set[str]) -> None:
    """Raise GridError if ``axis`` varies what the request gives one value for, such as the steps."""
    if axis.kind in fixed_kinds and not axis.term:
        raise GridError(
            f"the {axis.kind} is given beside the axis {axis.slot}, which varies it; give it once", axis=axis.slot
        )


def models_of(arrangement: Arrangement, base: str | None) -> list[str]:
    """The names of the base models that are needed: those of an axis, or ``base``.

    Raises:
        GridError: if there is none.
    """
    axis = next((axis for axis in arrangement.axes if axis.kind == "base"), None)
    if axis is None and base is None:
        raise GridError("there is no base model; name one with `base=` (pocket is the one that ships)")
    return [str(value) for value in axis.values] if axis is not None else [str(base)]


def _prompts(axis: Axis, names: NameLookup) -> Axis:
    try:
        read = read_prompts([str(value) for value in axis.values], names.find)
    except LoratoolsError as error:
        raise GridError(f"axis {axis.slot}: {error}", axis=axis.slot) from error
    return replace(axis, values=tuple(dict.fromkeys(read)))


def _epochs(axis: Axis, rows: Sequence[RowText], names: NameLookup) -> Axis:
    """The one row with the epochs of its run in its place, as an axis of rows."""
    if len(rows) != 1:
        raise GridError(
            f"axis {axis.slot}: epoch needs one row with a training run in it, and there are {len(rows)}",
            axis=axis.slot,
        )
    specs = rows[0].specs
    runs = [n for n, spec in enumerate(specs) if names.is_run(spec.ref) and axis.term in ("", spec.ref)]
    if len(runs) != 1:
        refs = ", ".join(spec.ref for spec in specs)
        raise GridError(
            f"axis {axis.slot}: epoch needs one training run in '{rows[0].text}', and {len(runs)} of {refs} are "
            'runs; say which one with "epoch of NAME: 1-8"',
            axis=axis.slot,
        )
    texts = [
        RowText.of_specs([replace(spec, epoch=str(value)) if n == runs[0] else spec for n, spec in enumerate(specs)])
        for value in axis.values
    ]
    try:
        return replace(axis, kind="adapter", term="", values=tuple(names.rows(texts)))
    except LoratoolsError as error:
        raise GridError(f"axis {axis.slot}, epoch: {error}", axis=axis.slot) from error
