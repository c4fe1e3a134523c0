"""``<lora:NAME:0.8:lbw=GP1>`` in prompts, as people paste them from the WebUI: found, taken out, read as LoRAs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loratools.blocks.vector import Presets
from loratools.blocks.webui_tag import parse_tag
from loratools.errors import LoratoolsError, PromptError
from loratools.ops.merging.merge_string import quoted

_TAG = re.compile(r"<(?:lora|lyco):[^<>]*>", re.IGNORECASE)


def has_tag(prompt: str) -> bool:
    """Whether ``prompt`` names a LoRA."""
    return bool(_TAG.search(prompt))


def take_tags(prompt: str) -> tuple[str, tuple[str, ...]]:
    """The prompt without its tags, all other characters as they are (so reads the WebUI too), and the tags."""
    return _TAG.sub("", prompt).strip(), tuple(_TAG.findall(prompt))


def merge_string(tags: Sequence[str], presets: Presets, family: str | None = None) -> str:
    """The merge string of several tags.

    Raises:
        PromptError: naming the tag that cannot be read.
    """
    terms = []
    for tag in tags:
        try:
            parsed = parse_tag(tag, presets, family)
        except LoratoolsError as error:
            raise PromptError(f"the prompt's {tag}: {error}") from error
        terms.append(quoted(parsed.name) + parsed.term().removeprefix(parsed.name))
    return ",".join(terms)
