"""Pairs of prints that show the same picture, or the same scene with something changed.

Three sieves, each for what passed the one before: the correlation of coarse prints and of their edges, over all pairs;
the mean colours of 12 x 12 tiles; and the tiles' own pixels. A *duplicate* differs nowhere by more than resizing and
recompression do; of a *variant* two in five of the tiles that show anything are the same, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from loratools.dataset.facts.facts import PRINT_SIDE, Print

Kind = Literal["duplicate", "variant"]
_Values = npt.NDArray[Any]
_TILES = 12
_TILE = PRINT_SIDE // _TILES
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_ALIKE = 1.25  # sum of the two correlations, of 2, from which on a pair is looked at closely
_SAME_RATIO = 0.045  # most that the logarithms of two ratios differ
_RESAMPLED = 11.0  # most that a tile of a copy differs, root mean square of 255
_NOISY = 24.0  # the same of a copy that differs everywhere,
_EVEN = 1.7  # which is where no tile differs more than so many times as much as three in four do
_UNCHANGED = 10.0  # most that a tile of a variant differs that was not changed
_SHOWS = 8.0  # standard deviation of grey from which on a tile shows something
_VARIANT = 0.39  # share of such tiles that are unchanged in a variant
_FEWEST = 8  # such tiles, for the share to mean anything
_GAIN = 0.15  # most that a copy is lighter or darker
_ROWS = 1024  # prints compared with all others at a time
_BATCH = 512  # pairs looked at closely at a time
_MEANS_BATCH = 65536


@dataclass(frozen=True)
class Pair:
    """Two prints by their indices, the lower first; ``score`` of 0 to 1 is the share of tiles that are the same."""

    first: int
    second: int
    kind: Kind
    score: float


def find_pairs(prints: Sequence[Print], ratios: Sequence[float], since: int = 0) -> list[Pair]:
    """All pairs of duplicates and variants.

    Args:
        prints: (48, 48, 3) each.
        ratios: width by height of each picture.
        since: pairs of which both are before this index are known already, and are left out.
    """
    if len(prints) < 2:
        return []
    stack, logs = np.stack(prints), np.log(np.asarray(ratios, dtype=np.float64))
    tiles = _Tiles.of(stack)
    pairs: list[Pair] = []
    for first, second in _candidates(stack, logs, since):
        for start in range(0, len(first), _MEANS_BATCH):
            one, other = first[start : start + _MEANS_BATCH], second[start : start + _MEANS_BATCH]
            likely = tiles.likely(one, other)
            one, other = one[likely], other[likely]
            for begin in range(0, len(one), _BATCH):
                part = slice(begin, begin + _BATCH)
                pairs += _judged(stack, tiles, one[part], other[part])
    return pairs


def _candidates(stack: _Values, logs: _Values, since: int) -> Iterator[tuple[_Values, _Values]]:
    """Indices of pairs of one ratio whose coarse prints and edges correlate."""
    grey, edges = _coarse(stack)
    columns = np.arange(len(stack))
    for start in range(0, len(stack), _ROWS):
        rows = columns[start : start + _ROWS, None]
        alike = grey[start : start + _ROWS] @ grey.T + edges[start : start + _ROWS] @ edges.T
        wanted = (alike > _ALIKE) & (columns > rows) & (columns >= since)
        first, second = np.nonzero(wanted)
        first += start
        same = np.abs(logs[first] - logs[second]) <= _SAME_RATIO
        yield first[same], second[same]


def _coarse(stack: _Values) -> tuple[_Values, _Values]:
    """Two vectors of length 1 a print: its grey in 16 x 16 parts, and its edges, both around their mean."""
    grey_parts, edge_parts = [], []
    for start in range(0, len(stack), _ROWS):
        grey = stack[start : start + _ROWS].astype(np.float32) @ _GREY
        edges = np.zeros_like(grey)
        edges[:, :-1] += np.abs(np.diff(grey, axis=1))
        edges[:, :, :-1] += np.abs(np.diff(grey, axis=2))
        grey_parts.append(_vectors(grey))
        edge_parts.append(_vectors(np.sqrt(np.minimum(edges, 80))))
    return np.concatenate(grey_parts), np.concatenate(edge_parts)


def _vectors(values: _Values) -> _Values:
    parts = PRINT_SIDE // 16
    coarse = values.reshape(len(values), 16, parts, 16, parts).mean(axis=(2, 4)).reshape(len(values), -1)
    coarse = coarse - coarse.mean(axis=1, keepdims=True)
    vectors: _Values = coarse / np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-3)
    return vectors


@dataclass(frozen=True)
class _Tiles:
    """(prints, 144) mean grey of the tiles, and whether they show anything."""

    means: _Values
    shows: _Values

    @classmethod
    def of(cls, stack: _Values) -> _Tiles:
        means, shows = [], []
        for start in range(0, len(stack), _ROWS):
            tiled = _tiled(stack[start : start + _ROWS].astype(np.float32) @ _GREY)
            means.append(tiled.mean(axis=(2, 4)).reshape(len(tiled), -1))
            shows.append(tiled.std(axis=(2, 4)).reshape(len(tiled), -1) > _SHOWS)
        return cls(np.concatenate(means), np.concatenate(shows))

    def likely(self, first: _Values, second: _Values) -> _Values:
        """Whether pairs may be of either kind: a root mean square is never below the difference of the means."""
        one, other = self.means[first], self.means[second]
        unchanged: _Values = self.share(np.abs(one - other) < _UNCHANGED, first, second) >= _VARIANT
        gain = np.clip(other.mean(axis=1) / np.maximum(one.mean(axis=1), 1), 1 - _GAIN, 1 + _GAIN)[:, None]
        copied: _Values = np.abs(one * gain - other).max(axis=1) < 2 * _NOISY
        return unchanged | copied

    def share(self, unchanged: _Values, first: _Values, second: _Values) -> _Values:
        """The share of unchanged tiles among those that show something; 0 where too few do."""
        shows = self.shows[first] | self.shows[second]
        count = shows.sum(axis=1)
        share: _Values = np.where(count >= _FEWEST, (unchanged & shows).sum(axis=1) / np.maximum(count, 1), 0.0)
        return share


def _judged(stack: _Values, tiles: _Tiles, first: _Values, second: _Values) -> Iterator[Pair]:
    """The pairs among those given that are duplicates or variants."""
    one, other = stack[first].astype(np.float32), stack[second].astype(np.float32)
    flat_one, flat_other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    gain = (flat_one * flat_other).sum(axis=1) / np.maximum((flat_one**2).sum(axis=1), 1)
    gain = np.clip(gain, 1 - _GAIN, 1 + _GAIN)[:, None, None, None]
    copied = _copied(_differences(np.minimum(one * gain, 255), other))
    share = tiles.share(_differences(one, other) < _UNCHANGED, first, second)
    for index in np.nonzero(copied | (share >= _VARIANT))[0]:
        kind: Kind = "duplicate" if copied[index] else "variant"
        score = 1.0 if copied[index] else float(share[index])
        yield Pair(int(first[index]), int(second[index]), kind, round(score, 3))


def _copied(differences: _Values) -> _Values:
    """Whether tiles differ as little as a copy's do: hardly, or everywhere alike, as a small JPEG does."""
    most = differences.max(axis=1)
    even = (most <= _NOISY) & (most <= _EVEN * (np.percentile(differences, 75, axis=1) + 3))
    copied: _Values = (most <= _RESAMPLED) | even
    return copied


def _differences(one: _Values, other: _Values) -> _Values:
    """(pairs, 144) root mean square difference of each tile."""
    squares = ((one - other) ** 2).mean(axis=-1)
    result: _Values = np.sqrt(_tiled(squares).mean(axis=(2, 4))).reshape(len(one), -1)
    return result


def _tiled(values: _Values) -> _Values:
    return values.reshape(len(values), _TILES, _TILE, _TILES, _TILE)
