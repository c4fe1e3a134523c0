"""How a tune may go on from what its search found: the ways that train, and searching again on what they made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loratools.errors import TuneError, did_you_mean
from loratools.tune.problem.effort import FULL, Effort

PICKS, DEFECT, SEARCH = "picks", "defect-lora", "search"
WAYS = (PICKS, DEFECT, SEARCH)
_FINE, _MODES = 2, 3  # search pictures that a fine one costs, about; ways to subtract that are compared
MOST = 6  # ways one after another; each is measured on the same held-out pictures


@dataclass(frozen=True)
class ThenEffort:
    """How much a way that trains draws and trains.

    Attributes:
        candidates: pictures of a round that are drawn to choose from, of ``prompts`` prompts; ``rounds`` at most, until
            ``most`` are good, which are learnt from. With fewer than ``least`` nothing is.
        epochs: of each training, and ``samples`` that an epoch shows.
    """

    candidates: int
    rounds: int
    prompts: int
    most: int
    least: int
    epochs: int
    samples: int

    @staticmethod
    def of(effort: Effort) -> ThenEffort:
        """What goes with a search's own size: a whole one's, or a quick one's."""
        return WHOLE_WAY if effort.generations >= FULL.generations else QUICK_WAY


WHOLE_WAY = ThenEffort(candidates=80, rounds=6, prompts=16, most=24, least=8, epochs=4, samples=400)
QUICK_WAY = ThenEffort(candidates=40, rounds=6, prompts=8, most=12, least=4, epochs=4, samples=80)


def pictures_of(way: str, effort: Effort, pool: int, report: int) -> int:
    """What a way costs, in search pictures, about; a sample that is trained on counts as one.

    Args:
        pool: shots of the search, and ``report`` what the report of one column costs.
    """
    again = effort.search_pictures(pool, effort.fresh) + 5 * report
    if way == SEARCH:
        return again
    own = ThenEffort.of(effort)
    drawn = own.rounds * own.candidates * _FINE
    if way == DEFECT:
        return drawn + 2 * own.epochs * own.samples + again + (1 + _MODES) * pool
    return drawn + own.epochs * (own.samples + pool) + report


def read_ways(texts: Sequence[str]) -> tuple[str, ...]:
    """The ways that ``texts`` name, in order; several may stand in one, parted by commas.

    Raises:
        TuneError: for a way that there is not, more than :data:`MOST`, or a search right after the first one.
    """
    ways = tuple(word.strip().lower() for text in texts for word in text.split(",") if word.strip())
    check_ways(ways)
    return ways


def check_ways(ways: Sequence[str]) -> None:
    """Raise as :func:`read_ways`."""
    for way in ways:
        if way not in WAYS:
            raise TuneError(
                f"there is no way '{way}' to go on after a search{did_you_mean(way, WAYS)}; give {', '.join(WAYS)}"
            )
    if len(ways) > MOST:
        raise TuneError(
            f"{len(ways)} ways one after another are too many to be told apart by the same held-out pictures; give "
            f"{MOST} at most"
        )
    if ways and ways[0] == SEARCH:
        raise TuneError(f"a tune is a search already; a second one goes after {PICKS} or {DEFECT}")
