"""The colours of everything that is drawn here: sheets of grids and of training samples, charts and strips."""

from __future__ import annotations

PAPER = "#fbfaf7"  # background
INK = "#1d1d20"  # titles and labels
GREY = "#77757a"  # what stands beside them
LINE = "#d9d6cf"  # rules between parts
