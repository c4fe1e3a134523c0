"""``grid.json`` in a grid's folder: read, written, and guarded against another owner."""

from __future__ import annotations

import json
from pathlib import Path

from loratools.errors import FileError, FormatError
from loratools.files import write_text
from loratools.preview.record.grid import NAME, Grid
from loratools.preview.record.grid_json import grid_from_json, grid_to_json

_OWN_FILES = ("grid.json", "grid.png", "grid.html", "grid.webp", "grid.jpg")


def read_grid(folder: Path) -> Grid:
    """The grid that lies in ``folder``.

    Raises:
        FileError: if there is none.
        FormatError: if its ``grid.json`` cannot be understood, or does not say what a verdict needs.
    """
    path = folder / NAME
    try:
        return grid_from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} is missing or unreadable; render the grid first") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not a grid's record ({error}); render the grid again") from error
    except FormatError as error:
        raise FormatError(f"{path} {error}") from error


def write_grid(folder: Path, grid: Grid) -> None:
    """Write ``grid.json``, whole or not at all."""
    write_text(folder / NAME, grid_to_json(grid))


def guard(folder: Path, owner: str, force: bool) -> None:
    """Let a grid be written to ``folder`` if no other owner's grid lies there, or ``force`` is given.

    Raises:
        FileError: naming what is in the way.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file; give a folder")
    taken = [name for name in _OWN_FILES if (folder / name).exists()]
    if force or not taken:
        return
    made = None
    if NAME in taken:
        try:
            made = json.loads((folder / NAME).read_text(encoding="utf-8")).get("owner")
        except (OSError, ValueError, AttributeError):
            made = None
    if made != owner:
        who = f"was written by '{made}'" if made else "was not written by this step"
        raise FileError(
            f"{folder / taken[0]} exists and {who}; choose another folder, or overwrite it with `force=True`"
        )
