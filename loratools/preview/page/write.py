"""Puts ``grid.html`` together: the template, the style, the scripts and the grid's data in one file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mimetypes
import re
from pathlib import Path

from loratools.errors import FileError
from loratools.files import write_text
from loratools.preview.page.view import View, view_grid
from loratools.preview.record.grid import Grid

_HERE = Path(__file__).parent
# in the order in which they build on each other; each is a part of one strict function
_SCRIPTS = ("model", "votes", "frame", "table", "filter", "light", "pairs", "main")


def write_page(folder: Path, grid: Grid, *, embed: bool = False) -> None:
    """Write ``grid.html`` from the grid's record; pictures are linked by relative paths, or embedded."""
    write_text(folder / "grid.html", draw_page(grid, embed=folder if embed else None))


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
    script = _script()
    parts = {
        "title": html.escape(view.title),
        # only this very script may run, whatever a label holds
        "policy": f"script-src 'sha256-{_sha256(script)}'; object-src 'none'; base-uri 'none'; connect-src 'none'",
        "style": _asset("page.css"),
        "data": _json(view.content(_embedded(view, embed) if embed else {})),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _asset("page.html"))


def _embedded(view: View, folder: Path) -> dict[str, str]:
    return {file: _data_uri(folder / file) for file in {shot.file for shot in view.shots}}


def _data_uri(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "image/png"
    try:
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError as error:
        raise FileError(f"{path} is missing or unreadable; render the grid again") from error


def _script() -> str:
    parts = "\n".join(_asset(f"{name}.js") for name in _SCRIPTS)
    return f'\n(() => {{\n"use strict";\n{parts}\n}})();\n'


def _asset(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
