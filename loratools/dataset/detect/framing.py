"""Which of guide 004's classes a picture is of: face close-up, main visual, full body, or none of them.

Boxes count first, since they say what is to be seen; then the caption's framing tag; then the ratio alone. Whether a
figure of which only the head was found, or that touches the lower edge, is whole, the boxes of one picture cannot tell
well: a tag decides it if there is one. Else the folder does: a figure that is as many heads tall as those that are seen
whole elsewhere in it (two and a half in one style, seven in another) is cut at the soles at most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final, Literal

from loratools.dataset.detect.boxes import Box, Boxes
from loratools.dataset.folder import Size
from loratools.dataset.tags.vocabulary import FACE, FRAMING, FULL, MAIN, OTHER

Witness = Literal["folder", "boxes", "tags", "ratio"]
_CLOSE_UP: Final = 0.5  # of the picture's height that the head has in a close-up
_SMALL_HEAD: Final = 0.17  # below it, and with nothing cut off, a figure is seen whole
_UPRIGHT: Final = 2.2  # height over width of a person who is seen whole
_HEADS_TALL: Final = 2.2  # a person who is at least as many heads high, and ends in the picture, is seen whole
_HEADS_CUT: Final = 5.5  # the same for one who touches the lower edge, where the folder does not say more
_AS_TALL: Final = (0.93, 1.15)  # times the folder's own figures: one between is as tall as they, and so seen whole
_FEWEST: Final = 5  # whole figures that say how tall a folder's are
_ALIKE: Final = 1.5  # most that the tall ones of them may exceed the short ones by (the tenths at either end apart)
_EDGE: Final = 0.015  # of the picture's height: a person who ends nearer to the lower edge goes on below it
_TALL, _MAIN_RATIO = 1.85, 1.15  # height over width: taller pictures show whole figures, wide ones no class


@dataclass(frozen=True)
class FramingClass:
    """A class (``face``, ``main``, ``full``, ``other``), and what it is known by."""

    name: str
    witness: Witness


def framing_class(
    size: Size, names: Collection[str], boxes: Boxes | None = None, heads_tall: float | None = None
) -> FramingClass:
    """The class of a picture.

    Args:
        size: (width, height).
        names: of its tags, in lower case with spaces.
        boxes: what was detected, if anything looked.
        heads_tall: how many heads tall the folder's figures are, by :func:`usual_heads_tall`.
    """
    by_boxes = _by_boxes(size, boxes, heads_tall) if boxes else None
    said = {FRAMING[name] for name in names if name in FRAMING}
    by_tags = next((kind for kind in (FACE, FULL, MAIN) if kind in said), None)  # a close-up may say "upper body" too
    if by_boxes is not None and not (
        boxes and by_boxes != FACE and by_tags in (MAIN, FULL) and _open_below(size, boxes)
    ):
        return FramingClass(by_boxes, "boxes")
    if by_tags is not None:
        return FramingClass(by_tags, "tags")
    return FramingClass(_by_ratio(size), "ratio")


def usual_heads_tall(pictures: Iterable[tuple[Size, Boxes]]) -> float | None:
    """How many heads tall the figures of a folder are, by those that end within their picture; None where fewer than
    five do, or where they differ too much to be of one style."""
    tall = sorted(heads for size, boxes in pictures if (heads := _whole_heads(size, boxes)) is not None)
    if len(tall) < _FEWEST:
        return None
    tenths = quantiles(tall, n=10, method="inclusive")
    return median(tall) if tenths[-1] <= _ALIKE * tenths[0] else None


def _whole_heads(size: Size, boxes: Boxes) -> float | None:
    """The height in heads of the largest figure, if it is seen whole and ends within the picture."""
    person, head = _largest_figure(boxes)
    if person is None or head is None or not person.holds(head) or _touches(person, size):
        return None
    return _heads_tall(person, head) if _whole(person, head, size, None) else None


def _largest_figure(boxes: Boxes) -> tuple[Box | None, Box | None]:
    """The largest person and the largest head on it; where no head is on it, the largest of all."""
    heads = boxes.heads()
    person = max(boxes.person, key=lambda box: box.area, default=None)
    own = [head for head in heads if person is not None and person.holds(head)]
    return person, max(own or heads, key=lambda box: box.area, default=None)


def _by_boxes(size: Size, boxes: Boxes, heads_tall: float | None) -> str | None:
    """The class by the largest figure; None where boxes do not tell."""
    person, head = _largest_figure(boxes)
    if person is None and head is None:
        return MAIN if boxes.halfbody else None
    share = head.height / size[1] if head is not None else 0.0
    if head is not None and share >= _CLOSE_UP:
        return FACE
    if person is not None and _whole(person, head, size, heads_tall):
        return FULL
    if person is None and share < _SMALL_HEAD:
        return None  # small, and nothing says where the figure ends: tags or ratio may
    return MAIN


def _open_below(size: Size, boxes: Boxes) -> bool:
    """Whether it is not seen where the largest person ends: no person was found, or one that touches the lower edge."""
    person = max(boxes.person, key=lambda box: box.area, default=None)
    return person is None or _touches(person, size)


def _touches(person: Box, size: Size) -> bool:
    """Whether a person reaches to the lower edge."""
    return person.bottom > size[1] * (1 - _EDGE)


def _whole(person: Box, head: Box | None, size: Size, heads_tall: float | None) -> bool:
    """Whether a person is seen from head to feet."""
    if _touches(person, size):
        return head is not None and _as_tall(_heads_tall(person, head), heads_tall)
    if person.height >= _UPRIGHT * person.width:
        return True
    return head is not None and person.height >= _HEADS_TALL * head.height


def _as_tall(heads: float, usual: float | None) -> bool:
    """Whether a person who touches the lower edge is whole all the same, being so many heads tall."""
    if usual is None:
        return heads >= _HEADS_CUT
    low, high = (usual * factor for factor in _AS_TALL)
    return heads >= low and (heads <= high or heads >= _HEADS_CUT)


def _heads_tall(person: Box, head: Box) -> float:
    """From the top of the head to the lower end, in heads: what is held up above the head does not count."""
    return (person.bottom - head.top) / head.height


def _by_ratio(size: Size) -> str:
    ratio = size[1] / size[0]
    return FULL if ratio >= _TALL else MAIN if ratio >= _MAIN_RATIO else OTHER
