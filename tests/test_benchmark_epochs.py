"""Figures that the epochs' benchmark stores: read again as they were, and in part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.epochs.replay import Rule, line
from benchmarks.epochs.report import table
from benchmarks.epochs.stored import Seen, read, write
from benchmarks.epochs.truth import Truth, scored
from loratools.tune.epochs.decide import Copies, Evidence, Thresholds, WeightTest, decide
from loratools.tune.epochs.figures import Figure

PROMPTS = tuple(f"p{n // 4}" for n in range(16))
SEEDS = tuple(1 + n % 4 for n in range(16))


def figure(name: str, means: list[float], better: str = "higher") -> Figure:
    rows = np.array(means)[:, None] + np.linspace(-0.01, 0.01, 16) * np.array([SEEDS])
    return Figure(name, better, rows, rows[0] - 0.5, PROMPTS, SEEDS)  # type: ignore[arg-type]


@pytest.fixture
def seen() -> Seen:
    copied = np.zeros((3, 16), dtype=np.bool_)
    copied[2, [0, 4, 8]] = True  # of seed 1 alone
    evidence = Evidence(
        numbers=(1, 2, 5),
        tested=(WeightTest(None, "holds"), WeightTest(None, "holds"), WeightTest(0.7, "falls apart at 0.7")),
        copies=(Copies(0, 16), Copies(0, 16), Copies(3, 16, "a.png")),
        closeness=figure("style", [0.2, 0.8, 0.9]),
        obedience=figure("tags", [0.9, 0.9, 0.8]),
        defects=(figure("defects", [0.5, 0.1, 0.1], "lower"),),
    )
    return Seen(evidence, copied)


@pytest.fixture
def truth() -> Truth:
    style = np.repeat([[0.0], [0.2], [0.9], [0.8]], 8, axis=1) + np.linspace(0, 0.01, 8)
    return Truth(style, np.ones((4, 8)), np.zeros((4, 8)), tuple("aabbccdd"), (1, 2) * 4)


def test_what_is_stored_decides_as_it_did(seen: Seen, truth: Truth, tmp_path: Path) -> None:
    write(tmp_path / "case.npz", truth, {"judged": seen, "blind": seen})
    known, again = read(tmp_path / "case.npz")
    assert list(again) == ["judged", "blind"] and known.prompts == truth.prompts and known.seeds == truth.seeds
    np.testing.assert_allclose(known.value, truth.value, atol=1e-3)  # kept in half precision
    evidence = again["judged"].evidence
    assert decide(evidence).epoch == decide(seen.evidence).epoch == 2
    assert evidence.tested == seen.evidence.tested and evidence.copies[2].count == 3
    for own, before in ((evidence.closeness, seen.evidence.closeness), (evidence.defects[0], seen.evidence.defects[0])):
        assert own is not None and before is not None
        assert (own.name, own.better, own.prompts, own.seeds) == (before.name, before.better, PROMPTS, SEEDS)
        np.testing.assert_allclose(own.values, before.values, rtol=1e-6)
        np.testing.assert_allclose(own.base, before.base, rtol=1e-6)  # type: ignore[arg-type]


def test_some_seeds_are_the_pictures_of_these_seeds(seen: Seen) -> None:
    some = seen.of_seeds(frozenset({2, 3})).evidence
    assert some.closeness is not None and set(some.closeness.seeds) == {2, 3} and some.closeness.values.shape == (3, 8)
    whole = seen.evidence.closeness
    assert whole is not None
    np.testing.assert_array_equal(
        some.closeness.values, whole.values[:, [n for n, s in enumerate(SEEDS) if s in (2, 3)]]
    )
    assert [own.count for own in some.copies] == [0, 0, 0] and some.copies[0].n == 8
    assert [own.count for own in seen.of_seeds(frozenset({1})).evidence.copies] == [0, 0, 3]


def test_a_rules_line_counts_near_and_good_choices(seen: Seen, truth: Truth) -> None:
    cases = {"one": (truth, {"judged": seen})}
    assert line(cases, "judged", 4, Rule()) == (" 1 within one,  1 of one as good,  1 within noise, 0.0000 less")
    worse = Rule(Thresholds(keep=0.0))  # the first that is no worse in tags, then in defects
    assert line(cases, "judged", 4, worse).startswith(" 1 within one")


def test_the_page_tells_each_choice(truth: Truth) -> None:
    numbers = [1, 2, 5]
    choices = {"verdict": 2, "last epoch": 5}
    case = {
        "sentence": "epoch 2: 1 has less style",
        "sentence_without_judge": "epoch 5",
        "epochs": numbers,
        "best": numbers[truth.best],
        "truth": truth.json(),
        "choices": scored(truth, numbers, choices),
        "seconds": {"train": 1.0},
    }
    page = table({"ink-24": case})
    other = {**case, "choices": {**case["choices"], "verdict on twice the pictures": case["choices"]["verdict"]}}
    more = table({"ink-24": case, "neon-24": other})
    assert "| verdict on twice the pictures | 1 of 1 |" in more and "5: -0.100 ± 0.000 |  |" in more
    assert "| verdict | 1 of 1 | 1 of 1 | 1 of 1 | 0.000 | 0.000 |" in page
    assert "| last epoch | 1 of 1 | 1 of 1 | 0 of 1 | 0.100 | 0.100 |" in page
    assert "| ink-24 | 2: 0.905 ± " in page and "5: -0.100 ± 0.000" in page
