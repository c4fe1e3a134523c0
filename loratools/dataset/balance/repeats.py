"""The repeats that fulfil guide 004's rules for classes of pictures: an integer search.

The rules: main pictures x repeats to faces x repeats as 4 to 1; every other class below the faces; the sum of pictures
x repeats times a factor (2 with mirrored copies, 4 without) from 1000 to 2000; repeats as small as possible; variants
of one scene at the main class's repeats over the size of a group; grey pictures no more often than colour.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

FEWEST, MOST = 1000, 2000  # bounds of the guide's sum
FEWEST_MAIN, MOST_MAIN = 3.0, 5.0  # what still counts as 4 to 1
MAIN_TO_FACES = 4.0
_ALIKE = math.log(1.1)  # a ratio within a tenth of 4 to 1 is as good as any other
_MOST_REPEATS = 500
_NEAREST = 60  # repeats that are tried where nothing fulfils the rules

ClassKind = Literal["main", "face", "variants", "other"]
Repeats = tuple[int, ...]  # of each class


@dataclass(frozen=True)
class RepeatClass:
    """A class of pictures.

    Attributes:
        images: files in it, copies that fill up groups of variants too.
        relation: its repeats for one of the main class's, as 1/4 for variants in groups of four; None leaves them to
            the search. Main classes share their repeats, and so do faces.
        grey: how many of the images are without colour.
    """

    name: str
    kind: ClassKind
    images: int
    relation: float | None = None
    grey: int = 0


@dataclass(frozen=True)
class RepeatPlan:
    """Repeats of each class, and what they come to.

    Attributes:
        count: images x repeats of all classes.
        total: the guide's sum: ``count`` times its factor.
        ratio: main pictures to faces; None where one of them is missing.
        broken: the rules that it does not fulfil, a sentence each.
    """

    repeats: Repeats
    count: int
    total: float
    ratio: float | None
    broken: tuple[str, ...] = ()


_Ranked = tuple[float, int, float, Repeats]  # how far from 4 to 1, sum of the repeats, exact distance, the repeats


def best_plans(classes: Sequence[RepeatClass], factor: float, number: int = 3) -> list[RepeatPlan]:
    """The best plans that fulfil the rules, best first: nearest to 4 to 1 (within a tenth is as good as exact), then
    the fewest repeats in all. Where grey pictures outnumber colour in every one, that rule alone is left out. Where
    nothing fulfils the others, the plan that comes nearest, with what it breaks.

    Args:
        factor: of the guide's sum, for one sample: 2 with mirrored copies, 4 without.
        number: of plans; those after the first differ from it in the repeats of main pictures or faces.
    """
    plans = list(_fulfilling(classes, factor))
    coloured = [plan for plan in plans if not _too_grey(classes, plan[-1])]
    best = heapq.nsmallest(number, coloured or plans)
    if not best:
        return [_described(classes, _nearest(classes, factor), factor)] if classes else []
    return [_described(classes, plan[-1], factor) for plan in best]


def fulfils(plan: RepeatPlan) -> bool:
    """Whether a plan keeps every rule."""
    return not plan.broken


def _fulfilling(classes: Sequence[RepeatClass], factor: float) -> Iterator[_Ranked]:
    main, faces = _images(classes, "main"), _images(classes, "face")
    if main and faces:
        yield from _with_faces(classes, factor, main, faces)
        return
    for number in range(1, _MOST_REPEATS + 1):  # the same for all, but for relations that are given
        plan = tuple(max(round(number * _relation(each)), 1) for each in classes)
        if _in_bounds(classes, plan, factor):
            yield (0.0, sum(plan), 0.0, plan)


def _relation(each: RepeatClass) -> float:
    return 1.0 if each.relation is None else each.relation


def _with_faces(classes: Sequence[RepeatClass], factor: float, main: int, faces: int) -> Iterator[_Ranked]:
    for of_main in range(1, min(_MOST_REPEATS, int(MOST / factor / main)) + 1):
        shown = main * of_main
        for of_faces in range(max(math.ceil(shown / MOST_MAIN / faces), 1), int(shown / FEWEST_MAIN / faces) + 1):
            plan = _plan(classes, of_main, of_faces, faces * of_faces, factor)
            if plan is not None:
                off = abs(math.log(shown / (faces * of_faces) / MAIN_TO_FACES))
                yield (0.0 if off <= _ALIKE else off, sum(plan), off, plan)


def _plan(
    classes: Sequence[RepeatClass], of_main: int, of_faces: int, faces_shown: int, factor: float
) -> Repeats | None:
    """The fewest repeats of all classes, given those of main pictures and faces; None where none keep the rules."""
    fixed = {"main": of_main, "face": of_faces}
    chosen: dict[int, int] = {}
    free: list[int] = []
    for index, each in enumerate(classes):
        most = (faces_shown - 1) // max(each.images, 1)  # below the faces
        if each.kind in fixed:
            chosen[index] = fixed[each.kind]
        elif most < 1:
            return None
        elif each.relation is not None:
            chosen[index] = max(min(round(each.relation * of_main), most), 1)
        else:
            chosen[index] = 1
            free.append(index)
    count = sum(classes[index].images * times for index, times in chosen.items())
    need, room = math.ceil(FEWEST / factor) - count, math.floor(MOST / factor) - count
    if room < 0:
        return None
    sizes = [classes[index].images for index in free]
    more = _fewest_more(sizes, [(faces_shown - 1) // size - 1 for size in sizes], need, room)
    if more is None:
        return None
    for index, times in zip(free, more, strict=True):
        chosen[index] += times
    return tuple(chosen[index] for index in range(len(classes)))


def _fewest_more(sizes: Sequence[int], most: Sequence[int], need: int, room: int) -> Repeats | None:
    """The fewest further repeats of classes of ``sizes``, each at most its ``most``, that add from ``need`` to ``room``
    images; None where there are none. A search in depth, largest class first, cut where it cannot become better."""
    if need <= 0:
        return (0,) * len(sizes)
    order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    left = [sum(sizes[index] * most[index] for index in order[place:]) for place in range(len(order) + 1)]
    best: list[int] | None = None

    def visit(place: int, taken: list[int], need: int, room: int) -> None:
        nonlocal best
        if need <= 0:
            if best is None or sum(taken) < sum(best):
                best = taken + [0] * (len(order) - len(taken))
            return
        if need > left[place]:  # not even all that may be added is enough
            return
        size = sizes[order[place]]
        if best is not None and sum(taken) + math.ceil(need / size) >= sum(best):
            return
        for times in range(min(most[order[place]], room // size, math.ceil(need / size)), -1, -1):
            visit(place + 1, [*taken, times], need - times * size, room - times * size)

    visit(0, [], need, room)
    return None if best is None else tuple(best[order.index(index)] for index in range(len(sizes)))


def _nearest(classes: Sequence[RepeatClass], factor: float) -> Repeats:
    """The repeats that come nearest to the rules where none fulfil them all."""

    def cost(plan: Repeats) -> tuple[float, int]:
        total = factor * _count(classes, plan)
        off = math.log(FEWEST / total) if total < FEWEST else math.log(total / MOST) if total > MOST else 0.0
        main, faces = _shown(classes, plan, "main"), _shown(classes, plan, "face")
        if main and faces:
            off += max(abs(math.log(main / faces / MAIN_TO_FACES)) - _ALIKE, 0.0)
        return round(off, 9), sum(plan)

    both = _images(classes, "main") > 0 and _images(classes, "face") > 0

    def repeats(each: RepeatClass, of_main: int, of_faces: int) -> int:
        if both and each.kind == "face":
            return of_faces
        if both and each.kind == "other" and each.relation is None:
            return 1
        return max(round(of_main * _relation(each)), 1)

    def plans() -> Iterator[Repeats]:
        for of_main in range(1, (_NEAREST if both else _MOST_REPEATS) + 1):
            for of_faces in range(1, (_NEAREST if both else 1) + 1):
                yield tuple(repeats(each, of_main, of_faces) for each in classes)

    return min(plans(), key=cost)


def _described(classes: Sequence[RepeatClass], plan: Repeats, factor: float) -> RepeatPlan:
    count, main, faces = _count(classes, plan), _shown(classes, plan, "main"), _shown(classes, plan, "face")
    ratio = main / faces if main and faces else None
    return RepeatPlan(plan, count, factor * count, ratio, tuple(_broken(classes, plan, factor, ratio)))


def _broken(classes: Sequence[RepeatClass], plan: Repeats, factor: float, ratio: float | None) -> Iterator[str]:
    """What a plan does against the rules."""
    total, faces = factor * _count(classes, plan), _shown(classes, plan, "face")
    if total < FEWEST:
        yield f"the sum {total:g} is below {FEWEST}: add pictures"
    if total > MOST:
        yield f"the sum {total:g} is above {MOST}: take pictures out"
    if ratio is not None and not FEWEST_MAIN <= ratio <= MOST_MAIN:
        yield f"main pictures to faces are {ratio:.1f} to 1 instead of 4 to 1"
    for each, repeats in zip(classes, plan, strict=True):
        if ratio is not None and each.kind in ("other", "variants") and each.images * repeats >= faces:
            yield f"{each.name} is shown {each.images * repeats} times, no less than the faces ({faces})"
    if _too_grey(classes, plan):
        grey = sum(each.grey * repeats for each, repeats in zip(classes, plan, strict=True))
        yield (
            f"pictures without colour are shown {grey} times, those with colour {_count(classes, plan) - grey}: guide "
            "004 wants no more of the first"
        )


def _too_grey(classes: Sequence[RepeatClass], plan: Repeats) -> bool:
    """Whether grey pictures are shown more often than those with colour, in a set that is not grey as a whole."""
    grey, count = sum(each.grey * times for each, times in zip(classes, plan, strict=True)), _count(classes, plan)
    return grey * 2 > count and grey < count


def _images(classes: Sequence[RepeatClass], kind: str) -> int:
    return sum(each.images for each in classes if each.kind == kind)


def _shown(classes: Sequence[RepeatClass], plan: Repeats, kind: str) -> int:
    return sum(each.images * times for each, times in zip(classes, plan, strict=True) if each.kind == kind)


def _count(classes: Sequence[RepeatClass], plan: Repeats) -> int:
    return sum(each.images * times for each, times in zip(classes, plan, strict=True))


def _in_bounds(classes: Sequence[RepeatClass], plan: Repeats, factor: float) -> bool:
    return FEWEST <= factor * _count(classes, plan) <= MOST
