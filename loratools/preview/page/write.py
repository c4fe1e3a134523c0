"""Puts ``grid.html`` together: the template, the style, the scripts and the grid's data in one file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mimetypes
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from loratools.errors import FileError
from loratools.files import replacing, utf8_text
from loratools.preview.page.view import View, view_grid
from loratools.preview.record.grid import Grid

_HERE = Path(__file__).parent
# in the order in which they build on each other; each is a part of one strict function
_SCRIPTS = ("model", "votes", "frame", "table", "filter", "light", "pairs", "main")


def write_page(folder: Path, grid: Grid, *, embed: bool = False) -> None:
    """Write ``grid.html`` from the grid's record; pictures are linked by relative paths, or embedded.

    Raises:
        FileError: if a picture that is to be embedded is missing.
    """
    with replacing(folder / "grid.html") as part, open(part, "wb") as stream:
        stream.writelines(_pieces(view_grid(grid), folder if embed else None))


def draw_page(grid: Grid, *, embed: Path | None = None) -> str:
    """The page's HTML of a grid; see :func:`draw_view`."""
    return draw_view(view_grid(grid), embed=embed)


def draw_view(view: View, *, embed: Path | None = None) -> str:
    """The page's HTML; no text of the user can become markup or script.

    Args:
        view: what to show.
        embed: the grid's folder, to carry the pictures inside the page (a third larger than the files).
    Raises:
        FileError: if a picture that is to be embedded is missing.
    """
    return b"".join(_pieces(view, embed)).decode()


def _pieces(view: View, embed: Path | None) -> Iterator[bytes]:
    """The page in UTF-8, piece by piece: with its pictures it is larger than what should be copied again and again."""
    yield opening(view.title)
    for n, file in enumerate(view.files):
        yield from source(n, file, embed)
    yield closing(view)


def opening(title: str) -> bytes:
    """The page as far as the pictures' sources, which come first in its data: they are there before the rest is."""
    return _text(0, title) + b'{"sources":{'


def source(number: int, file: str, embed: Path | None) -> tuple[bytes, ...]:
    """A picture's entry among the sources: where an ``img`` loads it from, or, of the folder ``embed``, all of it.

    Raises:
        FileError: if a picture that is to be embedded is missing.
    """
    name = (b"," if number else b"") + _json(file) + b":"
    return (name, _json(quote(file))) if embed is None else (name, b'"', *_data_uri(embed / file), b'"')


def closing(view: View) -> bytes:
    """The page from behind the sources."""
    return b"}," + _json(view.content()).removeprefix(b"{") + _text(1, view.title)


def _text(part: int, title: str) -> bytes:
    """The template before (0) and after (1) the data."""
    script = _script()
    parts = {
        "title": html.escape(title),
        # only this very script may run, whatever a label holds
        "policy": f"script-src 'sha256-{_sha256(script)}'; object-src 'none'; base-uri 'none'; connect-src 'none'",
        "style": _asset("page.css"),
        "script": script,
    }
    template = _asset("page.html").split("{{data}}")[part]
    pieces = re.split(r"\{\{(\w+)\}\}", template)
    return utf8_text("".join(text if n % 2 == 0 else parts[text] for n, text in enumerate(pieces))).encode()


def _data_uri(path: Path) -> tuple[bytes, bytes]:
    """A picture as a URI, in two pieces."""
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    try:
        return f"data:{kind};base64,".encode(), base64.b64encode(path.read_bytes())
    except OSError as error:
        raise FileError(f"{path} is missing or unreadable; render the grid again") from error


def _script() -> str:
    parts = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    return f'\n(() => {{\n"use strict";\n{parts}\n}})();\n'


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: object) -> bytes:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return utf8_text(text).encode()
