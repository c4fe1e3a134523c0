"""Prompts for pipelines, which read them as plain text: what only the WebUI's syntax means is refused."""

from __future__ import annotations

import re

from loratools.base.prompt.foreign_syntax import check_prompt
from loratools.errors import PromptError

_WEIGHTED = re.compile(r"(?<!\\)\((?:[^()\\]|\\.)*:\s*[-+]?\d*\.?\d+\s*\)")


def check_plain(pipeline: str, *texts: str) -> None:
    """Raise PromptError if a text holds what the pipeline would take for words: weights, wildcards, networks."""
    for text in texts:
        check_prompt(text)
        if match := _WEIGHTED.search(text):
            raise PromptError(
                f"'{match[0]}' weighs words as the WebUI does, and {pipeline} reads prompts as plain text; write the "
                "words alone"
            )
