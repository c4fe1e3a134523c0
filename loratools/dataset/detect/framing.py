"""Which of guide 004's classes a picture is of: face close-up, main visual, full body, or none of them.

Boxes count first, since they say what is to be seen; then the caption's framing tag; then the ratio alone. Whether a
figure of which only the head was found, or that touches the lower edge, is whole, boxes cannot tell well: a tag decides
it if there is one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from loratools.dataset.detect.boxes import Box, Boxes
from loratools.dataset.folder import Size
from loratools.dataset.tags.vocabulary import FACE, FRAMING, FULL, MAIN, OTHER

Witness = Literal["folder", "boxes", "tags", "ratio"]
_CLOSE_UP: Final = 0.5  # of the picture's height that the head has in a close-up
_SMALL_HEAD: Final = 0.17  # below it, and with nothing cut off, a figure is seen whole
_UPRIGHT: Final = 2.2  # height over width of a person who is seen whole
_HEADS_TALL: Final = 2.2  # a person who is at least as many heads high, and ends in the picture, is seen whole
_HEADS_CUT: Final = 5.5  # the same for one who touches the lower edge
_EDGE: Final = 0.015  # of the picture's height: a person who ends nearer to the lower edge goes on below it
_TALL, _MAIN_RATIO = 1.85, 1.15  # height over width: taller pictures show whole figures, wide ones no class


@dataclass(frozen=True)
class FramingClass:
    """A class (``face``, ``main``, ``full``, ``other``), and what it is known by."""

    name: str
    witness: Witness


def framing_class(size: Size, names: Collection[str], boxes: Boxes | None = None) -> FramingClass:
    """The class of a picture.

    Args:
        size: (width, height).
        names: of its tags, in lower case with spaces.
        boxes: what was detected, if anything looked.
    """
    by_boxes = _by_boxes(size, boxes) if boxes else None
    said = {FRAMING[name] for name in names if name in FRAMING}
    by_tags = next((kind for kind in (FACE, FULL, MAIN) if kind in said), None)  # a close-up may say "upper body" too
    if by_boxes is not None and not (
        boxes and by_boxes != FACE and by_tags in (MAIN, FULL) and _open_below(size, boxes)
    ):
        return FramingClass(by_boxes, "boxes")
    if by_tags is not None:
        return FramingClass(by_tags, "tags")
    return FramingClass(_by_ratio(size), "ratio")


def _by_boxes(size: Size, boxes: Boxes) -> str | None:
    """The class by the largest figure; None where boxes do not tell."""
    heads = boxes.heads()
    person = max(boxes.person, key=lambda box: box.area, default=None)
    head = max(heads, key=lambda box: box.area, default=None)
    if person is None and head is None:
        return MAIN if boxes.halfbody else None
    share = head.height / size[1] if head is not None else 0.0
    if head is not None and share >= _CLOSE_UP:
        return FACE
    if person is not None and _whole(person, head, size):
        return FULL
    if person is None and share < _SMALL_HEAD:
        return None  # small, and nothing says where the figure ends: tags or ratio may
    return MAIN


def _open_below(size: Size, boxes: Boxes) -> bool:
    """Whether it is not seen where the largest person ends: no person was found, or one that touches the lower edge."""
    person = max(boxes.person, key=lambda box: box.area, default=None)
    return person is None or person.bottom > size[1] * (1 - _EDGE)


def _whole(person: Box, head: Box | None, size: Size) -> bool:
    """Whether a person is seen from head to feet."""
    if person.bottom > size[1] * (1 - _EDGE):
        return head is not None and person.height >= _HEADS_CUT * head.height
    if person.height >= _UPRIGHT * person.width:
        return True
    return head is not None and person.height >= _HEADS_TALL * head.height


def _by_ratio(size: Size) -> str:
    ratio = size[1] / size[0]
    return FULL if ratio >= _TALL else MAIN if ratio >= _MAIN_RATIO else OTHER
