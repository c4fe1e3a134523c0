"""The guides' 0.9 test: does a row's LoRA work up to a weight of 0.9 without breaking the picture?

Measured on the rendered pictures alone, each against the base's own for the same prompt and seed, so it needs no other
model. It knows the ways in which a picture falls apart, not taste: a picture that passes may still be a bad likeness.

- falls apart: the shape of its spectrum left the base's (a Kullback-Leibler divergence above ``_SPECTRUM``) and its
  outlines no longer lie where the base's do (correlation below ``_OUTLINES``). A style alone moves one of the two:
  hatching moves outlines, pencil or neon the spectrum; noise and blots move both;
- fades: it has less than ``_FLAT`` of the base's contrast;
- burnt: more than ``_BURNT`` of the pixels are clipped to black or white beyond those that the base's picture clips,
  and contrast grew;
- one picture for all: with several prompts or seeds, the pictures of a weight differ from each other less than
  ``_ALIKE`` times as much as the base's do;
- strays, which is reported up to a weight of 1 and fails nothing: outlines as above, and the colours no longer lie
  where the base's do (correlation below ``_COLOURS``). The picture may be whole, but it is another one: the prompt is
  no longer followed, a training picture shows through, or the LoRA composes otherwise, as one of a character may.

A weight breaks or strays where at least half of its pictures do. Between two weights nothing is known, so a row that
holds below 0.9 and breaks above it is open, and so is one that breaks at the least weight if that is above 1.

The limits were set by eye on 320 pictures of overfit runs of two styles on the pocket base, ``_COLOURS`` on two ink
runs, and on drawings in every style: those pass, and what no longer shows a figure does not. ``python -m
benchmarks.verdict GRID...`` counts how often they are right by the pocket's judge, which saw a few cells that only
stray and show no figure: ``benchmarks/results/verdict.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

TESTED = 0.9
_SPECTRUM, _OUTLINES, _COLOURS = 0.17, 0.3, 0.4
_FLAT, _BURNT, _ALIKE = 0.35, 0.35, 0.35
_TILES, _PATCHES = 24, 8  # outlines are compared by their amount in so many tiles across and down, colours in patches
_SEEN = 1.0  # a greatest difference of this many 255ths or less is no change: rounding alone gives one
_SHORT = 192  # sides above this are read at half size and so on: single pixels of a large picture are not its detail

Pixels = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """What a row's pictures say; ``level`` is ``good``, ``under``, ``over`` or ``note``, as pages colour them.

    Args:
        text: one line for a person.
        holds: the greatest weight up to which nothing breaks, from 0 on; None if the first one above 0 breaks.
        breaks: the least weight above 0 at which half of the pictures break, if any, and ``why``.
        moved: mean difference from the base, of 255, at the weight nearest to 0.9.
    """

    level: str
    text: str
    holds: float | None = None
    breaks: float | None = None
    why: str = ""
    moved: float = 0.0


@dataclass(frozen=True, eq=False)
class PictureMeasures:
    """A picture, and what is compared of it, each measured when it is first needed.

    Args:
        kept: its pixels (height, width, 3) in 0 to 255, of any type.
    """

    kept: npt.NDArray[Any]

    @property
    def pixels(self) -> Pixels:
        """Its pixels in float32."""
        return self.kept.astype(np.float32, copy=False)

    def measure(self) -> PictureMeasures:
        """Measure all of it now."""
        _ = self.contrast, self.octaves, self.outlines, self.colours, self.clipped
        return self

    @cached_property
    def contrast(self) -> float:
        return float(self.pixels.std())

    @cached_property
    def octaves(self) -> npt.NDArray[np.float64]:
        """Shares of the energy in octaves of spatial frequency, 1 to 2 cycles a picture and up."""
        grey = self.pixels.mean(axis=2, dtype=np.float64)
        window, octave, count = _spectrum_of(grey.shape)
        power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
        energy = np.bincount(octave, power.ravel())[1 : count + 1] + 1e-6
        return energy / energy.sum()  # type: ignore[no-any-return]

    @cached_property
    def outlines(self) -> Pixels:
        """How much outline each tile has."""
        grey = self.pixels.mean(axis=2)
        return _tiled(np.hypot(np.diff(grey, axis=0)[:, :-1], np.diff(grey, axis=1)[:-1]), _TILES)

    @cached_property
    def colours(self) -> Pixels:
        """The colour of each patch."""
        return _tiled(self.pixels, _PATCHES)

    @cached_property
    def clipped(self) -> float:
        """The part of the pixels that are black or white."""
        return float(((self.kept <= 1) | (self.kept >= 254)).all(axis=2).mean())


@lru_cache(maxsize=8)
def _spectrum_of(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], int]:
    """A picture's window, the octave of each of its frequencies from 1 on (below 1 cycle: 0), and their number."""
    window = np.hanning(shape[0])[:, None] * np.hanning(shape[1])
    down, across = (np.fft.fftfreq(side) * side for side in shape)
    octave = np.floor(np.log2(np.maximum(np.hypot(down[:, None], across), 0.5))).astype(int) + 1
    return window, octave.ravel(), int(math.log2(min(shape) / 2))


