"""What the held-out pictures say of a search's answer against plain strength; and what to mind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from loratools.measures.estimate import Estimate
from loratools.measures.measure import Better
from loratools.tune.problem.goals import Constraint, Goals
from loratools.tune.report.columns import BEFORE, STRENGTH, TUNED, HeldOut

_CLEAR = 2.0  # standard errors
_SURE = 1.0  # by so many what is less simple has to be better, or the simpler one is the answer


@dataclass(frozen=True)
class Verdict:
    """Which of two columns is the answer: ``tuned`` or ``strength``, or a later way or what was the answer before.

    Attributes:
        gain: mean cost of the first less that of the second, in units of the LoRA's excess over the base.
        clear: whether that is more than two standard errors.
        lost: constraints that the first misses by more than noise.
        unseen: measures that only check, in which the gain does not show.
    """

    answer: str
    gain: Estimate
    clear: bool
    lost: tuple[str, ...]
    unseen: tuple[str, ...] = ()


def judge_answer(
    held: HeldOut,
    goals: Goals,
    checks: Mapping[str, Better] | None = None,
    columns: tuple[str, str] = (TUNED, STRENGTH),
    errors: float = _CLEAR,
) -> Verdict:
    """Take the first of ``columns`` where it is better than the second by more than a standard error and keeps what it
    should, else the second, which is the simpler one.

    Args:
        goals: made of the held-out pictures of the base and of the whole LoRA.
        checks: measures that led nothing, and which way is better: what led the search may have been fooled by it.
        errors: standard errors by which it may miss what it should keep, beyond what the second does.
    """
    first, second = columns
    gain = held.of_values(goals.cost(held.column(first).values), goals.cost(held.column(second).values))
    lost = tuple(each.name for each in goals.constraints if _is_lost(held, each, columns, errors))
    unseen = tuple(name for name, better in (checks or {}).items() if not _is_seen(held, name, better, columns))
    error = np.nan_to_num(gain.standard_error, nan=np.inf)  # a single picture shows nothing
    better = bool(gain.mean < -_SURE * error and not lost and not unseen)
    clear = bool(abs(gain.mean) > _CLEAR * error)
    return Verdict(first if better else second, gain, clear, lost, unseen)


def _is_seen(held: HeldOut, name: str, better: Better, columns: tuple[str, str]) -> bool:
    """Whether the first column is better than the second by this measure too, by more than a standard error: half of
    all that is chance looks better by a little."""
    change = held.difference(*columns, name)
    gain = -change.mean if better == "lower" else change.mean
    return bool(gain > _SURE * _error(change))


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
        why = "it is no better on pictures it never saw"
        if verdict.gain.mean < 0:
            why = "it is better by less than a standard error on pictures it never saw"
            if np.isnan(verdict.gain.standard_error):
                why = "a single picture that it never saw cannot tell; give more prompts or seeds"
        if verdict.lost:
            why = f"it loses {' and '.join(verdict.lost)}"
        elif verdict.unseen and verdict.gain.mean < 0:
            why = f"what it gains does not show in {' and '.join(verdict.unseen)}, so the measure may have been fooled"
        plain = f"plain strength, {strength:g}" if strength < 1 else "the LoRA as it is"
        yield f"the search found nothing that beats plain strength: {why}; the answer is {plain}"
