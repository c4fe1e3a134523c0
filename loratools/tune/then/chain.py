"""Ways one after another: each goes on from the best so far, and is taken where held-out pictures say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from loratools.base.model import Base
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Shown
from loratools.preview.record.cells import SamplingSettings
from loratools.train.interrupt import StopRequest
from loratools.tune.drawing import measured
from loratools.tune.history import History
from loratools.tune.problem.goals import Goals, goals_of
from loratools.tune.problem.then import DEFECT, PICKS, SEARCH, WAYS, ThenEffort, pictures_of
from loratools.tune.progress import Clock, OnProgress, Stopped
from loratools.tune.report.columns import Column, HeldOut
from loratools.tune.report.result import TuneResult
from loratools.tune.report.verdict import Verdict, judge_answer
from loratools.tune.report.way import WayResult
from loratools.tune.run import TuneRun
from loratools.tune.then.defect import defect_lora
from loratools.tune.then.material import Material, material_of
from loratools.tune.then.picks import picks
from loratools.tune.then.searching import search_again
from loratools.tune.then.way import Made, Turn
from loratools.tune.then.workplace import Workplace

_SURE = 1.0  # standard errors: a way that is taken misses nothing that stays by more
_MAKERS: Mapping[str, Callable[[Turn], Made]] = {PICKS: picks, DEFECT: defect_lora, SEARCH: search_again}


@dataclass(frozen=True, eq=False)
class Begun:
    """What a search begins with: its measures, and the pictures of its shots that they were made of."""

    measures: MeasureSet
    base: Sequence[Shown]
    whole: Sequence[Shown]

    def goals(self, of_report: Goals, keep: float) -> Goals:
        """The goals of these shots, of the same targets and constraints as those of the report."""
        every = list({each.name: each for each in (*self.measures.targets, *self.measures.kept)}.values())
        values = measured(every, [self.base, self.whole])
        base, whole = ({name: rows[number] for name, rows in values.items()} for number in (0, 1))
        targets = {each.name: each.better for each in of_report.targets}
        kept = {each.name: each.better for each in of_report.constraints}
        return goals_of(targets, kept, whole, base, keep)


@dataclass(frozen=True, eq=False)
class Follow:
    """What draws: the base, how pictures are sampled for the report and to choose, and who hears of each picture."""

    base: Base
    fine: SamplingSettings
    coarse: SamplingSettings
    on_progress: OnProgress


def follow(result: TuneResult, run: TuneRun, begun: Begun, drawing: Follow, owner: str) -> TuneResult:
    """Go through the ways that ``run`` was asked for, after its search came to ``result``.

    Nothing is written but what the ways themselves keep.

    Raises:
        LoratoolsError: of a way that fails; what earlier ways came to is kept and found again.
    """
    request, shots = run.request, run.shots
    report = run.weight * len(shots.held_out)
    costs = {way: pictures_of(way, request.effort, len(shots.search), report) for way in WAYS}
    with run.alone(), StopRequest(run.ranks, say="") as stop:
        clock = Clock(
            total=sum(costs[way] for way in request.then),
            report=0,
            budget=None if request.budget is None else max(0.0, request.budget - result.seconds),
            on_progress=drawing.on_progress,
            wants_stop=lambda: run.ranks.world == 1 and stop.asked > 0,
            now=monotonic,
        )
        place = Workplace(
            base=drawing.base,
            request=request,
            space=run.space,
            shots=shots,
            fine=drawing.fine,
            coarse=drawing.coarse,
            folder=run.folder,
            key=run.key,
            measures=begun.measures,
            goals=begun.goals(result.goals, request.keep),
            clock=clock,
            weight=run.weight,
            costs=costs,
            on_note=run.on_note,
            ranks=run.ranks,
        )
        followed = Chain(place, owner).follow(result, stop)
        clock.finish()
        return replace(followed, seconds=result.seconds + clock.elapsed)


@dataclass(frozen=True, eq=False)
class Chain:
    """The ways that a tune's request names.

    Attributes:
        owner: of the files that they write.
    """

    workplace: Workplace
    owner: str

    def follow(self, result: TuneResult, stop: StopRequest) -> TuneResult:
        """``result`` with what every way came to; its answer is the last one that helped.

        A stop or a budget ends it with the best so far, and the next call goes on.
        """
        place = self.workplace
        try:
            for number, way in enumerate(place.request.then, start=1):
                left = self._left_out(way, result, stop)
                if left is not None:
                    place.on_note(left)
                    return replace(result, finished=False, notes=(*result.notes, left))
                result = self._after(way, number, result)
                place.on_note(result.then[-1].reason)
        except Stopped:
            note = "the ways that train stop here; the best so far stays, and the same command goes on"
            place.on_note(note)
            return replace(result, finished=False, notes=(*result.notes, note))
        finally:
            place.close()
        return result

    def _left_out(self, way: str, result: TuneResult, stop: StopRequest) -> str | None:
        """Why a way is not begun, if it is not."""
        place = self.workplace
        stopped = place.ranks.any(stop.asked > 0)
        late = place.ranks.any(self._is_late(way, result.history))
        if stopped or not result.finished:
            return f"the search was stopped, so {way} is not tried; the same command goes on"
        if late:
            return f"the budget leaves no time for {way}; the same command with more of it goes on"
        return None

    def _is_late(self, way: str, history: History) -> bool:
        """Whether the way would not be done within the budget, by the time that pictures have taken so far."""
        clock = self.workplace.clock
        if clock.budget is None:
            return False
        each = clock.seconds_a_picture or sum(own.seconds for own in history.generations) / max(1, history.pictures)
        return clock.elapsed + self.workplace.costs[way] * each > clock.budget

    def _after(self, way: str, number: int, result: TuneResult) -> TuneResult:
        before = result.answer
        terms = tuple(result.terms)
        turn = Turn(
            workplace=self.workplace,
            way=way,
            terms=terms,
            number=number,
            answers=1 + sum(one.helped for one in result.then),
            material=self._material(),
            owner=self.owner,
        )
        if way == SEARCH and not _changed(result):
            made = Made((), "nothing has changed since the last search")
        else:
            made = _MAKERS[way](turn)
        if not made.terms:
            reason = f"{way} did not help: {made.says}; the answer stays {result.answer}"
            return _with(result, WayResult(way, "", before, False, (), None, reason, made.facts))
        return self._judged(turn, made, result)

    def _material(self) -> Material:
        place = self.workplace
        count = ThenEffort.of(place.request.effort).prompts
        return material_of(place.space, place.request, place.shots, place.base.name, count)

    def _judged(self, turn: Turn, made: Made, result: TuneResult) -> TuneResult:
        """The way's LoRA on held-out pictures, beside the answer so far."""
        before = result.answer
        column = self._column(turn, made)
        held = HeldOut(result.held.shots, (*result.held.columns, column))
        checks = {each.name: each.better for each in self.workplace.measures.checks}
        verdict = judge_answer(held, result.goals, checks, (column.name, before), _SURE)
        helped = verdict.answer == column.name
        reason = _reason(turn.way, made, held, result.goals, (column.name, before), verdict, helped)
        way = WayResult(turn.way, column.name, before, helped, made.terms, verdict.gain, reason, made.facts)
        return _with(replace(result, held=held), way)

    def _column(self, turn: Turn, made: Made) -> Column:
        place = self.workplace
        shots = place.shots.held_out
        place.clock.begin("report")
        shown = place.pictures(turn.name, made.terms, shots, fine=True)
        paths = tuple(place.folder.picture_paths(turn.name, len(shots)))
        values = place.values(shown, checks=True)
        return Column(turn.name, f"{turn.number}. {turn.way}", None, values, paths)


