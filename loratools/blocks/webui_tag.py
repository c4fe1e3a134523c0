"""The WebUI's prompt form of a LoRA, with LoRA Block Weight's additions: ``<lora:NAME:te:unet:lbw=MIDD>``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from loratools.blocks.parse import parse_vector
from loratools.blocks.tokens import clip, is_number, number, split_items, stripped_span
from loratools.blocks.vector import BlockVector, Presets
from loratools.errors import BlockError

TAG = re.compile(r"<(?:lora|lyco):(?P<fields>[^<>]*)>", re.IGNORECASE)
_STEPS = ("start", "stop", "step")
_VECTOR = ("lbw", "w")
_KNOWN = (*_STEPS, *_VECTOR, "te", "unet", "x", "lbwe", "seed", "dyn")


@dataclass(frozen=True)
class LoraTag:
    """One tag: the LoRA's name, its two multipliers, and its block vector, if it has one."""

    name: str
    te: float
    unet: float
    vector: BlockVector | None

    def text(self) -> str:
        """As a prompt holds it. The legacy positional vector is never written: newer WebUIs drop the whole LoRA."""
        weights = number(self.te) if self.te == self.unet else f"{number(self.te)}:{number(self.unet)}"
        lbw = f":lbw={self.vector.text()}" if self.vector is not None else ""
        return f"<lora:{self.name}:{weights}{lbw}>"

    def term(self) -> str:
        """As a term of a merge string."""
        split = [] if self.te == self.unet else [f"te={number(self.te)}", f"unet={number(self.unet)}"]
        vector = [self.vector.text()] if self.vector is not None else []
        return ":".join([self.name, number(self.te) if not split else "1", *vector, *split])


@dataclass(frozen=True)
class TagFields:
    """What a tag says, its vector still as text.

    ``vector`` is the text that :func:`~loratools.blocks.parse.parse_vector` reads; None where there is none. ``spans``
    tells where in the tag each piece stands (start and end): ``name``, ``weight`` (the only number of both
    multipliers), ``te``, ``unet``, and by its field each piece of the vector (``lbw``, ``lbwe``, ``x``, ``seed``), the
    latter three with their ``key=``.
    """

    name: str
    te: float
    unet: float
    vector: str | None
    spans: Mapping[str, tuple[int, int]]


def is_tag(text: str) -> bool:
    """Whether ``text`` is a whole ``<lora:...>``."""
    return bool(TAG.fullmatch(text.strip()))


def has_tag(prompt: str) -> bool:
    """Whether ``prompt`` names a LoRA."""
    return bool(TAG.search(prompt))


def take_tags(prompt: str) -> tuple[str, tuple[str, ...]]:
    """The prompt without its tags, all other characters as they are (so reads the WebUI too), and the tags."""
    return TAG.sub("", prompt).strip(), tuple(match[0] for match in TAG.finditer(prompt))


def edit_tags(prompt: str, edit: Callable[[str], str]) -> str:
    """The prompt with ``edit`` of each of its tags in the tag's place."""
    return TAG.sub(lambda match: edit(match[0]), prompt)


def parse_tag(text: str, presets: Presets, family: str | None = None) -> LoraTag:
    """Read ``<lora:NAME:te:unet:lbw=...>`` in every spelling that LoRA Block Weight reads.

    Raises:
        BlockError: as for :func:`read_tag`, or if its vector is none.
    """
    tag = read_tag(text)
    vector = None if tag.vector is None else parse_vector(tag.vector, presets, family)
    return LoraTag(tag.name, tag.te, tag.unet, vector)