def judge_pictures(pictures: Mapping[float, Sequence[PictureMeasures]]) -> Verdict:
    """The verdict over one row's pictures by weight, in one order of prompts and seeds; weight 0 is the base."""
    base = pictures[0.0]
    others = sorted((weight for weight in pictures if weight != 0), key=abs)
    if not others:
        return Verdict("note", "0.9 test: no weight but 0 was rendered")
    if all(_change(base, pictures[weight])[1] <= _SEEN for weight in others):
        return Verdict("under", f"changes nothing in the picture, up to a weight of {others[-1]:g}")
    rising = [weight for weight in others if weight > 0]
    if not rising:
        return Verdict("note", "0.9 test: no weight above 0 was rendered")
    near = min(rising, key=lambda weight: abs(weight - TESTED))
    verdict = _rise(base, {weight: pictures[weight] for weight in rising})
    return replace(verdict, moved=_change(base, pictures[near])[0])


def _rise(base: Sequence[PictureMeasures], pictures: Mapping[float, Sequence[PictureMeasures]]) -> Verdict:
    """What happens from the least weight above 0 to the greatest."""
    holds, strays = 0.0, ""
    for weight, own in pictures.items():
        if why := _broken(base, own):
            return _breaks(holds, weight, why, strays)
        if not strays and weight <= 1 and _half([_strays(one, two) for one, two in zip(base, own, strict=True)]):
            strays = f"; another picture than the base's from {weight:g} on"
        holds = weight
    if holds < TESTED:
        return Verdict("note", f"0.9 test: not reached; holds up to {holds:g}{strays}", holds)
    return Verdict("note" if strays else "good", f"0.9 test: passes, holds up to {holds:g}{strays}", holds)


def _breaks(holds: float, weight: float, why: str, strays: str) -> Verdict:
    """The verdict on a row that breaks at ``weight``."""
    if holds >= TESTED:
        level, said = "note" if strays else "good", f"passes, breaks at {weight:g}"
    elif holds > 0 and weight > TESTED:
        level, said = "note", f"open, holds at {holds:g} and breaks at {weight:g}"
    elif weight > 1:
        level, said = "note", f"open, breaks at {weight:g} and no weight up to {TESTED:g} was rendered"
    else:
        level, said = "over", f"fails, breaks at {weight:g}"
    return Verdict(level, f"0.9 test: {said} ({why}){strays}", holds or None, weight, why)


def _broken(base: Sequence[PictureMeasures], pictures: Sequence[PictureMeasures]) -> str:
    """Why half or more of ``pictures`` are broken beside the base's of the same prompts and seeds; empty if not."""
    reasons = [_reason(one, two) for one, two in zip(base, pictures, strict=True)]
    if _half([bool(why) for why in reasons]):
        return max(set(reasons) - {""}, key=lambda why: (reasons.count(why), why))
    if len(pictures) > 1 and (usual := _spread(base)) > 0 and _spread(pictures) < _ALIKE * usual:
        return "one picture for all prompts and seeds"
    return ""


def _half(values: Sequence[bool]) -> bool:
    """Whether it is so of half of the pictures or more."""
    return 2 * sum(values) >= len(values)


def _strays(base: PictureMeasures, picture: PictureMeasures) -> bool:
    return _agree(base.outlines, picture.outlines) < _OUTLINES and _agree(base.colours, picture.colours) < _COLOURS


def _reason(base: PictureMeasures, picture: PictureMeasures) -> str:
    contrast = picture.contrast / max(base.contrast, 1e-3)
    if contrast < _FLAT:
        return "fades"
    if _divergence(picture, base) > _SPECTRUM and _agree(base.outlines, picture.outlines) < _OUTLINES:
        return "falls apart"
    if contrast > 1 and picture.clipped - base.clipped > _BURNT:
        return "burnt"
    return ""


def _divergence(picture: PictureMeasures, base: PictureMeasures) -> float:
    """Of the shares of energy in octaves of spatial frequency."""
    return float((picture.octaves * np.log(picture.octaves / base.octaves)).sum())


def _agree(one: Pixels, two: Pixels) -> float:
    """The correlation over all tiles, each channel around its own mean; 0 where a picture has nothing in it."""
    a, b = one - one.mean(axis=(0, 1)), two - two.mean(axis=(0, 1))
    return float((a * b).sum() / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-9))


def _tiled(values: Pixels, count: int) -> Pixels:
    """Sums over ``count`` tiles down and across."""
    cuts = [np.unique(np.linspace(0, side, count + 1).astype(int)[:-1]) for side in values.shape[:2]]
    tiles: Pixels = np.add.reduceat(np.add.reduceat(values, cuts[0], axis=0), cuts[1], axis=1)
    return tiles


def _change(base: Sequence[PictureMeasures], pictures: Sequence[PictureMeasures]) -> tuple[float, float]:
    """The mean and the greatest difference from the base."""
    apart = [np.abs(one.pixels - two.pixels) for one, two in zip(base, pictures, strict=True)]
    return float(np.mean([each.mean() for each in apart])), max(float(each.max()) for each in apart)


def _spread(pictures: Sequence[PictureMeasures]) -> float:
    """How far pictures are from their mean; 0 for sizes that differ."""
    if len({picture.pixels.shape for picture in pictures}) > 1:
        return 0.0
    whole = np.stack([picture.pixels for picture in pictures])
    return float(np.abs(whole - whole.mean(axis=0)).mean())


def reduced(image: Image) -> Bytes:
    """A picture as :class:`PictureMeasures` takes it: (height, width, 3) in 0 to 255, large ones reduced."""
    image = image.convert("RGB")
    factor = max(1, min(image.size) // _SHORT)
    return np.array(image.reduce(factor) if factor > 1 else image)


def read_pixels(path: Path) -> Bytes:
    """The picture at ``path`` as :func:`reduced` makes it."""
    from PIL import Image as images

    with images.open(path) as opened:
        return reduced(opened)
