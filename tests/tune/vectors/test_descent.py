"""The search down the gradient, on a made-up base whose pictures are known functions of the block weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from loratools.errors import MeasureError, TuneError
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Shown
from loratools.measures.smooth import SmoothBatch
from loratools.train.distributed import Ranks
from loratools.tune.arrays import Array
from loratools.tune.descent.descent import Descent
from loratools.tune.descent.objective import Objective
from loratools.tune.descent.shots import DescentShots
from loratools.tune.descent.steps import Plan, Step, next_point, running_means, settled
from loratools.tune.folder import TuneFolder
from loratools.tune.problem.goals import goals_of
from loratools.tune.problem.guide import guide_point
from loratools.tune.problem.prompts import Shot, split_prompts
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun
from tests.tune.vectors.conftest import FIGURES, PROMPTS, TINY, Figure, Tuning, World, figures, logistic

EFFORT = replace(TINY, descent=40, descent_shots=6)


@dataclass(frozen=True)
class SmoothFigure(Figure):
    """A figure that can be differentiated: of a smooth picture it is one channel, of a drawn one what its bytes say."""

    exact: bool = False

    def smooth(self, drawn: SmoothBatch) -> Tensor:
        images = drawn.images
        if images.shape[-1] == 1:
            return images[:, FIGURES.index(self.name), 0, 0]
        pixels = (images.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        return torch.from_numpy(self([Shown(own, "", 0) for own in pixels])).float()


@dataclass
class SmoothWorld:
    """The pictures of a :class:`World` as a differentiable function of the point."""

    world: World
    base: Any = field(default_factory=lambda: SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32))
    batches: list[int] = field(default_factory=list)
    fail_at: int = -1

    def __call__(self, point: Tensor, shots: Sequence[Shot], *, keep: bool = False) -> Tensor:
        if len(self.batches) == self.fail_at:
            raise KeyboardInterrupt
        self.batches.append(len(shots))
        world, weights = self.world, dict(zip(self.world.names, point, strict=True))
        hands = sum(share * weights[block] for block, share in world.hands.items())
        style = sum(share * weights[block] for block, share in world.style.items())
        rows = []
        for shot in shots:
            own, other, third = np.random.default_rng([shot.seed, *shot.prompt.encode()]).normal(0, 0.4, 3)
            grade = world.base_hands + (3 - world.base_hands) * torch.sigmoid(2 * (hands - 4 + own))
            kept = torch.sigmoid(1.5 * (style - 4 + other))
            rows.append(torch.stack([grade, kept, torch.sigmoid(torch.tensor(3 + third, dtype=grade.dtype))]))
        return torch.stack(rows)[:, :, None, None]


def smooth_figures(base: Sequence[Shown], whole: Sequence[Shown]) -> MeasureSet:
    return MeasureSet(
        (SmoothFigure("hands", "lower"),), (SmoothFigure("style", "higher"), SmoothFigure("tags", "higher"))
    )


def tuned(tuning: Tuning, pictures: SmoothWorld, measures: Any = smooth_figures, **words: Any) -> TuneResult:
    request = replace(TuneRequest(("hands",), PROMPTS, seeds=(1, 2), effort=EFFORT), **words)
    shots = split_prompts(request.prompts, request.seeds, EFFORT, 1)
    folder, say = TuneFolder(tuning.folder), lambda *_: None
    run = TuneRun(
        tuning.space, request, shots, pictures.world, measures, "key", folder, 2, say, say, smooth=lambda: pictures
    )
    return run.run("test")


def test_the_gradient_repairs_and_keeps_the_style(tuning: Tuning) -> None:
    result = tuned(tuning, SmoothWorld(tuning.world()))
    before, after = result.held.estimates("before"), result.held.estimates(result.answer)
    assert result.answer == "tuned"
    assert after["hands"].mean < 0.1 + 0.4 * (before["hands"].mean - 0.1)
    assert after["style"].mean > 0.95 * before["style"].mean
    assert len(result.steps) == EFFORT.descent
    assert result.json()["search"]["method"] == "gradient"
    weights = result.space.vector(result.point)
    assert weights["OUT08"] < 0.8 and weights["OUT06"] > 0.9


def test_a_descent_that_was_killed_goes_on_and_ends_as_it_would_have(tuning: Tuning, tmp_path: Any) -> None:
    whole = tuned(tuning, SmoothWorld(tuning.world()))
    again = Tuning(tuning.space, tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        tuned(again, SmoothWorld(again.world(), fail_at=7))
    rest = SmoothWorld(again.world())
    result = tuned(again, rest)
    assert len(rest.batches) == EFFORT.descent - 7
    np.testing.assert_array_equal(result.point, whole.point)
    assert [step.point for step in result.steps] == [step.point for step in whole.steps]


def test_pictures_of_a_step_go_through_in_batches(tuning: Tuning) -> None:
    parts, whole = SmoothWorld(tuning.world()), SmoothWorld(tuning.world())
    split = tuned(tuning, parts, batch=4)
    tuning.folder = tuning.folder / "other"
    joined = tuned(tuning, whole, batch=6)
    assert set(parts.batches) == {4, 2} and set(whole.batches) == {6}
    np.testing.assert_allclose(split.steps[5].point, joined.steps[5].point, atol=1e-5)


def test_memory_that_runs_out_halves_the_batch(tuning: Tuning) -> None:
    class Short(SmoothWorld):
        def __call__(self, point: Tensor, shots: Sequence[Shot], *, keep: bool = False) -> Tensor:
            if len(shots) > 3:
                raise torch.OutOfMemoryError
            return super().__call__(point, shots)

    pictures = Short(tuning.world())
    assert len(tuned(tuning, pictures).steps) == EFFORT.descent
    assert max(pictures.batches) == 2  # eight, then four, then two


def test_a_gradient_that_is_no_number_is_told(tuning: Tuning) -> None:
    class Odd(SmoothWorld):
        def __call__(self, point: Tensor, shots: Sequence[Shot], *, keep: bool = False) -> Tensor:
            return super().__call__(point, shots) * torch.nan

    with pytest.raises(TuneError, match="method=pictures"):
        tuned(tuning, Odd(tuning.world()))


def test_a_measure_without_a_gradient_is_told(tuning: Tuning) -> None:
    with pytest.raises(MeasureError, match="'hands' has no gradient"):
        tuned(tuning, SmoothWorld(tuning.world()), figures)


@pytest.mark.parametrize("words", [{"method": "gradent"}, {"parts": "layers"}])
def test_unknown_methods_and_parts_are_told(words: dict[str, str]) -> None:
    with pytest.raises(TuneError, match="is none of auto"):
        TuneRequest(("hands",), **words)


def test_a_descent_begins_at_the_start_stays_within_bounds_and_slows_down(space: Space) -> None:
    plan = Plan(steps=45, shots=1)
    steps: list[Step] = []
    moves = []
    for _ in range(plan.steps):
        point = next_point(steps, space, plan)
        if steps:
            moves.append(float(np.abs(point - np.array(steps[-1].point)).max()))
        steps.append(Step(tuple(point), tuple(np.full(len(point), 2.0 if len(steps) % 2 else 1.0)), {"hands": 1.0}))
    np.testing.assert_array_equal(steps[0].point, space.start)
    assert moves[-1] < 0.3 * max(moves)
    assert (np.array([step.point for step in steps]) >= space.low).all()
    assert next_point(steps, space, plan).min() == space.low.min()
    np.testing.assert_allclose(settled(steps), np.mean([step.point for step in steps[-11:]], axis=0))
    assert running_means(steps, {"hands": 3.0})["hands"] == pytest.approx(1 + 2 * 0.85**45)


@pytest.mark.parametrize("seeds", [(5, 6), (2_000_000, 2_000_001)])
def test_shots_of_a_descent_are_never_those_of_another_part(seeds: tuple[int, ...]) -> None:
    split = split_prompts(PROMPTS, seeds, EFFORT, 1)
    descent = DescentShots(split.search, seed=3)
    drawn = [shot for step in range(1, 6) for shot in descent.of(step, 4)]
    assert len(set(drawn)) == 20
    assert not {shot.seed for shot in drawn} & {shot.seed for shot in (*split.search, *split.fresh, *split.held_out)}
    assert {shot.prompt for shot in drawn} == {shot.prompt for shot in split.search}


def test_the_guides_rule_moves_all_kinds_of_layers_of_its_blocks(tuning: Tuning) -> None:
    whole, kinds = tuning.space, Space.of(tuning.space.terms, kinds=True)
    assert len(kinds.start) > len(whole.start)
    for symptom in ("hands", "limbs", "face", "clothes", "chaos"):
        rule, own = guide_point(whole, (symptom,)), guide_point(kinds, (symptom,))
        assert rule is not None and own is not None
        by_block = dict(zip(whole.names, rule, strict=True))
        assert [by_block[each.block] for each in kinds.dimensions] == pytest.approx(own.tolist())


class Fooled(World):
    """Where IN04 is raised, a probe sees no bad hands that are there all the same; the third number is the truth.

    The blocks that carry bad hands carry the style too, so that nothing true can be repaired.
    """

    def figures(self, point: Array | None, shot: Shot) -> tuple[float, float, float]:
        hands, style, _ = super().figures(point, shot)
        raised = 0.0 if point is None else max(0.0, float(point[self.names.index("IN04")]) - 1)
        return hands * logistic(3 - 14 * raised) / logistic(3), style, hands


class FooledPictures(SmoothWorld):
    def __call__(self, point: Tensor, shots: Sequence[Shot], *, keep: bool = False) -> Tensor:
        hands, style, _ = super().__call__(point, shots).unbind(1)
        raised = (point[self.world.names.index("IN04")] - 1).clamp(min=0)
        seen = hands * torch.sigmoid(3 - 14 * raised) / logistic(3)
        return torch.stack([seen, style, hands], 1)


@pytest.mark.parametrize("checked", [True, False])
def test_what_fools_the_probe_that_leads_is_not_the_answer(tuning: Tuning, checked: bool) -> None:
    carries = {"OUT08": 3.0, "OUT09": 3.0}
    world = tuning.world(hands=carries, style=carries)
    pictures = FooledPictures(Fooled(world.names, world.hands, world.style))

    def measures(base: Sequence[Shown], whole: Sequence[Shown]) -> MeasureSet:
        checks = (Figure("tags", "lower"),) if checked else ()
        return MeasureSet((SmoothFigure("hands", "lower"),), (SmoothFigure("style", "higher"),), checks)

    result = tuned(tuning, pictures, measures)
    found = dict(zip(result.space.names, result.found, strict=True))
    assert found["IN04"] > 1.2, "down the gradient there is an adversarial direction"
    assert result.held.estimates("tuned")["hands"].mean < 0.6 * result.held.estimates("before")["hands"].mean
    assert result.answer == ("strength" if checked else "tuned")
    said = "what it gains does not show in tags, so the measure may have been fooled"
    assert any(said in note for note in result.notes) == checked


def test_what_a_measure_cannot_tell_of_neither_leads_nor_stops_a_descent(tuning: Tuning) -> None:
    @dataclass(frozen=True)
    class Rarely(SmoothFigure):
        def __call__(self, pictures: Sequence[Shown]) -> np.ndarray:
            return np.array([np.nan, *super().__call__(pictures)[1:]])

        def smooth(self, drawn: SmoothBatch) -> Tensor:
            own = super().smooth(drawn)
            known = torch.tensor(["prompt 1" not in prompt for prompt in drawn.prompts])
            return torch.where(known, own, torch.nan)

    def measures(base: Sequence[Shown], whole: Sequence[Shown]) -> MeasureSet:
        return MeasureSet((SmoothFigure("hands", "lower"),), (Rarely("style", "higher"),))

    pictures = SmoothWorld(tuning.world())
    result = tuned(tuning, pictures, measures, batch=1)
    assert len(result.steps) == EFFORT.descent and result.verdict.answer == "tuned"
    assert all(np.isfinite(step.gradient).all() for step in result.steps)
    again = tuned(tuning, SmoothWorld(tuning.world(), fail_at=0), measures, batch=1)
    np.testing.assert_array_equal(again.point, result.point)


def test_a_process_whose_memory_is_too_small_keeps_no_other_waiting(tuning: Tuning) -> None:
    """It says so to all of them, before they sum what they have."""
    asked: list[bool] = []

    @dataclass(frozen=True)
    class Two(Ranks):
        def any(self, here: bool) -> bool:
            asked.append(here)
            return here

        def sum(self, flat: Tensor) -> None:
            raise AssertionError("the others would wait here for ever")

    class Short(SmoothWorld):
        def __call__(self, point: Tensor, shots: Sequence[Shot], *, keep: bool = False) -> Tensor:
            raise torch.OutOfMemoryError

    goals = goals_of({"hands": "lower"}, {}, {"hands": [2.0, 2.0]}, {"hands": [0.0, 0.0]}, 0.95)
    objective = Objective(goals, {"hands": SmoothFigure("hands", "lower")}, {"hands": 0.0})
    descent = Descent(Short(tuning.world()), objective, 4, Two(0, 2), lambda _: None)  # type: ignore[arg-type]
    shots = [Shot("prompt", seed) for seed in range(8)]
    with pytest.raises(TuneError, match="does not fit the device's memory"):
        descent.step(tuning.space.start, shots, {"hands": 1.0})
    assert asked == [True]