def read_tag(text: str) -> TagFields:
    """The fields of a tag.

    One number sets both multipliers; ``te=`` and ``unet=`` win over positions; ``lbw=`` (or ``w=``, or the legacy
    third position) is a preset or numbers; ``x=`` and the fourth position are X; ``lbwe=`` is an elemental preset.

    Raises:
        BlockError: if it is no such tag, or asks for what is no property of a file: a window of sampler steps, or a
            truncated rank.
    """
    match = TAG.search(text)
    if match is None or not is_tag(text):
        raise BlockError(f"'{clip(text)}' is no prompt tag such as <lora:NAME:1:lbw=GP1>")
    fields = _Fields(text, *match.span("fields"))
    if not fields.name:
        raise BlockError(f"'{clip(text)}' names no LoRA; write <lora:NAME:1>")
    _refuse(fields.options, text)
    if len(fields.words) > 1:
        first, second = (fields.at(span) for span in fields.words[:2])
        raise BlockError(f"'{clip(text)}' holds both '{first}' and '{second}'; one of them is a vector")
    if fields.words and (key := next((key for key in _VECTOR if key in fields.options), None)) is not None:
        word = fields.at(fields.words[0])
        if re.fullmatch(r"[-+]?\d+,\d+", word):
            raise BlockError(f"'{word}' in '{clip(text)}' has a decimal comma; write {word.replace(',', '.')}")
        raise BlockError(f"'{clip(text)}' holds both '{word}', which is no number, and {key}=; one of them is a vector")
    numbers = fields.numbers[:2]
    multipliers = [float(fields.at(span)) for span in numbers]
    te = _number(fields, "te", multipliers[0] if numbers else 1.0)
    unet = _number(fields, "unet", multipliers[-1] if numbers else 1.0)
    spans = {"name": fields.name_span}
    if len(numbers) == 1 and not {"te", "unet"} & set(fields.options):
        spans["weight"] = numbers[0]
    spans |= dict(zip(("te", "unet"), numbers, strict=True)) if len(numbers) == 2 else {}
    spans |= {key: fields.options[key].value for key in ("te", "unet") if key in fields.options}
    items = fields.vector_items()
    spans |= {key: span for key, (_, span) in items.items()}
    return TagFields(fields.name, te, unet, ",".join(item for item, _ in items.values()) or None, spans)


@dataclass(frozen=True)
class _Option:
    """Where ``key=value`` stands, and where its value does."""

    whole: tuple[int, int]
    value: tuple[int, int]


class _Fields:
    """The pieces of a tag between its colons, each by where it stands in ``text``."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text = text
        self.options: dict[str, _Option] = {}
        self.positional: list[tuple[int, int]] = []
        for index, piece in enumerate(split_items(text[start:end], ":", strip=False)):
            span = stripped_span(self.text, start, start + len(piece))
            start += len(piece) + 1
            key, equals, _ = self.at(span).partition("=")
            if index == 0:
                self.name_span = span
            elif equals and "," not in key:
                value = stripped_span(self.text, span[0] + len(key) + 1, span[1])
                self.options[key.strip().lower()] = _Option(span, value)
            else:
                self.positional.append(span)
        self.name = self.at(self.name_span)
        self.numbers = [span for span in self.positional if is_number(self.at(span))]
        self.words = [span for span in self.positional if not is_number(self.at(span))]

    def at(self, span: tuple[int, int]) -> str:
        return self.text[span[0] : span[1]]

    def value(self, key: str) -> str | None:
        """The value of an option; None where it is not given, or empty."""
        return self.at(self.options[key].value) or None if key in self.options else None

    def vector_items(self) -> dict[str, tuple[str, tuple[int, int]]]:
        """The parts of the vector's text in their order, by key; each with where it stands."""
        items: dict[str, tuple[str, tuple[int, int]]] = {}
        word = next((key for key in _VECTOR if self.value(key)), None)
        if word is not None:
            items["lbw"] = (str(self.value(word)), self.options[word].value)
        elif self.words:
            items["lbw"] = (self.at(self.words[0]), self.words[0])
        if "lbwe" in self.options:
            items["lbwe"] = (f"lbwe={self.at(self.options['lbwe'].value)}", self.options["lbwe"].whole)
        if not items:
            return {}
        if len(self.positional) > 3 and is_number(self.at(self.positional[3])):
            items["x"] = (f"x={self.at(self.positional[3])}", self.positional[3])
        elif self.value("x") is not None:
            items["x"] = (f"x={self.value('x')}", self.options["x"].whole)
        if "seed" in self.options:
            items["seed"] = (f"seed={self.at(self.options['seed'].value)}", self.options["seed"].whole)
        return items


def _refuse(options: Iterable[str], text: str) -> None:
    for key in options:
        if key in _STEPS:
            raise BlockError(
                f"'{key}=' in '{clip(text)}' is a window of sampler steps, which no file can hold; drop it"
            )
        if key == "dyn":
            raise BlockError(f"'dyn=' in '{clip(text)}' truncates the rank; use `loratools resize` or `rank=` instead")
        if key not in _KNOWN:
            raise BlockError(f"'{key}=' in '{clip(text)}' is unknown; known are te, unet, lbw, lbwe, x and seed")


def _number(fields: _Fields, key: str, otherwise: float) -> float:
    if key not in fields.options:
        return otherwise
    value = fields.at(fields.options[key].value)
    if not is_number(value):
        raise BlockError(f"{key}= in '{clip(fields.text)}' is '{value}'; it should be a number, such as 0.8")
    return float(value)
