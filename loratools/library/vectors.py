"""Block vectors: read, written in another order or for another tool, and explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from loratools.blocks import export
from loratools.blocks.explain import BlockRow, BlockShare
from loratools.blocks.explain import explain as explain_rows
from loratools.blocks.export import scheme_named
from loratools.blocks.inspire import find_order, inspire_numbers
from loratools.blocks.parse import parse_vector as parse_text
from loratools.blocks.presets import load_presets
from loratools.blocks.vector import BlockVector
from loratools.library.options import PresetSource, StrPath, one_of

VectorLike = str | BlockVector  # a vector, or the text of one
Tool = Literal["lbw", "prompt", "inspire", "diffusers"]


def parse_vector(text: str, *, family: str | None = None, presets: PresetSource | None = None) -> BlockVector:
    """Read a block vector: a weight for each block, by name.

    Args:
        text: a preset such as ``GP1``, numbers, names and groups with numbers (``IN=0.5,OUT04-OUT08=0.3,TE=0``), a
            preset with changes (``GP1,OUT03=0.8``), or an expression such as ``mix(GP1,ALL,0.5)``.
        family: the model family that it is for, such as ``sd1``, which checks its length; None takes any.
        presets: named vectors beside the shipped ones: a file, or ``{"MINE": [1, 0.5, ...]}``.
    Raises:
        BlockError: for an unknown preset or block, or a length that no model has; it names the nearest valid word.
    """
    return parse_text(text, load_presets(_source(presets)), family)


def convert_vector(
    vector: VectorLike,
    to: str | int,
    *,
    missing: float | None = None,
    drop: bool = False,
    presets: PresetSource | None = None,
) -> list[float]:
    """The numbers of a vector in another order of blocks.

    Args:
        to: 12, 17, 20, 26 or 61 blocks, a scheme's name such as ``sd1-26``, or ``inspire-20`` and the like.
        missing: 1 or 0, the weight of blocks that the vector does not list; None makes them an error.
        drop: leave out weights that the new order has no place for, instead of refusing.
        presets: as for :func:`parse_vector`.
    Raises:
        BlockError: for an order that there is not, or one that the vector does not fit.
    """
    whole = _vector(vector, presets)
    name = str(to)
    order = find_order(name) if name.lower().startswith("inspire") else None
    scheme = scheme_named(order.scheme if order else name, whole.scheme.family)
    if order is None or missing is not None:
        whole = whole.converted(scheme, None if missing is None else float(missing), drop=drop)
    return export.numbers_of(whole) if order is None else inspire_numbers(whole, order, drop=drop)


def export_vector(
    vector: VectorLike, tool: Tool, *, name: str = "MINE", presets: PresetSource | None = None
) -> str | dict[str, Any]:
    """A vector as another tool takes it.

    Args:
        tool: ``lbw`` is a line of LoRA Block Weight's ``lbwpresets.txt``, ``prompt`` a tag ``<lora:NAME:1:lbw=...>``,
            ``inspire`` numbers in Inspire's order, ``diffusers`` what ``set_adapters`` takes as weights.
        name: the preset's or the LoRA's, for ``lbw`` and ``prompt``.
        presets: as for :func:`parse_vector`.
    Raises:
        BlockError: if the tool has no place for the vector.
    """
    whole = _vector(vector, presets)
    match one_of(tool, get_args(Tool), "tool"):
        case "lbw":
            return export.as_lbw(whole, name)
        case "prompt":
            return export.as_prompt(whole, name)
        case "inspire":
            return export.as_inspire(whole)
    return export.as_diffusers(whole)


def explain_vector(
    vector: VectorLike, *, lora: StrPath | None = None, presets: PresetSource | None = None
) -> list[BlockRow]:
    """A vector block by block: its weight, where the block is, and what it is known to govern.

    Args:
        lora: a LoRA file, whose share of each block, before and after the vector, is told too.
        presets: as for :func:`parse_vector`.
    Raises:
        BlockError: for a vector that cannot be read, or does not fit the LoRA.
        FileError, FormatError: for a ``lora`` that is none.
    """
    if lora is None:
        return explain_rows(_vector(vector, presets))
    from loratools.library.files import read
    from loratools.ops.analysis.block_shares import parts_of

    adapter = read(lora)
    whole = _vector(vector, presets, adapter.family)
    parts: Mapping[str, BlockShare] = parts_of(adapter, whole)
    return explain_rows(whole, parts)


def _source(presets: PresetSource | None) -> Mapping[str, Any] | str | None:
    return presets if presets is None or isinstance(presets, Mapping) else str(presets)


def _vector(vector: VectorLike, presets: PresetSource | None, family: str | None = None) -> BlockVector:
    return vector if isinstance(vector, BlockVector) else parse_vector(vector, family=family, presets=presets)
