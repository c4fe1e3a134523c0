"""The lexicographic rule, branch by branch, on figures that were made up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from loratools.tune.epochs.decide import Copies, Decision, Evidence, Thresholds, WeightTest, decide
from loratools.tune.epochs.figures import Figure, clearly, limit
from loratools.tune.epochs.reasons import numbers_text

PROMPTS, SEEDS = 8, 4
N = PROMPTS * SEEDS


def figure(
    name: str, means: Sequence[float], *, base: float | None = 0.0, better: str = "higher", noise: float = 0.02
) -> Figure:
    """Pictures whose means are exact, with independent noise that no mean sees."""
    rng = np.random.default_rng(7)
    rows = rng.normal(0, noise, (len(means), N))
    rows -= rows.mean(1, keepdims=True)
    own = None if base is None else np.full(N, base)
    prompts = tuple(str(n // SEEDS) for n in range(N))
    seeds = tuple(n % SEEDS for n in range(N))
    return Figure(name, better, rows + np.array(means)[:, None], own, prompts, seeds)  # type: ignore[arg-type]


def decided(**given: object) -> Decision:
    count = next(len(own.values) for own in given.values() if isinstance(own, Figure))
    return decide(Evidence(tuple(range(1, count + 1)), **given))  # type: ignore[arg-type]


def whys(decision: Decision) -> list[str]:
    return [decision.reasons[number].why for number in sorted(decision.reasons)]


def test_the_earliest_within_noise_of_the_closest_is_taken_and_the_sentence_says_so() -> None:
    decision = decided(closeness=figure("style", [0.2, 0.6, 0.898, 0.9, 0.899]))
    assert decision.epoch == 3
    assert decision.sentence == "epoch 3: 4 and 5 are as good within noise, 1 and 2 have less style"
    assert decision.reasons[1].difference is not None and decision.reasons[1].difference.mean == pytest.approx(-0.7)


def test_an_epoch_that_is_not_shown_worse_is_not_as_good_for_that() -> None:
    noisy = figure("style", [0.4, 0.9, 0.95], noise=1.0)
    assert not clearly(noisy.lead(2, 0), 2)  # so few pictures show nothing
    assert decided(closeness=noisy).epoch == 2


def test_less_of_a_loss_is_better() -> None:
    decision = decided(
        closeness=figure("validation loss", [0.3, 0.18, 0.2, 0.25], base=0.6, better="lower", noise=0.01)
    )
    assert decision.epoch == 2 and "1, 3 and 4 have a higher validation loss" in decision.sentence


def test_within_the_tolerance_obedience_decides_before_a_hair_of_style() -> None:
    style = figure("style", [0.5, 0.88, 0.9, 0.91], noise=0.004)
    decision = decided(closeness=style, obedience=figure("tags", [0.95, 0.94, 0.9, 0.8], base=0.95))
    assert decision.epoch == 2
    assert whys(decision) == ["behind", "recommended", "obeys less", "obeys less"]
    assert "3 and 4 follow the prompt less" in decision.sentence


def test_a_hair_of_obedience_or_defects_decides_nothing_however_certain_it_is() -> None:
    style = figure("style", [0.9, 0.9, 0.9])
    alike = figure("tags", [0.9, 0.9, 0.9], base=0.95, noise=0.1)  # pictures differ, epochs do not
    rows = np.tile(alike.values[:1], (3, 1)) + np.array([[0.0], [0.003], [0.05]])
    certain = Figure("tags", "higher", rows, alike.base, alike.prompts, alike.seeds)
    assert certain.lead(1, 0).standard_error < 1e-9
    assert whys(decided(closeness=style, obedience=certain)) == ["obeys less", "obeys less", "recommended"]
    hair = Figure("tags", "higher", rows[:2], alike.base, alike.prompts, alike.seeds)
    assert whys(decided(closeness=figure("style", [0.9, 0.9]), obedience=hair)) == ["recommended", "as good"]
    worse = Figure("hands", "lower", rows[:2][::-1], None, alike.prompts, alike.seeds)
    assert whys(decided(closeness=figure("style", [0.9, 0.9]), defects=(worse,))) == ["recommended", "as good"]


def test_beyond_the_tolerance_style_decides() -> None:
    style = figure("style", [0.5, 0.8, 0.9], noise=0.004)
    assert decided(closeness=style, obedience=figure("tags", [0.95, 0.95, 0.85], base=0.95)).epoch == 3


def test_a_defect_of_the_base_itself_is_told_with_its_figure() -> None:
    hands = figure("hands", [0.55, 0.5], base=0.4, better="lower")
    decision = decided(closeness=figure("style", [0.5, 0.9]), defects=(hands,))
    assert tuple(map(str, decision.notes)) == (
        "the base itself shows this: hands is 0.40 ± 0.00 in its own pictures and 0.50 ± 0.00 in those of epoch 2; "
        "no epoch mends the base's part",
    )
    assert "base" not in decision.sentence  # it is no reason for or against an epoch


@pytest.mark.parametrize(
    ("base", "better"),
    [(0.2, "lower"), (0.0, "lower"), (0.004, "lower"), (0.4, "higher"), (None, "lower")],
    ids=["less than half", "none", "a trace", "a merit", "unknown"],
)
def test_what_is_not_the_bases_defect_is_not_told(base: float | None, better: str) -> None:
    level = 0.005 if base == 0.004 else 0.5
    hands = figure("hands", [level, level], base=base, better=better)
    assert not decided(closeness=figure("style", [0.5, 0.9]), defects=(hands,)).notes


def test_defects_come_after_obedience() -> None:
    same = figure("style", [0.9, 0.9, 0.9])
    tags = figure("tags", [0.7, 0.9, 0.9], base=0.9)
    hands = figure("hands", [0.0, 1.5, 0.5], better="lower")
    decision = decided(closeness=same, obedience=tags, defects=(hands,))
    assert decision.epoch == 3 and decision.reasons[2].text == "is worse in hands"


def test_what_copies_is_ruled_out_however_close_it_is() -> None:
    copies = (Copies(0, N), Copies(1, N, "009.png"), Copies(5, N, "014.png"))
    decision = decided(closeness=figure("style", [0.5, 0.8, 0.95]), copies=copies)
    assert decision.epoch == 2  # one look-alike is no habit
    assert decision.sentence == "epoch 2: 1 has less style, 3 copies 014.png (5 of 32 pictures)"
    several = (Copies(0, N), *(Copies(5 + n, N, f"{n}.png") for n in range(3)))
    assert (
        "2 to 4 copy training pictures"
        in decided(closeness=figure("style", [0.5, 0.8, 0.9, 0.9]), copies=several).sentence
    )


@pytest.mark.parametrize(
    ("count", "n", "epochs", "beyond"),
    [
        (1, 1, 1, False),
        (2, 16, 10, False),
        (3, 16, 10, True),
        (2, 200, 10, False),
        (9, 200, 10, True),
        (0, 32, 1, False),
    ],
)
def test_copies_beyond_chance(count: int, n: int, epochs: int, beyond: bool) -> None:
    assert Copies(count, n).beyond_chance(epochs) is beyond


def test_what_breaks_at_nine_tenths_is_ruled_out() -> None:
    tested = (WeightTest(None, "passes"), WeightTest(None, "passes"), WeightTest(0.9, "falls apart at 0.9"))
    decision = decided(closeness=figure("style", [0.5, 0.8, 0.95]), tested=tested)
    assert decision.epoch == 2 and "3 breaks (falls apart at 0.9)" in decision.sentence


def test_what_has_lost_the_prompt_is_ruled_out() -> None:
    style, tags = figure("style", [0.5, 0.8, 0.99]), figure("tags", [0.9, 0.8, 0.4], base=0.95)
    decision = decided(closeness=style, obedience=tags)
    assert decision.epoch == 2 and whys(decision)[2] == "disobeys" and "3 has lost the prompt" in decision.sentence


def test_what_draws_one_picture_for_all_seeds_is_ruled_out() -> None:
    style, diversity = figure("style", [0.5, 0.8, 0.99]), figure("diversity", [0.3, 0.25, 0.05], base=0.3)
    decision = decided(closeness=style, diversity=diversity)
    assert decision.epoch == 2 and "3 draws nearly one picture for all seeds" in decision.sentence


def test_where_a_reason_would_rule_out_all_the_best_by_it_stay() -> None:
    tags = figure("tags", [0.5, 0.45, 0.2], base=0.95)
    decision = decided(closeness=figure("style", [0.5, 0.8, 0.99]), obedience=tags)
    assert decision.epoch in (1, 2) and whys(decision)[2] == "disobeys"
    assert tuple(map(str, decision.warnings)) == ("no epoch follows the prompt as the base does",)
    assert decision.sentence.endswith("; no epoch follows the prompt as the base does")
    tested = (WeightTest(0.5, "burnt at 0.5"), WeightTest(0.9, "burnt at 0.9"))
    decision = decided(closeness=figure("style", [0.9, 0.5]), tested=tested)
    assert decision.epoch == 2 and "every epoch breaks" in decision.sentence
    copies = (Copies(9, N, "a"), Copies(9, N, "b"))
    decision = decided(closeness=figure("style", [0.5, 0.9]), copies=copies)
    assert decision.epoch == 2 and "every epoch copies" in decision.sentence  # nothing tells which copies less


def test_a_run_that_has_learnt_nothing_is_told_so() -> None:
    decision = decided(closeness=figure("style", [0.001, 0.002], noise=0.1))
    assert tuple(map(str, decision.warnings)) == ("no epoch is clearly better than the base in style; train longer",)
    assert not decided(closeness=figure("style", [0.1, 0.9])).warnings


def test_votes_come_before_style() -> None:
    votes = figure("votes", [-200.0, 300.0, -100.0], base=None, noise=30)
    decision = decided(closeness=figure("style", [0.5, 0.8, 0.99]), votes=votes)
    assert decision.epoch == 2 and "1 and 3 are liked less" in decision.sentence


def test_a_run_of_one_epoch_and_a_run_of_which_nothing_is_known() -> None:
    decision = decided(closeness=figure("style", [0.5]))
    assert (decision.epoch, decision.sentence) == (1, "epoch 1: the run has no other")
    assert decide(Evidence((3, 6, 9))).epoch == 3


def test_one_picture_shows_no_difference_and_the_closest_is_taken() -> None:
    single = Figure("style", "higher", np.array([[0.2], [0.9], [0.8]]), None, ("p",), (1,))
    assert decide(Evidence((1, 2, 3), closeness=single)).epoch == 2


def test_a_measure_that_cannot_tell_of_some_pictures() -> None:
    style = figure("style", [0.5, 0.9, 0.9])
    style.values[:, 3] = np.nan
    style.values[1, 5] = np.nan
    assert decide(Evidence((1, 2, 3), closeness=style)).epoch == 2


def test_the_limit_grows_with_the_epochs_and_keeps_its_level() -> None:
    assert limit(1) == pytest.approx(1.645, abs=1e-3) and limit(9) > limit(2) > limit(1)
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):  # ten epochs that are all the same: how often is any of them called worse?
        values = rng.normal(size=(10, 64))
        alike = Figure("style", "higher", values, None, tuple(range(64)), tuple(range(64)))
        best = max(range(10), key=alike.score)
        wrong += any(clearly(alike.lead(best, other), 90) for other in range(10) if other != best)
    assert wrong / 300 < 0.08  # though the leader was picked for its luck


def test_thresholds_are_the_callers() -> None:
    style = figure("style", [0.5, 0.88, 0.9])
    assert decide(Evidence((1, 2, 3), closeness=style), Thresholds(as_good=20)).epoch == 2


def test_numbers_in_words() -> None:
    assert numbers_text([1, 2, 3, 4, 7, 9]) == "1 to 4, 7 and 9"
    assert (numbers_text([5]), numbers_text([1, 2]), numbers_text([1, 2, 4])) == ("5", "1 and 2", "1, 2 and 4")
