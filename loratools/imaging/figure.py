"""Plots by matplotlib: a figure that no window shows, and its file, with letters of every alphabet."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from loratools import files
from loratools.errors import FileError
from loratools.imaging.lettering import font_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLAIN = "DejaVu Sans"  # matplotlib's own: Latin, Greek, Cyrillic


def new_figure(
    width: float, height: float, *, layout: Literal["constrained"] | None = "constrained", dpi: int = 110
) -> Figure:
    """An empty figure of so many inches, which :func:`save_figure` draws without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], *, tight: bool = False) -> Path:
    """Write the figure, whole or not at all; the format is that of the path's ending, PNG where it has none.

    Letters that matplotlib's own font lacks, as Chinese ones of a file's name, are taken from a font of the system;
    where there is none they are boxes, without a word on stderr.

    Args:
        tight: cut the margins off.
    Raises:
        FileError: for an ending that is no format, or a file that cannot be written.
    """
    target = Path(path)
    kind, known = target.suffix.lstrip(".").lower() or "png", figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise FileError(f"{target} is no name for a plot; end it in .png, .svg or .pdf")
    _set_fonts(figure)
    with files.replacing(target) as part, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(part, format=kind, bbox_inches="tight" if tight else None)
    return target


def _set_fonts(figure: Figure) -> None:
    """Let every text fall back to a font that has its letters."""
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    font = font_file("".join(text.get_text() for text in texts))
    if font is None or font.stem == "DejaVuSans":
        return
    fontManager.addfont(font)
    family = [_PLAIN, FontProperties(fname=font).get_name()]
    for text in texts:
        text.set_fontfamily(family)
