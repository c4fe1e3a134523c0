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
HALVED, KEPT = 0.5, 0.9  # of the whole LoRA's defect, and of its style
_UNSURE = 0.125  # of the whole LoRA's grade
_SIDE = 3  # pictures
_SIGN = {"lower": -1.0, "higher": 1.0}


def pairs_report(loras: Sequence[Lora]) -> str:
    """The section of the page."""
    rows: list[list[str | float]] = []
    led: list[list[str | float]] = []
    judged: list[tuple[float, float]] = []
    halved = np.zeros(len(CHOICES), dtype=int)
    for lora in loras:
        cells, leaders = list[str | float]([lora.name]), list[str | float]([lora.name])
        runs = np.array([_run(lora, seed) for seed in range(SEEDS)])  # (seeds, counts, figures)
        judged.append(_leader(lora, -lora.truth("test", "defect")))
        leaders.append("{:.2f}, {:.2f}".format(*judged[-1]))
        for number in range(len(CHOICES)):
            known = runs[:, number]
            means = [float(np.nanmean(own)) if not np.isnan(own).all() else float("nan") for own in known.T]
            trusted = int((~np.isnan(known[:, 0])).sum())
            figures = ", ".join("-" if np.isnan(own) else f"{own:.2f}" for own in means[:-2])
            cells.append(f"{figures} ({trusted})")
            done = int(((known[:, -2] <= HALVED) & (known[:, -1] >= KEPT)).sum())
            halved[number] += done
            leaders.append(f"{means[-2]:.2f}, {means[-1]:.2f}, {done}")
        rows.append(cells)
        led.append(leaders)
    heads = ["LoRA", *(f"after {count} choices" for count in CHOICES)]
    sure = sum(own[0] <= HALVED and own[1] >= KEPT for own in judged)
    of, drawn = SEEDS * len(loras), len(by_vector(loras[0].truth("test", "defect"))) - 1
    counts = ", ".join(f"{own} after {count}" for own, count in zip(halved, CHOICES, strict=True))
    return f"""## Choices between pictures (`votes`)

What a tune by votes is led by: a probe of pictures, taught by choices between two vectors at random, {_SIDE} pictures
of either. Cells: share of choices foretold that it had not learnt from (what the user is told), AUC of test pictures,
AUC of those in the style, r over vectors; each the mean of those of {SEEDS} runs (their number) in which the choices
foretell others better than a coin. Where they do not yet, a tune asks for more.

{table(heads, rows)}

Twenty choices are worth forty marks (above), since each is about six pictures of the same prompts. More of them, of the
same pictures, add little: later rounds ask about what the search has come to instead.

How far that leads without any search: of {drawn} random vectors that nothing was learnt from, the one that the probe
likes best, of those that keep {100 * KEPT:.0f}% of the style, by the pictures of one seed. Cells are of the other seed:
its share of the whole LoRA's defect, of its style, and in how many of {SEEDS} runs the defect is halved with
{100 * KEPT:.0f}% of the style kept. "By the judge" is what the judge itself would take of the same vectors.

{table(["LoRA", "by the judge", *heads[1:]], led)}

Halved with the style kept, of {of} runs: {counts}. By these few vectors the
judge itself would halve it in {sure} of {len(loras)} LoRAs. A whole tune by choices, which draws hundreds more, has not
been measured on pictures."""


def _leader(lora: Lora, liked: Values) -> tuple[float, float]:
    """Of the vectors that keep the style, the one that is ``liked`` most, by the test's pictures of one seed: its
    shares of the whole LoRA's defect and style by those of the other."""
    seen = by_vector(_of_seed(lora.truth("test", "style"), 0), SHOTS // 2)
    wanted = by_vector(_of_seed(liked, 0), SHOTS // 2)
    chosen = int(np.where(seen >= KEPT * seen[0], wanted, -np.inf).argmax())
    own = [by_vector(_of_seed(lora.truth("test", what), 1), SHOTS // 2) for what in ("defect", "style")]
    return float(own[0][chosen] / own[0][0]), float(own[1][chosen] / own[1][0])


def _of_seed(values: Values, seed: int) -> Values:
    """Those of a vector's shots, prompts before seeds, that have one of the two seeds."""
    return values[seed::2]


def _run(lora: Lora, seed: int) -> list[list[float]]:
    """For each number of choices: foretold, AUC, AUC in style, r, and the leader's shares of defect and style."""
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
            told.append([float("nan")] * 6)
            continue
        figures = built.measure(tested)
        leader = _leader(lora, _SIGN[built.measure.better] * figures)
        told.append([_foretold(built.notes[0]), *_figures(lora, figures), *leader])
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
