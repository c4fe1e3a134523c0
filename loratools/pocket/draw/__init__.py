"""The drawing program: captioned pictures of cartoon figures, in many styles, with graded faults.

A :class:`Figure` names what is drawn, :func:`draw` draws it; ``seed`` drives the jitter only.
"""

from __future__ import annotations

from loratools.pocket.draw.anatomy import expected_hands
from loratools.pocket.draw.figure import ATTRIBUTES, FAULTS, Figure, asked_tags, random_figure
from loratools.pocket.draw.render import Drawing, contact_sheet, draw
from loratools.pocket.draw.stylebook import STYLES, StyleInfo

__all__ = [
    "ATTRIBUTES",
    "FAULTS",
    "STYLES",
    "Drawing",
    "Figure",
    "StyleInfo",
    "asked_tags",
    "contact_sheet",
    "draw",
    "expected_hands",
    "random_figure",
]
