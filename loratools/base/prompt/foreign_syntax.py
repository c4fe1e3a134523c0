"""What other programs' prompts may hold and nothing here carries out: wildcards, random choices, networks in brackets.

The WebUI's extensions replace these before a prompt is encoded. Here they would reach the model as plain words, so a
prompt that holds one is refused, wherever a picture is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from loratools.errors import PromptError

_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"(?<!\w)__(?=[^\s,_])[^\s,{}|]*?[^\s,_{}|]__(?!\w)"),
        "is a wildcard, which nothing here fills in; write the words themselves, in a prompt each",
    ),
    (
        re.compile(r"(?<!\\)\$\{[^{}]*\}"),
        "is a variable of Dynamic Prompts, which nothing here fills in; write the words themselves",
    ),
    (
        re.compile(r"(?<!\\)\{[^{}]*\|[^{}]*\}"),
        "is a random choice of Dynamic Prompts, which nothing here makes; write one of them, or a prompt for each",
    ),
    (
        re.compile(r"<(?:lora|lyco):[^<>]*>", re.IGNORECASE),
        "names a LoRA where none can be added; leave it out",
    ),
    (
        re.compile(r"<(?:lora|lyco):[^<>\n]*", re.IGNORECASE),
        "is a LoRA's tag that no > closes; write <lora:NAME:0.8>",
    ),
    (
        re.compile(r"<(?:hypernet|hypernetwork):[^<>]*>", re.IGNORECASE),
        "names a hypernetwork, which nothing here reads; leave it out",
    ),
    (
        re.compile(r"(?<![\w<])embedding:(?=[\w./\\-])[^\s,:()]+", re.IGNORECASE),
        "is ComfyUI's way to name an embedding; write its name alone, and give its folder as `embeddings=`",
    ),
)


def check_prompt(text: str, where: str = "the prompt") -> None:
    """Raise PromptError if ``text``, whose LoRA tags are taken out, holds what nothing here carries out.

    Args:
        where: what the message calls the text, for instance a file and a line.
    """
    for piece, reason in _unsupported_pieces(text):
        raise PromptError(f"{where}: '{piece}' {reason}")


def is_foreign(text: str) -> bool:
    """Whether :func:`check_prompt` refuses ``text``."""
    return any(True for _ in _unsupported_pieces(text))


def _unsupported_pieces(text: str) -> Iterator[tuple[str, str]]:
    """What is not carried out, and what to do about it; the first of each kind."""
    for pattern, reason in _KINDS:
        if match := pattern.search(text):
            yield match[0], reason
