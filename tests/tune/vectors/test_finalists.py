"""The last choice, by pictures that no model was fitted to; and the scale on which means are modelled."""

from __future__ import annotations

import json
import signal
from typing import Any

import numpy as np
import pytest

from loratools.measures.request import parse_measures
from loratools.tune.history import Generation
from loratools.tune.problem.effort import FULL, QUICK, fresh_pictures
from loratools.tune.problem.goals import Goals, goals_of
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.report.result import TuneResult
from loratools.tune.search.finalists import Finalists
from loratools.tune.search.warp import Warp
from tests.tune.vectors.conftest import Tuning
from tests.tune.vectors.test_descent import SmoothWorld, tuned

SHOTS = tuple(Shot(f"prompt {n // 2}", n % 2) for n in range(12))
BASE, WHOLE = {"hands": [0.0] * 12, "style": [0.0] * 12}, {"hands": [2.0] * 12, "style": [0.96] * 12}


def goals() -> Goals:
    return goals_of({"hands": "lower"}, {"style": "higher"}, WHOLE, BASE, 0.95)


def finalists(*styles: list[float], hands: float = 0.2) -> Finalists:
    """The whole LoRA and vectors of these styles."""
    every = [BASE, WHOLE, *({"hands": [hands] * 12, "style": style} for style in styles)]
    values = {name: tuple(tuple(own[name]) for own in every) for name in ("hands", "style")}
    points = [np.array([float(number)]) for number in range(1 + len(styles))]
    drawn = Generation("fresh", tuple((float(n),) for n in range(len(every))), tuple(range(12)), values)
    return Finalists(SHOTS).joined(drawn, points)


def test_a_style_that_is_kept_by_luck_is_not_taken_for_kept() -> None:
    steady = [0.93] * 12
    lucky = [0.96] * 9 + [0.55, 0.97, 1.0]  # the same mean, and pictures that lose much
    assert np.mean(lucky) == pytest.approx(np.mean(steady), abs=1e-3)
    whole, sure, unsure = finalists(steady, lucky).totals(goals())
    assert whole == pytest.approx(1.0) and sure == pytest.approx(0.1)
    assert unsure > sure + 0.2, "its standard error reaches below what has to be kept"


def test_what_is_no_better_than_plain_strength_is_not_the_answer(space: Space) -> None:
    lost = finalists([0.5] * 12)
    assert lost.best(goals(), np.array([7.0]), space).tolist() == [0.0], "the whole LoRA is better than a lost style"
    two = finalists([0.95] * 12, [0.94] * 12)
    assert two.best(goals(), np.array([1.0]), space).tolist() == [1.0], "equal to the strength 1, which is simpler"


def test_a_vector_that_only_the_leading_measure_likes_is_passed_over_for_one_that_others_like_too(space: Space) -> None:
    noise = np.random.default_rng(1).normal(0, 0.3, 12)
    fooled, mild = {"hands": [0.1] * 12, "style": [0.96] * 12}, {"hands": [0.8] * 12, "style": [0.96] * 12}
    seconds = {0: np.ones(12), 1: 1 + noise, 2: 0.2 + noise}  # of the whole LoRA, of the fooled one, of the mild one
    values = tuple({**own, "second": seconds[n].tolist()} for n, own in enumerate((WHOLE, fooled, mild)))
    three = Finalists(SHOTS, np.array([[0.0], [1.0], [2.0]]), values, BASE)
    plain = np.array([0.0])
    assert three.best(goals(), plain, space).tolist() == [1.0]
    assert three.best(goals(), plain, space, {"second": "lower"}).tolist() == [2.0]
    none = Finalists(SHOTS, np.array([[0.0], [1.0]]), values[:2], BASE)
    assert none.best(goals(), plain, space, {"second": "lower"}).tolist() == [1.0], "the report says that it is fooled"


def test_pictures_are_counted_and_no_vector_is_drawn_twice() -> None:
    own = finalists([0.95] * 12, [0.9] * 12)
    assert len(own) == 3 and own.pictures == 4 * 12 and own.base["style"] == (0.0,) * 12
    assert own.new([np.array([1.0]), np.array([7.0]), np.array([7.0])]) == [np.array([7.0])]
    later = Generation("fresh", ((9.0,),), tuple(range(12)), {"hands": ((0.1,) * 12,), "style": ((0.9,) * 12,)})
    more = own.joined(later, [np.array([9.0])])
    assert len(more) == 4 and more.pictures == 5 * 12 and more.points.tolist()[-1] == [9.0]


