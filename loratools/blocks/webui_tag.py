"""The WebUI's prompt form of a LoRA, with LoRA Block Weight's additions: ``<lora:NAME:te:unet:lbw=MIDD>``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from loratools.blocks.parse import parse_vector
from loratools.blocks.tokens import clip, is_number, number, split_items
from loratools.blocks.vector import BlockVector, Presets
from loratools.errors import BlockError

_TAG = re.compile(r"\s*<(?:lora|lyco):(?P<fields>[^<>]*)>\s*\Z", re.IGNORECASE)
_IN_PROMPT = re.compile(r"<(?:lora|lyco):[^<>]*>", re.IGNORECASE)
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


def is_tag(text: str) -> bool:
    """Whether ``text`` is a whole ``<lora:...>``."""
    return bool(_TAG.match(text))


def has_tag(prompt: str) -> bool:
    """Whether ``prompt`` names a LoRA."""
    return bool(_IN_PROMPT.search(prompt))


def take_tags(prompt: str) -> tuple[str, tuple[str, ...]]:
    """The prompt without its tags, all other characters as they are (so reads the WebUI too), and the tags."""
    return _IN_PROMPT.sub("", prompt).strip(), tuple(_IN_PROMPT.findall(prompt))


def edit_tags(prompt: str, edit: Callable[[str], str]) -> str:
    """The prompt with ``edit`` of each of its tags in the tag's place."""
    return _IN_PROMPT.sub(lambda match: edit(match[0]), prompt)


def parse_tag(text: str, presets: Presets, family: str | None = None) -> LoraTag:
    """Read ``<lora:NAME:te:unet:lbw=...>`` in every spelling that LoRA Block Weight reads.

    One number sets both multipliers; ``te=`` and ``unet=`` win over positions; ``lbw=`` (or ``w=``, or the legacy
    third position) is a preset or numbers; ``x=`` and the fourth position are X; ``lbwe=`` is an elemental preset.

    Raises:
        BlockError: if it is no such tag, or asks for what is no property of a file: a window of sampler steps, or a
            truncated rank.
    """
    match = _TAG.match(text)
    if match is None:
        raise BlockError(f"'{clip(text)}' is no prompt tag such as <lora:NAME:1:lbw=GP1>")
    name, *fields = split_items(match["fields"], ":")
    if not name:
        raise BlockError(f"'{clip(text)}' names no LoRA; write <lora:NAME:1>")
    options = dict(_pair(field) for field in fields if "=" in field.partition(",")[0])
    positional = [field for field in fields if "=" not in field.partition(",")[0]]
    _refuse(options, text)
    numbers = [float(field) for field in positional if is_number(field)][:2]
    words = [field for field in positional if not is_number(field)]
    if len(words) > 1:
        raise BlockError(f"'{clip(text)}' holds both '{words[0]}' and '{words[1]}'; one of them is a vector")
    te = _number(options, "te", numbers[0] if numbers else 1.0, text)
    unet = _number(options, "unet", numbers[-1] if numbers else 1.0, text)
    x = positional[3] if len(positional) > 3 and is_number(positional[3]) else options.get("x")
    vector = options.get("lbw") or options.get("w") or (words[0] if words else None)
    return LoraTag(name, te, unet, _vector(vector, options, x, presets, family))


def _vector(
    text: str | None, options: dict[str, str], x: str | None, presets: Presets, family: str | None
) -> BlockVector | None:
    items = [text] if text else []
    items += [f"lbwe={options['lbwe']}"] if "lbwe" in options else []
    if not items:
        return None
    items += [f"x={x}"] if x is not None else []
    items += [f"seed={options['seed']}"] if "seed" in options else []
    return parse_vector(",".join(items), presets, family)


def _pair(field: str) -> tuple[str, str]:
    key, _, value = field.partition("=")
    return key.strip().lower(), value.strip()


def _refuse(options: dict[str, str], text: str) -> None:
    for key in options:
        if key in _STEPS:
            raise BlockError(
                f"'{key}=' in '{clip(text)}' is a window of sampler steps, which no file can hold; drop it"
            )
        if key == "dyn":
            raise BlockError(f"'dyn=' in '{clip(text)}' truncates the rank; use `loratools resize` or --rank instead")
        if key not in _KNOWN:
            raise BlockError(f"'{key}=' in '{clip(text)}' is unknown; known are te, unet, lbw, lbwe, x and seed")


def _number(options: dict[str, str], key: str, otherwise: float, text: str) -> float:
    value = options.get(key)
    if value is None:
        return otherwise
    if not is_number(value):
        raise BlockError(f"{key}= in '{clip(text)}' is '{value}'; it should be a number, such as 0.8")
    return float(value)
