"""Which parts of a picture become pictures of their own: faces, half and whole figures (guide 004's classes)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from loratools.dataset.detect.boxes import Box, Boxes
from loratools.dataset.detect.framing import framing_class
from loratools.dataset.folder import Size
from loratools.dataset.prepare.options import PrepareOptions
from loratools.dataset.tags.vocabulary import FACE, FULL, MAIN, OTHER

_HEAD_SQUARE: Final = 1.5  # side of a face crop over the head's longer side
_MAIN_RATIO: Final = 2 / 3  # width over height of a main visual
_FIGURE_SHARE: Final = 0.5  # of a main visual that its figure covers
_HEADS_HIGH: Final = 3.4  # height of a main visual over its head, where no half body was found
_ABOVE_HEAD: Final = 0.35  # of the head's height
_MARGIN: Final = 0.06  # around a whole figure
_LARGEST_SHARE: Final = 0.5  # of the original that a crop may have; a larger one says nothing new
_MOST_FIGURES: Final = 4
_WANTED: Final = {FULL: (MAIN, FACE), MAIN: (FACE,), OTHER: (FULL, MAIN, FACE), FACE: ()}


@dataclass(frozen=True)
class Crop:
    """A part of a picture: its class, its box in whole pixels, and the factor that it must be enlarged by (1: none)."""

    kind: str
    box: tuple[int, int, int, int]
    factor: float

    @property
    def size(self) -> Size:
        """(width, height) before it is enlarged."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]


@dataclass(frozen=True)
class Crops:
    """``made``: the crops of a picture; ``refused``: why others are none, a sentence each."""

    made: tuple[Crop, ...] = ()
    refused: tuple[str, ...] = ()


def crops_of(size: Size, kind: str, boxes: Boxes, options: PrepareOptions, heads_tall: float | None = None) -> Crops:
    """The crops of a picture.

    Args:
        kind: the class of the whole picture, which it gives no crop of.
        heads_tall: how many heads tall the folder's figures are, if that is known.
    """
    made: list[Crop] = []
    refused: list[str] = []
    for wanted, box in _boxes(size, boxes, heads_tall):
        if wanted not in _WANTED[kind] or box.area > _LARGEST_SHARE * size[0] * size[1]:
            continue
        left, top, right, bottom = box.json()
        if right - left < 2 or bottom - top < 2:
            continue
        factor = needed_factor((right - left, bottom - top), options.resolution)
        if factor > options.most_enlarged:
            refused.append(f"a {wanted} crop of {right - left}x{bottom - top} would be blown up {factor:.1f} x")
            continue
        made.append(Crop(wanted, (left, top, right, bottom), factor))
    return Crops(tuple(made), tuple(refused))


def needed_factor(size: Size, resolution: int) -> float:
    """How many times a side must be enlarged for a picture to have as many pixels as the square of ``resolution``; 1
    for one that has them, nearly."""
    factor = float((resolution**2 / (size[0] * size[1])) ** 0.5)
    return factor if factor > 1.02 else 1.0


def _boxes(size: Size, boxes: Boxes, heads_tall: float | None) -> Iterator[tuple[str, Box]]:
    """(class, box) of every figure, the largest figure first."""
    heads = sorted(boxes.heads(), key=lambda box: -box.area)[:_MOST_FIGURES]
    persons = sorted(boxes.person, key=lambda box: -box.area)[:_MOST_FIGURES]
    for person in persons:
        alone = Boxes(person=(person,), head=tuple(head for head in heads if person.holds(head)))
        if framing_class(size, (), alone, heads_tall).name == FULL:
            yield FULL, _grown(person, person.width * _MARGIN, person.height * _MARGIN).within(size)
    halves = sorted(boxes.halfbody, key=lambda box: -box.area)[:_MOST_FIGURES]
    for half in halves:
        yield MAIN, _main(half, size)
    for head in heads:
        if not any(half.holds(head) for half in halves):
            yield MAIN, _main_of_head(head, size)
    for head in heads:
        side = max(head.width, head.height) * _HEAD_SQUARE / 2
        x, y = head.center
        yield FACE, Box(x - side, y - side, x + side, y + side, head.score).within(size)


def _main(half: Box, size: Size) -> Box:
    """A crop near 2:3 of which a half body covers about half, moved so that it stays in the picture."""
    height = max((half.area / _FIGURE_SHARE / _MAIN_RATIO) ** 0.5, half.height)
    width = max(height * _MAIN_RATIO, half.width)
    return _inside(half.center[0], half.top - (height - half.height) * 0.4, width, height, size)


def _main_of_head(head: Box, size: Size) -> Box:
    height = head.height * _HEADS_HIGH
    return _inside(head.center[0], head.top - head.height * _ABOVE_HEAD, height * _MAIN_RATIO, height, size)


def _inside(middle: float, top: float, width: float, height: float, size: Size) -> Box:
    """A box of this size, moved into the picture, and no larger than it."""
    width, height = min(width, size[0]), min(height, size[1])
    left = min(max(middle - width / 2, 0), size[0] - width)
    top = min(max(top, 0), size[1] - height)
    return Box(left, top, left + width, top + height)


def _grown(box: Box, across: float, down: float) -> Box:
    return Box(box.left - across, box.top - down, box.right + across, box.bottom + down, box.score)
