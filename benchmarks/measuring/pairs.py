"""What choices between pictures teach a probe: AUCs on pictures that nothing was learnt from, after 20, 40 and 60.

A choice is between two vectors of what ``benchmarks.measure_data`` stored, three pictures of either, of three prompts.
The voter knows the judge's grades and is as unsure as an eighth of the whole LoRA's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.measuring.measured_loras import (
    BROKEN,
    IN_STYLE,
    SHOTS,
    SOUND,
    Lora,
    by_vector,
    rank_correlation,
    table,
    within_shots,
)
from loratools.errors import UnsureError
from loratools.measures.measure import Shown
from loratools.measures.probe.pairs import PairChoice, pair_measures
from loratools.measures.votes.preference import normal

Values = npt.NDArray[np.float64]
CHOICES = (20, 40, 60)
SEEDS = 4
_UNSURE = 0.125  # of the whole LoRA's grade
_SIDE = 3  # pictures


def pairs_report(loras: Sequence[Lora]) -> str:
    """The section of the page."""
    rows: list[list[str | float]] = []
    for lora in loras:
        cells: list[str | float] = [lora.name]
        runs = np.array([_run(lora, seed) for seed in range(SEEDS)])  # (seeds, counts, figures)
        for number in range(len(CHOICES)):
            known = runs[:, number]
            means = [float(np.nanmean(own)) if not np.isnan(own).all() else float("nan") for own in known.T]
            trusted = int((~np.isnan(known[:, 0])).sum())
            figures = ", ".join("-" if np.isnan(own) else f"{own:.2f}" for own in means)
            cells.append(f"{figures} ({trusted})")
        rows.append(cells)
    heads = ["LoRA", *(f"after {count} choices" for count in CHOICES)]
    return f"""## Choices between pictures (`votes`)

What a tune by votes is led by: a probe of pictures, taught by choices between two vectors at random, {_SIDE} pictures
of either. Cells: share of choices foretold that it had not learnt from (what the user is told), AUC of test pictures,
AUC of those in the style, r over vectors; each the mean of those of {SEEDS} runs (their number) in which the choices
foretell others better than a coin. Where they do not yet, a tune asks for more.

{table(heads, rows)}

Twenty choices are worth forty marks (above), since each is about six pictures of the same prompts. More of them, of the
same pictures, add little: later rounds ask about what the search has come to instead."""


def _run(lora: Lora, seed: int) -> list[list[float]]:
    """For each number of choices: foretold, AUC, AUC in style, r."""
    random = np.random.default_rng(seed)
    features = np.concatenate([lora.features("search"), lora.features("test")])
    grades = lora.truth("search", "defect").reshape(-1, SHOTS)
    begin = grades.size

    def describe(pictures: Sequence[Shown]) -> Values:
        return features[[picture.seed for picture in pictures]]

    def shown(vector: int, shots: Sequence[int]) -> tuple[Shown, ...]:
        return tuple(_picture(vector * SHOTS + shot, f"prompt {shot // 2}") for shot in shots)

    choices = []
    for _ in range(max(CHOICES)):
        shots = [2 * int(prompt) + int(random.integers(2)) for prompt in random.permutation(SHOTS // 2)[:_SIDE]]
        one, two = (int(n) for n in random.choice(np.arange(1, len(grades)), 2, replace=False))
        better = (grades[two][shots].mean() - grades[one][shots].mean()) / (_UNSURE * grades[1].mean())
        won = float(random.random() < normal(np.array([better]))[0])
        names = tuple(f"{vector} {shots}" for vector in (one, two))
        choices.append(PairChoice(shown(one, shots), shown(two, shots), won, (names[0], names[1])))
    base, whole = shown(0, range(SHOTS)), shown(1, range(SHOTS))
    tested = [_picture(begin + n, "") for n in range(len(features) - begin)]
    told = []
    for count in CHOICES:
        try:
            built = pair_measures(choices[:count], describe, base, whole)
        except UnsureError:  # the tune would ask for more
            told.append([float("nan")] * 4)
            continue
        told.append([_foretold(built.notes[0]), *_figures(lora, built.measure(tested))])
    return told


def _picture(number: int, prompt: str) -> Shown:
    """A picture that is known by its number alone."""
    return Shown(np.zeros((1, 1, 3), dtype=np.uint8), prompt, number)


def _foretold(note: str) -> float:
    right, of = note.removeprefix("votes: ").split(" choices")[0].split(" of ")
    return int(right) / int(of)


def _figures(lora: Lora, figures: Values) -> list[float]:
    grade, style = lora.truth("test", "defect"), lora.truth("test", "style")
    own, kept = np.arange(len(grade)) >= SHOTS, style > IN_STYLE
    broken, sound = own & (grade > BROKEN), own & (grade < SOUND)
    r = rank_correlation(by_vector(figures), by_vector(grade))
    return [within_shots(broken, sound, figures), within_shots(broken & kept, sound & kept, figures), r]
