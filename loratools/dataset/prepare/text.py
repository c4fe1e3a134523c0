"""Text in a picture: cut off, filled, or masked out of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from loratools.dataset.detect.boxes import Box
from loratools.dataset.folder import Size
from loratools.dataset.images import open_image
from loratools.dataset.prepare.manifest import MASKED
from loratools.dataset.prepare.options import TextAction

_BAND: Final = 0.12  # of a side: text that reaches into it may be cut off
_MOST_CUT: Final = 0.25  # of the picture
_WHITE: Final = 255
_RING: Final = 6  # pixels around a box that say what it is filled with
_FLAT: Final = 6.0  # standard deviation of these below which they are flat


@dataclass(frozen=True)
class WithoutText:
    """A picture after its text was dealt with.

    Attributes:
        cut: the part of it that is left, as (left, top, right, bottom).
        masked: boxes that do not count in the loss, in the pixels of what is left.
        actions: what was done, in words.
    """

    image: Image.Image
    cut: tuple[int, int, int, int]
    masked: tuple[Box, ...] = ()
    actions: tuple[str, ...] = ()


def remove_text(image: Image.Image, boxes: Sequence[Box], action: TextAction) -> WithoutText:
    """Deal with boxes of text in an RGB picture; what cannot be cut off or filled is masked."""
    whole = (0, 0, image.width, image.height)
    if action == "keep" or not boxes:
        return WithoutText(image, whole)
    cut, left_over = _cut(image.size, boxes) if action == "crop" else (whole, tuple(boxes))
    done = [f"cut off {len(boxes) - len(left_over)}"] if len(left_over) < len(boxes) else []
    if cut != whole:
        image = image.crop(cut)
    left_over = tuple(box.moved(-cut[0], -cut[1]).within(image.size) for box in left_over)
    left_over = tuple(box for box in left_over if box.area > 0)
    if action == "fill":
        filled = [box for box in left_over if _fill_color(image, box) is not None]
        image = _filled(image, filled)
        left_over = tuple(box for box in left_over if box not in filled)
        done += [f"filled {len(filled)}"] if filled else []
    done += [f"{MASKED} {len(left_over)}"] if left_over else []
    return WithoutText(image, cut, left_over, tuple(done))


def mask_of(size: Size, masked: Sequence[Box]) -> Image.Image:
    """The mask of a picture: white where it is learnt, black in the boxes."""
    mask = Image.new("L", size, _WHITE)
    pen = ImageDraw.Draw(mask)
    for box in masked:
        left, top, right, bottom = np.floor(box.left), np.floor(box.top), np.ceil(box.right), np.ceil(box.bottom)
        pen.rectangle((float(left), float(top), float(right) - 1, float(bottom) - 1), fill=0)
    return mask


def is_white(mask: Path) -> bool:
    """Whether all of a mask's file is learnt."""
    return open_image(mask).convert("L").getextrema()[0] == _WHITE


def _cut(size: Size, boxes: Sequence[Box]) -> tuple[tuple[int, int, int, int], tuple[Box, ...]]:
    """What is left of a picture once text near its edges is cut off, and the text that stays.

    Each box is cut off at the edge where least is lost, as long as a quarter of the picture at most is lost in all.
    """
    left, top, right, bottom = 0, 0, size[0], size[1]
    stays = []
    for box in sorted(boxes, key=lambda one: -one.area):
        if box.right <= left or box.left >= right or box.bottom <= top or box.top >= bottom:
            continue  # cut off already
        choices = []
        if box.top < size[1] * _BAND:
            choices.append((left, int(np.ceil(box.bottom)), right, bottom))
        if box.bottom > size[1] * (1 - _BAND):
            choices.append((left, top, right, int(box.top)))
        if box.left < size[0] * _BAND:
            choices.append((int(np.ceil(box.right)), top, right, bottom))
        if box.right > size[0] * (1 - _BAND):
            choices.append((left, top, int(box.left), bottom))
        best = max(choices, key=_area, default=None)
        if best is None or _area(best) < (1 - _MOST_CUT) * size[0] * size[1]:
            stays.append(box)
        else:
            left, top, right, bottom = best
    return (left, top, right, bottom), tuple(stays)


def _area(box: tuple[int, int, int, int]) -> int:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def _fill_color(image: Image.Image, box: Box) -> tuple[int, ...] | None:
    """The colour around a box, if it is one colour."""
    left, top, right, bottom = box.json()
    outer = (
        max(left - _RING, 0),
        max(top - _RING, 0),
        min(right + _RING, image.width),
        min(bottom + _RING, image.height),
    )
    values = np.asarray(image.crop(outer), dtype=np.float32)
    ring = np.ones(values.shape[:2], dtype=bool)
    ring[top - outer[1] : bottom - outer[1], left - outer[0] : right - outer[0]] = False
    around = values[ring]
    if len(around) < 4 or float(around.std(axis=0).max()) >= _FLAT:
        return None
    return tuple(int(value) for value in np.rint(np.median(around, axis=0)))


def _filled(image: Image.Image, boxes: Sequence[Box]) -> Image.Image:
    if not boxes:
        return image
    colors = [_fill_color(image, box) for box in boxes]
    image = image.copy()
    pen = ImageDraw.Draw(image)
    for box, color in zip(boxes, colors, strict=True):
        left, top, right, bottom = box.json()
        pen.rectangle((left, top, right - 1, bottom - 1), fill=color)
    return image