def test_the_answer_is_chosen_by_fresh_pictures(tuning: Tuning) -> None:
    world = tuning.world()
    seen: list[int] = []
    shown = world.figures

    def luck(point: np.ndarray | None, shot: Shot) -> tuple[float, float, float]:
        """Under seeds of the search no vector loses any style; under all others each block that is lowered does."""
        hands, style, tags = shown(point, shot)
        seen.append(shot.seed)
        if point is not None:
            style = 0.95 if shot.seed <= 2 else 0.95 - 0.9 * float(np.maximum(0.0, 1 - point).max())
        return hands, style, tags

    world.figures = luck  # type: ignore[method-assign]
    result = tuning.run(world)
    assert result.fresh > 0 and max(seen) > 4, "other seeds than the search's and the report's"
    kept = result.held.estimates(result.verdict.answer)["style"].mean
    assert kept >= 0.95 * result.held.estimates("before")["style"].mean - 0.02


@pytest.mark.parametrize("gradient", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_stop_among_fresh_pictures_leaves_the_rounds_before_it(tuning: Tuning, gradient: bool) -> None:
    def asked() -> list[dict[str, Any]]:
        paths = sorted(tuning.folder.glob("search/generation-*.json"))
        assert [path.stem for path in paths] == [f"generation-{number:04d}" for number in range(len(paths))]
        return [own for path in paths if (own := json.loads(path.read_text()))["kind"] == "fresh"]

    def run() -> TuneResult:
        return tuned(tuning, SmoothWorld(world)) if gradient else tuning.run(world)

    world = tuning.world()
    stop_at = 60 if gradient else 205  # in the second round

    def stop(number: int) -> None:
        if number == stop_at:
            signal.raise_signal(signal.SIGINT)

    world.interrupt = stop
    stopped = run()
    (first,) = asked()
    assert stopped.fresh == len(first["points"]) * len(first["shots"]) > 0
    world.interrupt = lambda number: None
    whole = run()
    again, second = asked()
    assert again == first and whole.fresh == stopped.fresh + len(second["points"]) * len(second["shots"])
    every = [tuple(point) for own in (first, second) for point in own["points"]]
    assert len(set(every)) == len(every), "no vector is drawn twice"
    assert (every[0] == ()) == gradient, "the base is drawn where no model knows it"
    assert {*first["shots"], *second["shots"]} == {*range(whole.history.pool)[len(whole.searched) :]}


def test_an_effort_counts_its_pictures() -> None:
    for own in (QUICK, FULL):
        assert own.search_pictures(own.pool, own.fresh) > own.generations * own.population * own.shots
        assert fresh_pictures(own.fresh) > fresh_pictures(own.fresh, 1)
    by = [
        TuneRequest(("hands",), measures=parse_measures(texts), method=method).search_pictures(80, 24)
        for texts, method in ((["judge"], "auto"), (["marks"], "gradient"), (["marks"], "auto"))
    ]
    assert by[1] - by[0] == FULL.descent * FULL.descent_shots, "the base's UNet reads a picture, with its gradient"
    assert by[2] == FULL.search_pictures(80, 24) != by[0]


def test_the_scale_goes_both_ways_and_keeps_its_order() -> None:
    means = np.array([0.0, 0.3, 0.9, 1.0])
    warp = Warp.of(means)
    assert np.allclose(warp.back(warp.to(means)), means) and (np.diff(warp.to(means)) > 0).all()
    assert (np.diff(warp.to(np.array([0.5, 0.6]))) < np.diff(warp.to(np.array([0.9, 1.0])))).all()
    steps = (warp.to(means + 1e-5) - warp.to(means - 1e-5)) / 2e-5
    assert np.allclose(warp.slope(means), steps, rtol=1e-3)
    assert np.isfinite(warp.to(np.array([-5.0, 5.0]))).all(), "what lies outside is taken for the edge"
    assert np.isfinite(Warp.of(np.array([0.4, 0.4])).to(np.array([0.4]))).all()
