"""What the held-out pictures say of a search's answer against plain strength; and what to mind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loratools.measures.estimate import Estimate
from loratools.tune.problem.goals import Constraint, Goals
from loratools.tune.report.columns import BEFORE, STRENGTH, TUNED, HeldOut

_CLEAR = 2.0  # standard errors


@dataclass(frozen=True)
class Verdict:
    """Which of two columns is the answer: ``tuned`` or ``strength``, or a later way or what was the answer before.

    Attributes:
        gain: mean cost of the first less that of the second, in units of the LoRA's excess over the base.
        clear: whether that is more than two standard errors.
        lost: constraints that the first misses by more than two standard errors.
    """

    answer: str
    gain: Estimate
    clear: bool
    lost: tuple[str, ...]


def judge_answer(
    held: HeldOut, goals: Goals, column: str = TUNED, other: str = STRENGTH, errors: float = _CLEAR
) -> Verdict:
    """Take ``column`` where it is better than ``other`` and keeps what it should, else ``other``.

    Args:
        goals: made of the held-out pictures of the base and of the whole LoRA.
        errors: standard errors by which it may miss what it should keep, beyond what ``other`` does.
    """
    gain = held.of_values(goals.cost(held.column(column).values), goals.cost(held.column(other).values))
    lost = tuple(each.name for each in goals.constraints if _is_lost(held, each, (column, other), errors))
    better = gain.mean < 0 and not lost
    clear = abs(gain.mean) > _CLEAR * _error(gain)
    return Verdict(column if better else other, gain, clear, lost)


def _is_lost(held: HeldOut, constraint: Constraint, columns: tuple[str, str], errors: float) -> bool:
    """Whether the first column misses a constraint by more than noise, and by more than the second does.

    Noise is that of the difference to the whole LoRA, which the bound comes from; of a way that follows the search, to
    what it goes on from.
    """
    worth, other = (constraint.worth(held.column(name).values[constraint.name]) for name in columns)
    before = BEFORE if columns[1] == STRENGTH else columns[1]
    noise = errors * _error(held.of_values(worth, constraint.worth(held.column(before).values[constraint.name])))
    return float(np.nanmean(worth)) < min(0.0, float(np.nanmean(other))) - noise


def _error(own: Estimate) -> float:
    return 0.0 if own.standard_error != own.standard_error else own.standard_error


def notes_of(held: HeldOut, goals: Goals, verdict: Verdict, keep: float, strength: float) -> Iterator[str]:
    """What a person should know, a sentence each."""
    base, before = held.estimates("base"), held.estimates(BEFORE)
    for target in goals.targets:
        if target.shown_by_base:
            yield (
                f"the base itself shows this symptom: {target.name} {base[target.name].text()} in its own pictures, "
                f"{before[target.name].text()} with the LoRA; no vector of the LoRA mends the base"
            )
    style = f"{100 * keep:g} % of the style and the tags"
    if strength >= 1:
        yield f"no plain strength below 1 keeps {style}"
    if verdict.answer == TUNED and not verdict.clear:
        yield "the tuned vector is better than plain strength by less than two standard errors; look at the sheet"
    if verdict.answer == STRENGTH:
        why = f"it loses {' and '.join(verdict.lost)}" if verdict.lost else "it is no better on pictures it never saw"
        plain = f"plain strength, {strength:g}" if strength < 1 else "the LoRA as it is"
        yield f"the search found nothing that beats plain strength: {why}; the answer is {plain}"
