"""Prompts from text: as they stand, or read from a file, a prompt a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from loratools.errors import PromptError

_COMMENT = "#"


def read_prompts(texts: Sequence[str], find: Callable[[str], Path | None]) -> list[str]:
    """Prompts as they stand; each one that names a file is read, a prompt a line, ``#`` lines left out.

    Raises:
        PromptError: if a file is missing, unreadable, or holds no prompt.
    """
    return [prompt for text in texts for prompt in _prompts(text, find)]


def _prompts(text: str, find: Callable[[str], Path | None]) -> list[str]:
    if "\n" in text:
        return [text]
    try:
        path = find(text)
    except OSError:  # longer than a file's name may be
        path = None
    if path is None or not path.is_file():
        if text.lower().endswith(".txt"):
            raise PromptError(f"there is no file of prompts '{text}'; write prompts into it, one a line")
        return [text]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path} cannot be read as UTF-8 text: {error}") from error
    prompts = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith(_COMMENT)]
    if not prompts:
        raise PromptError(f"{path} holds no prompt; write one a line")
    return prompts