def _changed(result: TuneResult) -> bool:
    """Whether the answer is another one than the last search began with or came to."""
    last = next((one for one in reversed(result.then) if one.helped or one.way == SEARCH), None)
    return last is not None and last.way != SEARCH


def _with(result: TuneResult, way: WayResult) -> TuneResult:
    return replace(result, then=(*result.then, way), notes=(*result.notes, way.reason))


def _reason(
    way: str, made: Made, held: HeldOut, goals: Goals, columns: tuple[str, str], verdict: Verdict, helped: bool
) -> str:
    column, before = columns
    own, other = held.estimates(column), held.estimates(before)
    figures = ", ".join(
        f"{target.name} {other[target.name].text()} -> {own[target.name].text()}" for target in goals.targets
    )
    if helped:
        unsure = "" if verdict.clear else ", by less than two standard errors, so look at the sheet"
        return f"{way} helped ({made.says}): {figures} on held-out pictures{unsure}; it is the answer"
    why = "which is no better within noise"
    if verdict.lost:
        losses = " and ".join(f"{name} {other[name].text()} -> {own[name].text()}" for name in verdict.lost)
        why = f"but it loses {losses}"
    elif verdict.unseen and verdict.gain.mean < 0:
        why = f"which does not show in {' and '.join(verdict.unseen)}"
    return f"{way} did not help ({made.says}): {figures}, {why}; the answer stays {before}"
