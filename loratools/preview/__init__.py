"""Previews: a base and adapters in, pictures, a labelled sheet, a page and a record out.

``render_grid`` renders every row at every weight, and ``read_grid`` reads the record that it leaves as a ``Grid``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loratools.preview.record.folder import read_grid
    from loratools.preview.record.grid import Grid
    from loratools.preview.run import GridResult, render_grid

__all__ = ["Grid", "GridResult", "read_grid", "render_grid"]
_MODULES = {  # imported when they are asked for, so that this package itself is light
    "Grid": "record.grid",
    "GridResult": "run",
    "read_grid": "record.folder",
    "render_grid": "run",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
