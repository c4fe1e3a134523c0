"""The styles by name: their tag, where they are used, and what they do not show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["house", "minor", "heldout"]


@dataclass(frozen=True, slots=True)
class StyleInfo:
    """A drawing style. ``split``: the base's default, a minor one in its training set, or one kept for LoRAs.

    ``hides`` are the attributes that a drawing in this style does not show.
    """

    name: str
    tag: str | None
    split: Split
    summary: str
    hides: frozenset[str] = frozenset()


STYLES: dict[str, StyleInfo] = {
    info.name: info
    for info in (
        StyleInfo("house", None, "house", "clean bold outlines, flat colours, one soft cel shadow"),
        StyleInfo("sketch", "sketch", "minor", "pencil lines and pale tints on paper"),
        StyleInfo("pixel", "pixel_art", "minor", "square blocks of few colours"),
        StyleInfo("pastel", "pastel_colors", "minor", "pale colours, coloured lines instead of black"),
        StyleInfo("ink", "ink_style", "heldout", "heavy black hatching and brushed outlines over flat colour"),
        StyleInfo("neon", "neon_style", "heldout", "glowing coloured lines on black", frozenset({"skin"})),
        StyleInfo("watercolor", "watercolor_style", "heldout", "soft bleeding edges and pigment on rough paper"),
    )
}
