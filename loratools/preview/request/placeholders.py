"""Place-holders of Prompt S/R, as guides write them: ``<lora:ink-NUM:STRENGTH>`` with ``s/r: NUM,000001,000002``.

The WebUI draws the first value too: a row of pictures without the LoRA, since no file is called ``ink-NUM``. Here a
first value that only marks the place is no value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from loratools.base.prompt.foreign_syntax import is_foreign
from loratools.blocks.webui_tag import take_tags
from loratools.errors import GridError
from loratools.preview.request.axes import Axis

_WORD = re.compile(r"[A-Z][A-Z_]+\d?|(?i:num|strength)")
_MARKED = re.compile(r"(?<![^\W_])(?:[A-Z]{2,}|num|strength)(?![^\W_])", re.ASCII)


def without_placeholders(
    axes: Sequence[Axis], prompts: Iterable[str], is_readable: Callable[[str], bool]
) -> list[Axis]:
    """``axes`` without the first values of Prompt S/R that are place-holders, which no picture is made of.

    A place-holder is a word in capitals inside a LoRA's tag that cannot be read with this word in it, as there is no
    LoRA, strength or vector of that name; or a wildcard such as ``__colour__``.

    Args:
        prompts: in which the texts are replaced.
        is_readable: whether a tag can be read, and its LoRA is there.
    Raises:
        GridError: for a place-holder that no value follows.
    """
    replacing = [axis for axis in axes if axis.kind == "s/r"]
    texts = [*prompts, *(str(value) for axis in axes if axis.kind in ("prompt", "s/r") for value in axis.values)]
    return [
        _without(axis) if axis in replacing and _marks(axis, replacing, texts, is_readable) else axis for axis in axes
    ]


def _marks(axis: Axis, replacing: Sequence[Axis], texts: Sequence[str], is_readable: Callable[[str], bool]) -> bool:
    """Whether the first value of ``axis`` only marks a place."""
    first = str(axis.values[0])
    if axis.placeholder:
        return False
    if is_foreign(first) and not take_tags(first)[1]:
        return True
    if not _WORD.fullmatch(first):
        return False
    tags = dict.fromkeys(tag for text in texts for tag in take_tags(text)[1] if first in tag)
    return any(not is_readable(_filled(tag, [other for other in replacing if other is not axis])) for tag in tags)


def _filled(tag: str, axes: Sequence[Axis]) -> str:
    """``tag`` with the second value of each of ``axes`` in the place of its first."""
    for axis in axes:
        if len(axis.values) > 1:
            tag = tag.replace(axis.search, str(axis.values[1]))
    return tag


def _without(axis: Axis) -> Axis:
    first, *values = axis.values
    if not values:
        raise GridError(
            f"axis {axis.slot} (Prompt S/R): '{first}' only marks the place, and no value follows; write "
            f"{first},VALUE,VALUE",
            axis=axis.slot,
        )
    return replace(axis, values=tuple(values), placeholder=str(first))


def has_placeholder(text: str, axes: Iterable[Axis]) -> bool:
    """Whether ``text`` holds what one of ``axes`` will replace in any case."""
    return any(axis.placeholder in text for axis in axes if axis.placeholder)


def hint(text: str) -> str:
    """What to do if a word in ``text``, a name or a strength that is none, was meant to mark a place; may be empty."""
    words = [word for word in _MARKED.findall(text) if _WORD.fullmatch(word)]
    return f"; if {words[0]} marks a place, an axis fills it: `x=s/r: {words[0]},VALUE,VALUE`" if words else ""
