"""``<lora:NAME:0.8:lbw=GP1>`` in prompts, as people paste them from the WebUI: read as the terms of a merge."""

from __future__ import annotations

from collections.abc import Sequence

from loratools.blocks.vector import Presets
from loratools.blocks.webui_tag import parse_tag
from loratools.errors import LoratoolsError, PromptError
from loratools.ops.merging.merge_string import quoted
from loratools.preview.request.placeholders import hint


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
            fields = tag.partition(":")[2].partition(":")[2]
            meant = f"'{fields.rstrip('>')}' is no strength{place}" if (place := hint(fields)) else error
            raise PromptError(f"the prompt's {tag}: {meant}") from error
        terms.append(quoted(parsed.name) + parsed.term().removeprefix(parsed.name))
    return ",".join(terms)
