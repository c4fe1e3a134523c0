"""Small drawings as inline SVG: a block vector as bars, losses as a line. Colours are the page's own variables."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

_STEP, _BAR, _HALF, _LETTERS = 26, 16, 44, 46
_WIDE, _HIGH, _LEFT, _TOP, _BOTTOM = 720, 220, 56, 12, 28
_MOST = 400  # points of a line


def vector_bars(weights: Mapping[str, float], title: str) -> str:
    """Weights by block, up where they add and down where they subtract; the highest bar is the greatest, or 1."""
    top = max([1.0, *(abs(value) for value in weights.values())])
    down = any(value < 0 for value in weights.values())
    up = any(value > 0 for value in weights.values()) or not down
    middle = 16 + (_HALF if up else 0)
    bottom = middle + (_HALF if down else 0) + (12 if down else 0)
    parts = []
    for index, (block, value) in enumerate(weights.items()):
        x = index * _STEP + (_STEP - _BAR) / 2
        height = abs(value) / top * _HALF
        y = middle - height if value >= 0 else middle
        centre = index * _STEP + _STEP / 2
        number = y - 3 if value >= 0 else y + height + 10
        parts.append(
            f'<rect class="{"plus" if value >= 0 else "minus"}" x="{x:g}" y="{y:.1f}" width="{_BAR}" '
            f'height="{max(height, 0.8):.1f}"><title>{html.escape(block)} {value:g}</title></rect>'
            f'<text class="number" x="{centre:g}" y="{number:.1f}">{_short(value)}</text>'
            f'<text class="block" transform="translate({centre + 3:g} {bottom + 6:g}) rotate(-90)">'
            f"{html.escape(block)}</text>"
        )
    width = len(weights) * _STEP
    axis = f'<line class="axis" x1="0" x2="{width}" y1="{middle}" y2="{middle}"/>'
    return _svg(width, bottom + _LETTERS, title, axis + "".join(parts), "bars")


def loss_line(steps: Sequence[tuple[float, float]], epochs: Sequence[tuple[float, float]], title: str) -> str:
    """Losses over optimiser steps: ``steps`` as a thin line, averaged where there are many, ``epochs`` as points."""
    points = [*steps, *epochs]
    if not points:
        return ""
    last = max(x for x, _ in points) or 1
    shown = _thinned(steps)
    values = [y for _, y in [*shown, *epochs]]
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1
    low, high = low - room, high + room

    def canvas_point(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + x / last * (_WIDE - _LEFT - 12)
        return across, _TOP + (high - y) / (high - low) * (_HIGH - _TOP - _BOTTOM)

    parts = []
    for number in range(4):
        value = low + room + (high - low - 2 * room) * number / 3
        y = canvas_point(0, value)[1]
        parts.append(
            f'<line class="rule" x1="{_LEFT}" x2="{_WIDE - 12}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 3:.1f}">{value:.3g}</text>'
        )
    if len(shown) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (canvas_point(*point) for point in shown))
        parts.append(f'<polyline class="thin" points="{path}"/>')
    if len(epochs) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (canvas_point(*point) for point in epochs))
        parts.append(f'<polyline class="thick" points="{path}"/>')
    for number, point in enumerate(epochs, 1):
        x, y = canvas_point(*point)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"><title>epoch {number}: {point[1]:.4f}</title></circle>')
    parts.append(f'<text class="foot" x="{_WIDE - 12}" y="{_HIGH - 8}">step {last:g}</text>')
    return _svg(_WIDE, _HIGH, title, "".join(parts), "line")


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most a few hundred points, each the mean of its neighbours."""
    size = -(-len(points) // _MOST) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _svg(width: float, height: float, title: str, body: str, kind: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">'
        f"<title>{html.escape(title)}</title>{body}</svg>"
    )


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".").replace("0.", ".", 1) or "0"
