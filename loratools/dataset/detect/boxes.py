"""Boxes in a picture's pixels, and the suppression of those that say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from loratools.dataset.folder import Size

BoxKind = Literal["face", "head", "halfbody", "person", "text"]
BOX_KINDS: Final[tuple[BoxKind, ...]] = ("face", "head", "halfbody", "person", "text")
_HEAD_OF_FACE = 2.0  # a head's side over its face's, which goes from brows to chin


@dataclass(frozen=True)
class Box:
    """A box in pixels; right and bottom are not part of it. ``score`` is the detector's, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float = 1.0

    @property
    def width(self) -> float:
        """Pixels across."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels down."""
        return self.bottom - self.top

    @property
    def area(self) -> float:
        """Pixels in it."""
        return max(self.width, 0) * max(self.height, 0)

    @property
    def center(self) -> tuple[float, float]:
        """Its middle, (x, y)."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def within(self, size: Size) -> Box:
        """What of it lies in a picture of ``size``."""
        left, right = (min(max(value, 0.0), size[0]) for value in (self.left, self.right))
        top, bottom = (min(max(value, 0.0), size[1]) for value in (self.top, self.bottom))
        return replace(self, left=left, top=top, right=right, bottom=bottom)

    def moved(self, across: float, down: float) -> Box:
        """The same box elsewhere."""
        return Box(self.left + across, self.top + down, self.right + across, self.bottom + down, self.score)

    def scaled(self, across: float, down: float) -> Box:
        """The box in a picture that is so many times as wide and as high."""
        return Box(self.left * across, self.top * down, self.right * across, self.bottom * down, self.score)

    def overlap(self, other: Box) -> float:
        """Pixels that both have."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def holds(self, other: Box) -> bool:
        """Whether most of ``other`` is in it."""
        return other.area > 0 and self.overlap(other) / other.area >= 0.6

    def json(self) -> list[int]:
        """``[left, top, right, bottom]`` in whole pixels."""
        return [round(self.left), round(self.top), round(self.right), round(self.bottom)]


@dataclass(frozen=True)
class Boxes:
    """All boxes of one picture, each kind from the surest to the least sure."""

    face: tuple[Box, ...] = ()
    head: tuple[Box, ...] = ()
    halfbody: tuple[Box, ...] = ()
    person: tuple[Box, ...] = ()
    text: tuple[Box, ...] = ()

    def heads(self) -> tuple[Box, ...]:
        """The heads: as detected, or else what faces let expect."""
        return self.head or tuple(head_of(face) for face in self.face)

    def people(self) -> int:
        """How many people are in the picture, at least."""
        return max(len(self.person), len(self.heads()))

    def __bool__(self) -> bool:
        return bool(self.face or self.head or self.halfbody or self.person)

    def json(self) -> dict[str, list[list[int]]]:
        """Boxes by kind, without kinds that have none."""
        return {kind: [box.json() for box in getattr(self, kind)] for kind in BOX_KINDS if getattr(self, kind)}


def head_of(face: Box) -> Box:
    """The head that belongs to a face: twice as large, most of it above the face's middle."""
    across, down = face.width * (_HEAD_OF_FACE - 1) / 2, face.height * (_HEAD_OF_FACE - 1)
    return Box(face.left - across, face.top - down * 0.75, face.right + across, face.bottom + down * 0.25, face.score)


def suppress(boxes: Iterable[Box], most: float) -> tuple[Box, ...]:
    """The boxes from the surest on, without those that share more than ``most`` of their union with one before them
    (non-maximum suppression)."""
    ordered = sorted((box for box in boxes if box.area > 0), key=lambda box: -box.score)
    if not ordered:
        return ()
    values = np.array([(box.left, box.top, box.right, box.bottom) for box in ordered])
    alive = np.ones(len(ordered), dtype=bool)
    for index in range(len(ordered)):
        if alive[index]:
            rest = slice(index + 1, None)
            alive[rest] &= _shared(values[index], values[rest]) <= most
    return tuple(box for box, kept in zip(ordered, alive, strict=True) if kept)


def _shared(one: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intersection over union of a box with others, (left, top, right, bottom) each."""
    low = np.maximum(one[:2], others[:, :2])
    high = np.minimum(one[2:], others[:, 2:])
    both = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    shared: npt.NDArray[np.float64] = both / np.maximum((one[2:] - one[:2]).prod() + areas - both, 1e-9)
    return shared


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them; there must be one at least."""
    return Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )
