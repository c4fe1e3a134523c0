"""The integer search for repeats against trying everything."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from loratools.dataset.balance.repeats import RepeatClass, best_plans, fulfils

Plan = tuple[int, ...]


def brute_force(main: int, face: int, others: list[int], factor: float, most: int) -> list[tuple[float, int]]:
    """(distance from 4 to 1, sum of the repeats) of every rule-keeping plan with repeats up to ``most``, best first."""
    plans = []
    for of_main, of_face in itertools.product(range(1, most + 1), repeat=2):
        ratio = main * of_main / (face * of_face)
        if not 3 <= ratio <= 5:
            continue
        off = abs(math.log(ratio / 4))
        for rest in itertools.product(*(range(1, (face * of_face - 1) // size + 1) for size in others)):
            count = main * of_main + face * of_face + sum(map(lambda n, r: n * r, others, rest))
            if 1000 <= factor * count <= 2000:
                plans.append((0.0 if off <= math.log(1.1) else off, of_main + of_face + sum(rest)))
    return sorted(plans)


@pytest.mark.parametrize("seed", range(16))
def test_the_first_plan_is_optimal(seed: int) -> None:
    rng = random.Random(seed)
    main, face, factor = rng.randint(8, 90), rng.randint(4, 40), rng.choice([2.0, 4.0])
    others = [rng.randint(3, 40) for _ in range(rng.randint(0, 2))]
    classes = [RepeatClass("main", "main", main), RepeatClass("face", "face", face)]
    classes += [RepeatClass(f"other{index}", "other", size) for index, size in enumerate(others)]
    best = best_plans(classes, factor)[0]
    expected = brute_force(main, face, others, factor, most=int(1000 / factor // min(main, 4 * face)) * 2 + 30)
    assert fulfils(best) == bool(expected)
    if expected:
        assert best.ratio is not None
        off = abs(math.log(best.ratio / 4))
        assert (0.0 if off <= math.log(1.1) else off, sum(best.repeats)) == pytest.approx(expected[0])


def test_the_next_plans_are_other_ones_and_no_better() -> None:
    classes = [RepeatClass("main", "main", 20), RepeatClass("face", "face", 10), RepeatClass("full", "other", 8)]
    plans = best_plans(classes, 4)
    assert len(plans) == 3 and len({plan.repeats for plan in plans}) == 3 and all(map(fulfils, plans))
    assert plans[0].repeats == (10, 5, 1) and plans[0].total == 4 * (200 + 50 + 8)
    assert sum(plans[0].repeats) <= sum(plans[1].repeats) <= sum(plans[2].repeats)


def test_variants_get_a_quarter_of_the_main_class() -> None:
    classes = [
        RepeatClass("main", "main", 24),
        RepeatClass("face", "face", 12),
        RepeatClass("variants", "variants", 16, relation=1 / 4),
    ]
    best = best_plans(classes, 4)[0]
    assert fulfils(best) and best.repeats[2] == max(round(best.repeats[0] / 4), 1)


def test_other_classes_are_raised_only_where_the_sum_needs_it() -> None:
    """Main pictures and faces cannot reach the sum with fewer repeats than one more of the large other class."""
    classes = [RepeatClass("main", "main", 80), RepeatClass("face", "face", 60), RepeatClass("full", "other", 50)]
    best = best_plans(classes, 2)[0]
    count = sum(each.images * times for each, times in zip(classes, best.repeats, strict=True))
    assert fulfils(best) and 1000 <= 2 * count <= 2000
    assert sum(best.repeats) == brute_force(80, 60, [50], 2, 40)[0][1]


@pytest.mark.parametrize(("main", "face", "others"), [(2, 1, [3, 2, 5, 7, 4, 1]), (10, 4, [3, 5, 7, 11, 13, 2])])
def test_many_small_classes_take_no_time(main: int, face: int, others: list[int]) -> None:
    """Where all that may be added is not enough, nothing is tried; this went on for minutes."""
    classes = [RepeatClass("main", "main", main), RepeatClass("face", "face", face)]
    best = best_plans([*classes, *(RepeatClass(str(n), "other", size) for n, size in enumerate(others))], 2)[0]
    assert fulfils(best) and best.total >= 1000


def test_where_no_repeats_will_do_the_nearest_are_given_with_what_they_break() -> None:
    (many,) = best_plans([RepeatClass("main", "main", 900), RepeatClass("face", "face", 40)], 4)
    assert many.repeats[0] == 1 and not fulfils(many) and "above 2000" in many.broken[0]
    (lopsided,) = best_plans([RepeatClass("main", "main", 4), RepeatClass("face", "face", 300)], 4)
    assert lopsided.repeats[1] == 1 and not fulfils(lopsided)
    crowd = [RepeatClass("main", "main", 20), RepeatClass("face", "face", 10), RepeatClass("full", "other", 400)]
    assert any("full is shown" in sentence for sentence in best_plans(crowd, 4)[0].broken)


def test_grey_no_more_than_colour() -> None:
    classes = [RepeatClass("main", "main", 30, grey=4), RepeatClass("face", "face", 15, grey=15)]
    best = best_plans(classes, 4)[0]
    assert fulfils(best)
    mostly = [RepeatClass("main", "main", 30, grey=25), RepeatClass("face", "face", 15)]
    assert any("without colour" in sentence for sentence in best_plans(mostly, 4)[0].broken)
    assert fulfils(best_plans([RepeatClass("main", "main", 30, grey=30)], 4)[0])  # a set that is grey as a whole


def test_without_faces_all_are_shown_alike() -> None:
    best = best_plans([RepeatClass("ink", "main", 61)], 2)[0]
    assert best.repeats == (9,) and best.ratio is None
    assert best_plans([], 4) == []
