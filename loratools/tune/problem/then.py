"""How a tune may go on from what its search found: the ways that train, and searching again on what they made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loratools.errors import TuneError, did_you_mean
from loratools.tune.problem.effort import Effort

PICKS, DEFECT, SEARCH = "picks", "defect-lora", "search"
WAYS = (PICKS, DEFECT, SEARCH)
MOST = 6  # ways one after another; each is measured on the same held-out pictures
_SEEDS = 10  # candidates of a round are so many times the search's prompts
_ROUNDS = 6  # at the very most: a LoRA whose good pictures are rare has to draw many
_SAMPLES = 20  # of an epoch, in the same way
_KEPT = 3  # of each prompt's candidates at the very most


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
        """What goes with the search's own size: 480 candidates at most with a whole one, half with a quick one."""
        count = max(1, effort.prompts // 3)
        return ThenEffort(
            candidates=_SEEDS * count,
            rounds=_ROUNDS,
            prompts=2 * count,
            most=_KEPT * count,
            least=count,
            epochs=4,
            samples=_SAMPLES * count,
        )


def pictures_of(way: str, effort: Effort, shots: tuple[int, int], report: int) -> int:
    """What a way costs, in search pictures, about; a sample that is trained on counts as one.

    Args:
        shots: of the search, its pool and its fresh ones; ``report`` is what the report of one column costs.
    """
    if way == SEARCH:
        return effort.search_pictures(*shots) + 4 * report
    own = ThenEffort.of(effort)
    fine = round(own.rounds * own.candidates * report / max(1, effort.held_out * 3))
    return fine + own.epochs * (own.samples + shots[0]) + report


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
