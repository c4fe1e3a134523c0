"""The parts of a tune by themselves: goals, the model, prompts, plain strength, the space and the guide's rule."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loratools.adapter.files.file import read
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.errors import BlockError, MeasureError, PromptError, TuneError
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from loratools.tune.history import Generation, History, Samples
from loratools.tune.problem.effort import QUICK
from loratools.tune.problem.goals import Goals, goals_of
from loratools.tune.problem.guide import guide_point
from loratools.tune.problem.prompts import Shot, prompts_from_header, split_prompts
from loratools.tune.problem.request import TuneRequest, parse_duration
from loratools.tune.problem.space import Space
from loratools.tune.problem.weight_range import NARROW, WeightRange
from loratools.tune.report.columns import Column, HeldOut
from loratools.tune.report.verdict import judge_answer, notes_of
from loratools.tune.search.gaussian_process import GaussianProcess
from loratools.tune.search.screening import screening_points
from loratools.tune.search.strength import best_strength


def test_a_single_picture_makes_no_answer() -> None:
    """Its standard error is unknown, which is not none: what a chance picture says does not beat plain strength."""
    figures = {"base": 0.0, "before": 2.0, "strength": 1.8, "tuned": 0.1}

    def verdict(seeds: tuple[int, ...]) -> tuple[HeldOut, Goals]:
        shots = tuple(Shot("girl", seed) for seed in seeds)
        columns = [
            Column(name, name, None, {"hands": [value + 0.01 * seed for seed in seeds]}, ())
            for name, value in figures.items()
        ]
        held = HeldOut(shots, tuple(columns))
        goals = goals_of({"hands": "lower"}, {}, held.column("before").values, held.column("base").values, 0.95)
        return held, goals

    several, one = verdict((1, 2, 3)), verdict((1,))
    assert judge_answer(*several).answer == "tuned" and judge_answer(*several).clear
    alone = judge_answer(*one)
    assert alone.answer == "strength" and not alone.clear
    assert any("a single picture" in note for note in notes_of(*one, alone, 0.95, 0.9))


def test_goals_count_from_the_base_to_the_whole() -> None:
    whole = {"hands": [2.0, 2.2, 1.8], "style": [0.9, 1.0, 0.8], "tags": [0.9, 0.8, 1.0]}
    base = {"hands": [0.2, 0.2, 0.2], "style": [0.1, 0.1, 0.1], "tags": [1.0, 0.9, 0.95]}
    goals = goals_of({"hands": "lower"}, {"style": "higher", "tags": "higher"}, whole, base, 0.95)
    assert goals.cost(whole).mean() == pytest.approx(1) and goals.cost(base).mean() == pytest.approx(0)
    style, tags = goals.constraints
    assert style.bound == pytest.approx(0.9 - 0.05 * 0.8), "of what the LoRA adds to the base's"
    assert 0.8 < tags.bound < 0.9, "tags may lose no more than noise"
    assert goals.total(np.array([0.3]), [np.array([0.1]), np.array([0.0])]) == pytest.approx(0.3)
    assert goals.total(np.array([0.3]), [np.array([-0.1]), np.array([0.0])])[0] > 2
    nothing = goals.cost({"hands": [math.nan, 2.0]})
    assert math.isnan(nothing[0]) and nothing[1] == pytest.approx(1)


def test_a_symptom_that_the_base_shows_is_known() -> None:
    shown = goals_of({"hands": "lower"}, {}, {"hands": [2.0, 1.9]}, {"hands": [1.8, 1.9]}, 0.95)
    own = goals_of({"hands": "lower"}, {}, {"hands": [2.0, 1.9]}, {"hands": [0.3, 0.2]}, 0.95)
    assert shown.targets[0].shown_by_base and not own.targets[0].shown_by_base
    stronger = goals_of({"style": "higher"}, {}, {"style": [0.4, 0.5]}, {"style": [0.0, 0.1]}, 0.95)
    assert not stronger.targets[0].shown_by_base
    assert stronger.targets[0].cost([0.9])[0] < stronger.targets[0].cost([0.4])[0]


def test_the_process_finds_a_function_through_pictures_that_differ() -> None:
    random = np.random.default_rng(3)
    points = random.uniform(-1, 0.4, (60, 6))
    truth = points[:, 0] * 0.8 - points[:, 3] * 0.3
    shares = np.zeros((60, 12))
    for row in shares:
        row[random.choice(12, 4, replace=False)] = 0.25
    process = GaussianProcess(Samples(points, truth + random.normal(0, 0.02, 60), shares))
    fresh = random.uniform(-1, 0.4, (40, 6))
    guessed = process.mean(fresh)
    assert np.corrcoef(guessed, fresh[:, 0] * 0.8 - fresh[:, 3] * 0.3)[0, 1] > 0.98
    assert np.median(process.deviation(points)) < np.median(process.deviation(points + 0.7))
    drawn = process.sample(fresh, 400, random)
    assert np.allclose(drawn.mean(1), guessed, atol=0.1)
    mean, deviation = process.difference(np.array([[-0.5, 0, 0, 0, 0, 0], [0, -0.5, 0, 0, 0, 0]]), np.zeros(6))
    assert mean[0] == pytest.approx(-0.4, abs=0.1) and abs(mean[1]) < 0.1 and (deviation < 0.2).all()


def test_what_pictures_differ_by_whatever_the_vector_is_taken_off() -> None:
    effects = np.array([0.0, 1.0, -1.0, 2.0])
    points = [(float(x), 1.0) for x in (0, 0.3, 0.6, 1.0)]
    rows = {x: tuple(x + effects) for x, _ in points}
    whole = Generation("whole", points[3:], (0, 1, 2, 3), {"hands": (rows[1.0],)})
    ladder = Generation("ladder", tuple(points[:3]), (0, 1, 2, 3), {"hands": tuple(rows[x] for x, _ in points[:3])})
    part = Generation("search", ((0.5, 1.0),), (1, 3), {"hands": ((0.5 + 1.0, 0.5 + 2.0),)})
    later = Generation("fresh", ((1.0, 1.0), (0.2, 1.0)), (4, 5), {"hands": ((7.0, 9.0), (6.2, 8.2))})
    goals = replace(goals_of({"hands": "lower"}, {}, {"hands": [1.0]}, {"hands": [0.0]}, 0.9))
    samples = History((whole, ladder, part, later), 6).cost_samples(goals, np.array([1.0, 1.0]))
    assert np.allclose(samples.means - samples.means[1], [1.0, 0, 0.3, 0.6, 0.5, 1.0, 0.2])
    assert samples.shares.shape == (7, 6) and np.allclose(samples.shares.sum(1), 1)


def test_screening_holds_each_block_low_half_of_the_time(space: Space) -> None:
    points = screening_points(space, 24, np.random.default_rng(1))
    assert (points == points.min(0)).sum(0).tolist() == [12] * 17
    assert np.abs(np.corrcoef(points.T) - np.eye(17)).max() < 0.75


def test_the_best_strength_lies_between_those_that_were_drawn() -> None:
    strengths = (0.8, 0.6)
    values = {"hands": ((2.0,) * 4, (1.2,) * 4, (0.4,) * 4), "style": ((1.0,) * 4, (0.9,) * 4, (0.5,) * 4)}
    whole = Generation("whole", ((1.0,),), (0, 1, 2, 3), {name: rows[:1] for name, rows in values.items()})
    ladder = Generation("ladder", ((0.8,), (0.6,)), (0, 1, 2, 3), {name: rows[1:] for name, rows in values.items()})
    base = {"hands": [0.0] * 4, "style": [0.0] * 4}
    goals = goals_of({"hands": "lower"}, {"style": "higher"}, whole.of_point(0), base, 0.95)
    assert best_strength(History((whole, ladder), 4), goals, strengths) == 0.9
    strict = goals_of({"hands": "lower"}, {"style": "higher"}, whole.of_point(0), base, 1.0)
    assert best_strength(History((whole, ladder), 4), strict, strengths) == 1.0
    few = {"hands": ((1.0, 3.0), (0.2, 0.6), (0.1, 0.3)), "style": ((1.0, 1.0), (0.99, 0.99), (0.5, 0.5))}
    whole = replace(whole, values={"hands": ((1.0, 9.0, 3.0, 9.0),), "style": ((1.0,) * 4,)})
    ladder = replace(ladder, shots=(0, 2), values={name: rows[1:] for name, rows in few.items()})
    assert best_strength(History((whole, ladder), 4), goals, strengths) == 0.8, "compared on the ladder's own shots"


def test_the_space_starts_from_the_vector_that_is_there(lora: Path) -> None:
    text = f'"{lora}":0.8:GP1'
    terms = resolve_terms(parse_merge_string(text), presets=load_presets())
    space = Space.of(terms)
    gp1 = parse_vector("GP1", load_presets(), "sd1")
    assert dict(zip(space.names, space.start, strict=True)) == dict(gp1.weights)
    (stack,) = space.stacks([space.start])
    merged = resolve_terms(parse_merge_string(text), presets=load_presets())[0]
    for name in stack.deltas:
        ((_, strength),) = stack.deltas.parts(name)  # type: ignore[attr-defined]
        assert strength == pytest.approx(merged.strength(name)), name
    (back,) = space.terms_at(space.start)
    assert all(back.strength(name) == pytest.approx(merged.strength(name)) for name in merged.adapter)


def test_blocks_that_are_stronger_than_usual_are_told(space: Space) -> None:
    point = space.start.copy()
    assert space.unusual(point) == ()
    point[1], point[5], point[16] = 1.35, 1.3, 1.4
    assert space.unusual(point) == ("IN01", "OUT11")


def test_weights_may_go_further_than_people_write_them(lora: Path) -> None:
    terms = [Term(read(lora), 1.0, parse_vector(",".join(["-1"] + ["1"] * 15 + ["2.5"]), load_presets(), "sd1"))]
    usual = Space.of(terms, weights=NARROW)
    assert (usual.low[1:] == 0).all() and (usual.high[:-1] == 1.4).all()
    assert (usual.low[0], usual.high[-1]) == (-1, 2.5), "what was given stays possible"
    wide = Space.of(terms)
    assert (wide.low[1:] == -0.5).all() and (wide.high[:-1] == 1.8).all()
    assert np.array_equal(wide.width, usual.width), "the steps of the search stay as small"
    point = wide.start.copy()
    point[3] = -0.25
    assert wide.unusual(point) == ("IN04",)


def test_ranges_that_make_no_sense() -> None:
    for words in ({"lowest": 1.0}, {"lowest": -3.0}, {"lowest": math.nan}, {"highest": 0.9}, {"highest": math.inf}):
        with pytest.raises(TuneError, match=r"lowest|highest"):
            WeightRange(**words)
    usual, narrow = TuneRequest(("hands",)).facts(), TuneRequest(("hands",), weights=NARROW).facts()
    assert (usual["lowest"], usual["highest"]) == (-0.5, 1.8) and (narrow["lowest"], narrow["highest"]) == (0, 1.4)


def test_what_cannot_be_searched(lora: Path) -> None:
    adapter = read(lora)
    with pytest.raises(BlockError, match="positive weight"):
        Space.of([Term(adapter, -1.0)])
    with pytest.raises(BlockError, match="no second LoRA"):
        Space.of([Term(adapter, 1.0)], amount=True)
    rules = parse_vector("GP1,IN05-OUT05/attn=0", load_presets(), "sd1")
    with pytest.raises(BlockError, match="whole blocks would not keep"):
        Space.of([Term(adapter, 1.0, rules)])
    part = parse_vector("GP1,OUT05/attn1.to_q=0", load_presets(), "sd1")
    with pytest.raises(BlockError, match="OUT05/attn1 different weights, which a search over kinds of layers"):
        Space.of([Term(adapter, 1.0, part)], kinds=True)


def test_a_search_over_kinds_begins_at_the_rules_that_are_there(lora: Path) -> None:
    term = Term(read(lora), 1.0, parse_vector("GP1,IN05-OUT05/attn=0,OUT05/attn1=0.3", load_presets(), "sd1"))
    space = Space.of([term], kinds=True)
    starts = space.vector(space.start)
    assert (starts["OUT05/attn1"], starts["OUT05/attn2"], starts["OUT05/ff"], starts["BASE"]) == (0.3, 0.0, 0.8, 1.0)
    short = space.shortest(space.start)
    assert short["OUT05"] == 0.8 and "OUT05/ff" not in short and short["OUT05/attn1"] == 0.3
    (tuned,) = space.terms_at(space.start)
    assert all(tuned.strength(name) == term.strength(name) for name in term.adapter)
    plain = space.shortest(np.ones(len(space.names)))
    assert not any("/" in name for name in plain), "a weight that all layers of a block have is the block's number"


def test_the_guides_rule(space: Space) -> None:
    point = guide_point(space, ["hands"])
    assert point is not None
    moved = {name: value for name, value in zip(space.names, point, strict=True) if value != 1}
    assert moved == pytest.approx(dict.fromkeys(("IN04", "IN05", "IN07", "IN08"), 0.7))


def test_prompts_are_parted_and_seeds_too() -> None:
    prompts = [f"prompt {number}" for number in range(10)]
    effort = replace(QUICK, prompts=4, held_out=3, pool=10, fresh=6)
    split = split_prompts([*prompts, "prompt 1"], (3, 1), effort, 7)
    assert {shot.seed for shot in split.held_out} == {4, 5}
    search, held = ({shot.prompt for shot in part} for part in (split.search, split.held_out))
    assert len(search) == 4 and len(held) == 3 and not search & held
    assert {shot.seed for shot in split.search} == {1, 3}
    assert {shot.prompt for shot in split.fresh} == search and len(split.fresh) == 6
    assert not {shot.seed for shot in split.fresh} & {1, 3, 4, 5}, "fresh pictures are nobody else's"
    assert split == split_prompts(prompts, (3, 1), effort, 7) != split_prompts(prompts, (3, 1), effort, 8)
    assert len(split_prompts(prompts, (), replace(effort, prompts=7, pool=4), 7).search) == 7, "one seed of each"
    few = split_prompts(prompts[:4], (), effort, 7)
    assert len(few.search) == 10 and len(few.held_out) == 2 * 4, "few prompts have more seeds, the report four at most"
    with pytest.raises(PromptError, match="two different prompts"):
        split_prompts(["a", "a "], (1,), effort, 1)


def test_prompts_are_made_of_the_tags_in_a_header() -> None:
    tags = {"1girl": 10, "red hair": 6, "blue_hair": 4, "full_body": 5, "cowboy shot": 5, "smile": 5, "sitting": 5}
    header = {"ss_tag_frequency": json.dumps({"img": tags, "empty": {}})}
    prompts = prompts_from_header(header, 1, apart=[("smile", "sitting")])
    assert len(prompts) > 6 and len(set(prompts)) == len(prompts)
    for prompt in prompts:
        own = prompt.split(", ")
        assert own[0] == "1girl" and ("red hair" in own) + ("blue_hair" in own) == 1
        assert ("full_body" in own) + ("cowboy shot" in own) == 1 and ("smile" in own) + ("sitting" in own) == 1
    assert prompts == prompts_from_header(header, 1, apart=[("smile", "sitting")])
    for nothing in ({}, {"ss_tag_frequency": "{"}, {"ss_tag_frequency": "[]"}, {"ss_tag_frequency": '{"a": 3}'}):
        with pytest.raises(PromptError, match="does not say which tags"):
            prompts_from_header(nothing, 1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("90s", 90), ("1h30m", 5400), ("45", 45), ("1.5m", 90), ("2H", 7200)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "-3m", "m"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(TuneError, match="no length of time"):
        parse_duration(text)


def test_requests_that_make_no_sense() -> None:
    with pytest.raises(MeasureError, match="there is no symptom 'hand'"):
        TuneRequest(("hand",))
    for words in ({"symptoms": ()}, {"keep": 0.0}, {"budget": -1.0}, {"budget": math.nan}):
        with pytest.raises(TuneError):
            TuneRequest(**{"symptoms": ("hands",), **words})  # type: ignore[arg-type]
