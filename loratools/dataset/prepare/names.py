"""Names of prepared pictures: those of the originals, as every system can have them, and each once."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

from loratools.file_names import SIGNS, is_reserved

_UNSAFE = re.compile(rf"[{re.escape(SIGNS)}\x00-\x1f\x7f]")
_LIKE_A_CROP = re.compile(r"_(?:face|main|full)\d+$", re.IGNORECASE)  # which another original's crop may be called
_CHARACTERS, _BYTES = 80, 160  # most of a name, so that endings still fit into 255 bytes


def safe_name(stem: str) -> str:
    """A file's name without its ending, as Windows, macOS and Linux can have it; a long one keeps its beginning, with
    a few letters of its digest."""
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", stem)).strip(" .") or "picture"
    if is_reserved(name) or name.startswith("."):
        name = f"_{name}"
    if len(name) <= _CHARACTERS and len(name.encode("utf-8", "replace")) <= _BYTES:
        return name
    short = name[:_CHARACTERS]
    while len(short.encode("utf-8", "replace")) > _BYTES:
        short = short[:-1]
    return f"{short.rstrip(' .')}-{_letters(name)}"


class Names:
    """Gives every original a name that no other has, in capitals or not."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {name.casefold() for name in taken}

    def of(self, file: str) -> str:
        """A name for the original ``file``, its path in the folder."""
        name = safe_name(file.rpartition("/")[2].rpartition(".")[0])
        if name.casefold() in self._taken or _LIKE_A_CROP.search(name):
            name = f"{name}-{_letters(file)}"
        self._taken.add(name.casefold())
        return name


def _letters(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
