"""What a file that should hold tensors is instead, by its first bytes: a web page, a server's answer, a pointer, ..."""

from __future__ import annotations

import json
import os
import re
import unicodedata
import zipfile
from pathlib import Path

_HEAD = 4096  # bytes that are looked at
_SHOWN = 80  # characters of a text that a message repeats
_AGAIN = "download it again from its page, logged in if that page asks for it"

# the first bytes of other formats -> what they are, and what to do
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"GGUF", "is a GGUF file, a quantised format of other programs; get the model's .safetensors file"),
    (b"\x1f\x8b", "is a gzip archive; unpack it and give the .safetensors file in it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it and give the .safetensors file in it"),
    (b"Rar!", "is a RAR archive; unpack it and give the .safetensors file in it"),
    (b"\x28\xb5\x2f\xfd", "is a zstd archive; unpack it and give the .safetensors file in it"),
    (b"\x89PNG", "is a picture (PNG), not a model; download the model's own file"),
    (b"\xff\xd8\xff", "is a picture (JPEG), not a model; download the model's own file"),
    (b"GIF8", "is a picture (GIF), not a model; download the model's own file"),
    (b"RIFF", "is a picture or video (RIFF), not a model; download the model's own file"),
    (b"%PDF", "is a PDF document, not a model; download the model's own file"),
)
# what is said of a pickle, which some readers ask for
PICKLE = "is a pickled torch file (.ckpt or .pt), not safetensors; convert it to .safetensors first"
_PAGE = re.compile(r"<(?:!doctype\s+html|html|head|body|\?xml|!--)", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)


def what_it_is(path: str | os.PathLike[str]) -> str | None:
    """Half a sentence about a file that is neither safetensors nor what its name says, with the remedy; None if its
    first bytes tell nothing.

    Raises:
        OSError: if it cannot be read.
    """
    source = Path(path)
    with open(source, "rb") as stream:
        head = stream.read(_HEAD)
    size = source.stat().st_size
    if head and not head.strip(b"\0"):
        return f"begins with zero bytes: its download was never finished; {_AGAIN}"
    if head.startswith(b"PK"):
        return _zip(source, head)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PICKLE
    for magic, meaning in _MAGIC:
        if head.startswith(magic):
            return meaning
    text = _text(head)
    return None if not text else _of_text(text, size)


def _zip(path: Path, head: bytes) -> str:
    """What a zip holds: torch's own format since 1.6 is one, whose pickle is called ``data.pkl``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return PICKLE if b"data.pkl" in head else f"is a zip archive that was cut off; {_AGAIN}"
    if any(name.endswith("data.pkl") for name in names):
        return PICKLE
    inside = next((name for name in names if name.lower().endswith(".safetensors")), None)
    remedy = f"; unpack it and give '{inside}'" if inside else ", with no .safetensors file in it"
    return f"is a zip archive{remedy}"


def _text(head: bytes) -> str | None:
    """The first bytes as text, or None if they are none."""
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = head.decode("utf-16" if wide else "utf-8-sig", "replace").strip()
    if any(unicodedata.category(character) == "Cc" and character not in "\r\n\t" for character in text):
        return None
    return text if text.count("\ufffd") <= 0.05 * len(text) else None


def _of_text(text: str, size: int) -> str:
    if text.startswith("version https://git-lfs"):
        match = re.search(r"^size (\d+)", text, re.MULTILINE)
        meant = f" (of {match[1]} bytes)" if match else ""
        return (
            f"is a Git-LFS pointer of {size} bytes, not the file{meant} that it stands for; run `git lfs pull`, or "
            "download the file itself"
        )
    if _PAGE.match(text):
        title = _TITLE.search(text)
        called = f" ('{_short(title[1])}')" if title else ""
        return f"is a web page{called} that was saved in place of the file; {_AGAIN}"
    if text[0] in "{[":
        return f"is JSON, as a server answers ({_answer(text)}), not the file that was asked for; {_AGAIN}"
    return f"is a text file that begins '{_short(text)}', not a model; {_AGAIN}"


def _answer(text: str) -> str:
    """What a server's JSON says, if it says it under one of the usual names; else its beginning."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        for key in ("message", "error", "detail", "title"):
            if isinstance(content.get(key), str) and content[key].strip():
                return f"'{_short(content[key])}'"
    return f"it begins '{_short(text)}'"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
