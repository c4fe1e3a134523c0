"""Recipes as text: values in YAML's flow style, and files that are never written over somebody's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loratools.errors import FileError
from loratools.files import write_text

_PLAIN = re.compile(r"[A-Za-z_][\w./@+-]*(?: [\w./@+-]+)*")
_WORDS = frozenset({"true", "false", "null"})


def flow(value: Any) -> str:
    """``value`` as one line of YAML; text stays bare where no reader could take it for anything else."""
    match value:
        case Mapping():
            return "{" + ", ".join(f"{flow(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(flow(item) for item in value) + "]"
        case bool() | None:
            return json.dumps(value)
        case float():
            short = f"{value:.10g}"
            return short if float(short) == value else repr(value)  # a third keeps all its digits
        case int():
            return str(value)
    text = str(value)
    bare = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    return text if bare else json.dumps(text, ensure_ascii=False)


def step_name(text: str) -> str:
    """A name that a step may have, from any text."""
    return re.sub(r"[^\w.-]+", "_", text.strip()).strip("_.-") or "final"


def write_new(path: Path, text: str, force: bool) -> None:
    """Write a file that must not exist yet, but for ``force``.

    Raises:
        FileError: if it does.
    """
    if path.exists() and not force:
        raise FileError(f"{path} exists; choose another name, or overwrite it with `force=True`")
    write_text(path, text)
