"""Names of files that Windows, macOS and Linux can all hold, and one name however its letters are spelled."""

from __future__ import annotations

import os
import platform
import unicodedata
from pathlib import Path, PureWindowsPath

from loratools.errors import FileError

SIGNS = '<>:"/\\|?*'  # that no name has on Windows
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def composed(name: str) -> str:
    """``name`` with each letter and its marks as one character where there is one (Unicode's NFC). Names that come from
    macOS often have them apart (NFD), which looks the same and is another name to every other system."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def spellings(name: str) -> tuple[str, ...]:
    """``name`` as it is written, then with letters and their marks as one character, then with them apart."""
    if name.isascii():
        return (name,)
    return tuple(dict.fromkeys((name, composed(name), unicodedata.normalize("NFD", name))))


def spelled_on_disk(path: Path) -> Path | None:
    """``path`` if it is a file; else the file whose name differs in how letters with marks are spelled alone; None if
    there is neither."""
    return next((other for name in spellings(path.name) if (other := path.with_name(name)).is_file()), None)


def bad_signs(name: str) -> list[str]:
    """The signs of a name that Windows refuses, each once; control characters too."""
    return sorted({sign for sign in name if sign in SIGNS or ord(sign) < 32})


def is_reserved(name: str) -> bool:
    """Whether Windows takes a name for a device of its own, whatever its ending: ``con``, ``NUL.txt``."""
    return name.split(".")[0].rstrip(" ").lower() in _RESERVED


def check_writable_name(path: str | os.PathLike[str]) -> None:
    """Refuse on Windows what would not become a file of that name there: ``a:b`` writes into a hidden part of ``a``,
    ``con`` into the console, ``a.`` into ``a``. On other systems such names are as good as any.

    Raises:
        FileError: naming the part of the path and what is wrong with it.
    """
    if not _on_windows():
        return
    whole = PureWindowsPath(os.fspath(path))
    for part in whole.parts[1 if whole.anchor else 0 :]:
        if signs := bad_signs(part):
            why = f"no name has {' '.join(sign if ord(sign) >= 32 else repr(sign) for sign in signs)}"
        elif is_reserved(part):
            why = f"'{part.split('.')[0]}' is a device"
        elif part not in (".", "..") and part.endswith((".", " ")):
            why = "no name ends with a dot or a space"
        else:
            continue
        raise FileError(f"{path}: on Windows {why}; choose another name in the place of '{part}'")


def _on_windows() -> bool:
    return platform.system() == "Windows"
