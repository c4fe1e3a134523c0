"""From what was seen to vectors worth drawing: the best by the model, and simpler ones that lose little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.history import History
from loratools.tune.problem.space import Space
from loratools.tune.search.local import Search
from loratools.tune.search.model import Model
from loratools.tune.search.simpler import rounded, simpler_vectors, simplest

_CAUTION = 0.5  # standard deviations, while searching
_SURE = 1.0  # standard deviations that the style of an answer is above its bound
LOSS = 0.08  # of the whole excess: what a simpler vector may lose at most


@dataclass(frozen=True)
class Kinds:
    """Which vectors are drawn for many shots.

    Attributes:
        cautions: of the best ones, whatever blocks they move.
        losses: by the model, of the whole excess, of vectors that are simpler than the best one of ``caution``.
    """

    cautions: tuple[float, ...]
    losses: tuple[float, ...]
    caution: float


CHECKED = Kinds((0.5, 1.5), (LOSS,), 1.0)  # for many shots
FINAL = Kinds((0.0, 1.0, 2.0), (LOSS / 2, LOSS), 1.0)  # for shots that the search had not


def best_point(
    model: Model, history: History, space: Space, random: np.random.Generator, caution: float = _CAUTION
) -> Array:
    """The vector of the least expected total, whatever blocks it moves."""
    everything = np.ones(len(space.start), dtype=bool)
    return Search(model, space, random, caution).best(history.points(), everything)[0]


def answers(
    model: Model, history: History, space: Space, random: np.random.Generator, kinds: Kinds = CHECKED
) -> list[Array]:
    """Vectors worth drawing for many shots, each once: simple ones, and the best, as bold and as cautious as asked."""
    middle = Search(model, space, random, kinds.caution)
    best = best_point(model, history, space, random, kinds.caution)
    path = simpler_vectors(middle, best, max(kinds.losses))
    chosen = [simplest(path, loss) for loss in kinds.losses]
    chosen += [best_point(model, history, space, random, caution) for caution in kinds.cautions]
    return [np.array(point) for point in dict.fromkeys(tuple(rounded(point, space)) for point in chosen)]


def chosen_answer(points: Array, model: Model, space: Space, plain: Array | None = None) -> Array:
    """Of vectors that were drawn for many shots: the best by the model, or one that moves fewer blocks and is nearly as
    good.

    The whole LoRA or ``plain`` strength, which are simpler than any vector, are the answer where nothing is better than
    these by more than :data:`LOSS`.
    """
    totals = model.total(points, _SURE)
    if plain is not None:
        is_plain = np.isclose(points, plain, atol=1e-3).all(1) | np.isclose(points, space.start, atol=1e-3).all(1)
        if is_plain.any():
            simple = points[is_plain][totals[is_plain].argmin()]
            if is_plain.all() or totals[~is_plain].min() >= totals[is_plain].min() - LOSS:
                return np.asarray(simple, dtype=np.float64)
            points, totals = points[~is_plain], totals[~is_plain]
    first = points[totals.argmin()]
    noise = model.cost.difference(points - space.start, first - space.start)[1]
    return np.asarray(points[fewest_moved(points, totals, space, noise)], dtype=np.float64)


def fewest_moved(points: Array, totals: Array, space: Space, noise: Array | Sequence[float] | float = np.inf) -> int:
    """The index of the least of ``totals`` (n,), or of a vector that moves fewer blocks and loses no more than
    :data:`LOSS`, and no more than what the two are told apart by (Breiman, Friedman, Olshen and Stone 1984: the
    simplest within one standard error).

    Args:
        noise: the standard error of each one's difference to the least (n,).
    """
    moved = (~np.isclose(points, space.start)).sum(1)
    near = totals <= totals.min() + np.minimum(noise, LOSS)
    return int(np.where(near, moved * 1e3 + totals, np.inf).argmin())
