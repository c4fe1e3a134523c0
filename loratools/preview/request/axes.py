"""Axes of a grid from text such as ``weight: 0-1 (+0.25)`` or ``block OUT04: 0, 0.5, 1``.

=============  =========================================================  =============================================
kind           what differs from value to value                           values
=============  =========================================================  =============================================
adapter        the row: a file, a run (all its epochs), a merge string    ``runs/ink; "A:1:GP1,B:-1:GP2"``
epoch          the epoch of the run among the rows                        ``2,4,8`` or ``1-8`` or ``2, best``
weight         the whole row, or one term of it: ``weight of NAME``       numbers
vector         a block vector over the row, or over ``of NAME``           ``GP1; ALL; "1,0.5,..."``
block NAME     the weight of one block, or of a group such as ``IN``      numbers
te, unet       the strength of the text encoders, of the UNet             numbers
prompt         the prompt                                                 ``a cat, red; a dog`` or a .txt file
negative       the negative prompt                                        ``lowres; lowres, bad hands``
s/r            words of both prompts (Prompt S/R)                         ``red hair, blue hair, "long, green hair"``
               ``<lora:ink-NUM:STRENGTH>`` in a prompt                    ``NUM, 000001, 000002``; ``STRENGTH, 0.5, 1``
seed           the starting noise                                         whole numbers
cfg, steps     the CFG scale, the sampler steps                           numbers
sampler        the WebUI's sampler and schedule type                      ``Euler a, DPM++ 2M Karras``
size           width x height                                             ``512x768, 768x512``
clip skip      the text encoder's layer                                   whole numbers
base           the base model                                             files, folders, hub ids
=============  =========================================================  =============================================

Numbers: ``0:1:0.25``, ``0-1 (+0.25)``, ``0-1 [5]``, lists, all mixed. Texts are parted by ``;``, or by commas where
none stands (never in prompts); a text in double quotes keeps its separators.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from loratools.base.infotext import number
from loratools.base.sampling.samplers import find_sampler
from loratools.errors import GridError, LoratoolsError, did_you_mean
from loratools.preview.request.numbers import check_seeds, parse_integers, parse_numbers, parse_size
from loratools.preview.request.rows import GridRow

Value: TypeAlias = float | int | str | tuple[int, int] | GridRow | None  # None: the base alone


@dataclass(frozen=True)
class Axis:
    """One way in which pictures differ.

    Args:
        kind: a name of :data:`AXIS_KINDS`.
        values: of a type that goes with the kind; None is the base alone, beside which the others are seen.
        term: the name of the one LoRA in a stack that is meant, for kinds that change a row; empty for all.
        block: the block or group of blocks, for the kind ``block``.
        slot: where it was asked for: ``x``, ``y``, ``z``, or empty for what fills up each cell (prompts, seeds).
        placeholder: for the kind ``s/r``, the text that the values replace where it is none of them: ``NUM``.
    """

    kind: str
    values: tuple[Value, ...]
    term: str = ""
    block: str = ""
    slot: str = ""
    placeholder: str = ""

    @property
    def search(self) -> str:
        """The text of both prompts that the values of Prompt S/R replace: the first of them, or the place-holder."""
        return self.placeholder or str(next(value for value in self.values if value is not None))

    @property
    def title(self) -> str:
        """What stands before its values."""
        name = self.block or AXIS_KINDS[self.kind].title
        return f"{name} of {self.term}" if self.term else name

    def label(self, index: int) -> str:
        """One value as text."""
        value = self.values[index]
        match value:
            case None:
                return "base"
            case GridRow():
                return value.label
            case (height, width):
                return f"{width}x{height}"
            case str():
                return Path(value).stem if self.kind == "base" and Path(value).exists() else value
        if self.kind == "weight" and not self.term and value == 0:
            return "base"
        return number(float(value)) if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class AxisKind:
    """A kind of axis: its title, how its values are read, and whether it changes what is added to the base."""

    title: str
    read: Callable[[str], tuple[Value, ...]]
    changes_lora: bool = False


def split_texts(text: str, *, commas: bool = True, empty: bool = False) -> list[str]:
    """The texts of a list, trimmed: parted by ``;`` where one stands outside quotes, else by commas as in a CSV line.

    A text in double quotes keeps its separators (``"a, b", c`` are two); ``""`` inside it is one quote, as in the
    WebUI. A quoted piece of a longer text (``A:1,"my file":-1``) keeps its quotes.

    Args:
        commas: whether a comma parts texts; prompts hold commas of their own.
        empty: whether nothing between two separators is a text too, as ``""`` is in any case; else it is passed over.
    Raises:
        GridError: if a quote stays open.
    """
    semicolons = _split(text, ";")
    pieces = semicolons if len(semicolons) > 1 or not commas else _split(text, ",")
    return [_unquoted(item.strip()) for item in pieces if empty or item.strip()]


def _split(text: str, separator: str) -> list[str]:
    pieces, quoted, start = [], False, 0
    for place, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == separator and not quoted:
            pieces.append(text[start:place])
            start = place + 1
    if quoted:
        raise GridError(f"a double quote in '{text}' is not closed; write \"a, b\", c")
    return [*pieces, text[start:]]


def _unquoted(item: str) -> str:
    if len(item) < 2 or not (item.startswith('"') and item.endswith('"')):
        return item
    fields = next(csv.reader([item], skipinitialspace=True), [])
    return fields[0] if len(fields) == 1 else item


def _texts(text: str) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(split_texts(text)))


def _prompts(text: str) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(split_texts(text, commas=False)))


def _negatives(text: str) -> tuple[Value, ...]:
    """Prompts, of which one may be empty; a separator at the end begins none."""
    texts = split_texts(text, commas=False, empty=True)
    return tuple(dict.fromkeys(texts[:-1] if not texts[-1] else texts))


def _numbers(what: str) -> Callable[[str], tuple[Value, ...]]:
    return lambda text: parse_numbers(text.replace(";", ","), what)


def _integers(what: str, least: int = 1) -> Callable[[str], tuple[Value, ...]]:
    def read(text: str) -> tuple[Value, ...]:
        values = parse_integers(text.replace(";", ","), what)
        low = min(values)
        if low < least:
            raise GridError(f"{low} is too small for the {what}; use {least} or more")
        return values

    return read


def _seeds(text: str) -> tuple[Value, ...]:
    return check_seeds(parse_integers(text.replace(";", ","), "seeds"))


def _samplers(text: str) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(find_sampler(item).name for item in split_texts(text)))


def _sizes(text: str) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(parse_size(item) for item in split_texts(text)))


def _epochs(text: str) -> tuple[Value, ...]:
    """Numbers and ranges, and the words that choose an epoch of a run."""
    epochs: list[Value] = []
    for item in split_texts(text):
        epochs += [item] if item in ("best", "last") else [str(n) for n in parse_integers(item, "epochs")]
    return tuple(dict.fromkeys(epochs))


AXIS_KINDS: Mapping[str, AxisKind] = {
    "adapter": AxisKind("adapter", _texts, changes_lora=True),
    "epoch": AxisKind("adapter", _epochs, changes_lora=True),
    "weight": AxisKind("weight", _numbers("weights"), changes_lora=True),
    "vector": AxisKind("blocks", _texts, changes_lora=True),
    "block": AxisKind("block", _numbers("block weights"), changes_lora=True),
    "te": AxisKind("text encoder", _numbers("text-encoder strengths"), changes_lora=True),
    "unet": AxisKind("UNet", _numbers("UNet strengths"), changes_lora=True),
    "prompt": AxisKind("prompt", _prompts),
    "negative": AxisKind("negative", _negatives),
    "s/r": AxisKind("S/R", _texts),
    "seed": AxisKind("seed", _seeds),
    "cfg": AxisKind("CFG", _numbers("CFG scales")),
    "steps": AxisKind("steps", _integers("steps")),
    "sampler": AxisKind("sampler", _samplers),
    "size": AxisKind("size", _sizes),
    "clip skip": AxisKind("clip skip", _integers("clip skips")),
    "base": AxisKind("base model", _texts),
}
_ALIASES = {
    "lora": "adapter", "row": "adapter", "rows": "adapter", "epochs": "epoch",
    "weights": "weight", "strength": "weight", "blocks": "vector", "lbw": "vector", "text encoder": "te",
    "prompts": "prompt", "negative prompt": "negative",
    "prompt s/r": "s/r", "sr": "s/r", "search/replace": "s/r", "replace": "s/r",
    "seeds": "seed", "cfg scale": "cfg", "step": "steps", "samplers": "sampler", "sizes": "size",
    "clip_skip": "clip skip", "clip-skip": "clip skip", "clipskip": "clip skip",
    "checkpoint": "base", "checkpoint name": "base", "model": "base",
}  # fmt: skip
_OF = re.compile(r"(?P<kind>.+?)\s+of\s+(?P<term>\S.*)", re.IGNORECASE)
_BLOCK = re.compile(r"block\s+(?P<block>\S+)", re.IGNORECASE)
_BARE = re.compile(r"[+-]?[\d.]+")
_TERMS = ("epoch", "weight", "vector", "block", "te", "unet")


def parse_axis(text: str, slot: str) -> Axis:
    """The axis that ``text`` (``KIND: values``) means, to stand at ``slot``.

    Raises:
        GridError: naming the slot and the nearest kind or value, if it cannot be read.
    """
    head, colon, rest = text.partition(":")
    if not colon:
        raise GridError(
            f"axis {slot}: '{text}' has no values; write KIND: VALUES, such as \"weight: 0-1 (+0.25)\"", axis=slot
        )
    return read_axis(head, rest, slot)


def read_axis(head: str, rest: str, slot: str) -> Axis:
    """The same from the two sides of the colon."""
    kind, term, block = _kind(head.strip(), slot)
    try:
        values = AXIS_KINDS[kind].read(rest.strip())
    except LoratoolsError as error:
        raise GridError(f"axis {slot}, {head.strip()}: {error}", axis=slot) from error
    bare = next((value for value in values if kind == "vector" and _BARE.fullmatch(str(value))), None)
    if bare is not None:
        raise GridError(
            f"axis {slot}, {head.strip()}: a comma parts values, so '{bare}' would be a whole vector; "
            f'write a vector of numbers in double quotes, as in "1,0.5,..."',
            axis=slot,
        )
    if not values:
        raise GridError(
            f"axis {slot}, {head.strip()}: there is no value after the colon; write at least one", axis=slot
        )
    return Axis(kind, values, term, block, slot)


def _kind(head: str, slot: str) -> tuple[str, str, str]:
    """The kind, the one LoRA that is meant, and the block."""
    of = _OF.fullmatch(head)
    name, term = (of["kind"], of["term"].strip('"')) if of else (head, "")
    word, block = " ".join(name.lower().split()), ""
    if match := _BLOCK.fullmatch(name):
        word, block = "block", match["block"]
    word = _ALIASES.get(word, word)
    if word not in AXIS_KINDS:
        near = did_you_mean(word, [*AXIS_KINDS, *_ALIASES])
        raise GridError(f"axis {slot}: '{head}' is no kind of axis{near}; kinds are {', '.join(AXIS_KINDS)}", axis=slot)
    if word == "block" and not block:
        raise GridError(f'axis {slot}: which block? Write its name, such as "block OUT04: 0,0.5,1"', axis=slot)
    if term and word not in _TERMS:
        raise GridError(f"axis {slot}: 'of {term}' goes with {', '.join(_TERMS)}, not with {word}; drop it", axis=slot)
    return word, term, block
