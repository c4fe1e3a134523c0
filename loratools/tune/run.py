"""A tune from its first picture to its files: reference, search, check, report."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import numpy as np

from loratools.errors import MeasureError
from loratools.files import locked, write_text
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Better, Measure, Measured, Shown, check_it_varies
from loratools.measures.smooth import SmoothMeasure
from loratools.ops.merging.merge import merge_files
from loratools.train.distributed import Ranks
from loratools.train.interrupt import StopRequest
from loratools.tune.arrays import Array
from loratools.tune.choosing import Choosing, Found
from loratools.tune.descent.descent import Descent
from loratools.tune.descent.objective import Objective
from loratools.tune.descent.pictures import SmoothPictures
from loratools.tune.descent.search import DescentSearch
from loratools.tune.descent.shots import DescentShots
from loratools.tune.descent.steps import Plan
from loratools.tune.drawing import Draws, measured
from loratools.tune.folder import TuneFolder
from loratools.tune.history import Generation, History
from loratools.tune.problem.counts import PictureCounts
from loratools.tune.problem.goals import Goals, goals_of, known_mean
from loratools.tune.problem.guide import TIMES, column_count, guide_point
from loratools.tune.problem.prompts import Shot, Split
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import USUAL, Space, as_vector
from loratools.tune.progress import Clock, OnProgress, Stopped
from loratools.tune.report.columns import (
    BASE,
    BEFORE,
    GUIDE,
    STRENGTH,
    TUNED,
    Column,
    HeldOut,
    check_comparable,
)
from loratools.tune.report.result import FILE, TuneResult
from loratools.tune.report.sheet import write_both
from loratools.tune.report.verdict import judge_answer, notes_of
from loratools.tune.search.strategy import Ask, Strategy

_SPARE = 0.6  # of what the style may lose is kept in reserve by the search, for pictures that it does not see
_NAMED = 6  # blocks, or kinds of layers, that a note names
_CUT = "the search stops here; its best vector is drawn for the report"
_STOPPING = "stopping the search; its best vector so far, if there is one yet, is drawn for the report"
MakeMeasures = Callable[
    [Sequence[Shown], Sequence[Shown]], MeasureSet
]  # of the base's and of the whole LoRA's pictures


@dataclass(frozen=True, eq=False)
class TuneRun:
    """One tune.

    Attributes:
        draws: draws vectors; ``make_measures`` makes what reads their pictures.
        key: of all that decides what is drawn and chosen.
        weight: search pictures that one of the report costs.
        replay: what an earlier round of the same tune drew, in its order from the whole LoRA on; drawn (or read) again
            before anything new.
        smooth: makes what draws pictures with gradients, where the gradient is to lead the search.
    """

    space: Space
    request: TuneRequest
    shots: Split
    draws: Draws
    make_measures: MakeMeasures
    key: str
    folder: TuneFolder
    weight: int
    on_progress: OnProgress
    on_note: Callable[[str], None]
    ranks: Ranks = Ranks()  # noqa: RUF009  (frozen)
    replay: tuple[Ask, ...] = ()
    smooth: Callable[[], SmoothPictures] | None = None

    def run(self, owner: str, *, force: bool = False, recipe: Mapping[str, Any] | None = None) -> TuneResult:
        """Search, report and write; see :func:`loratools.tune.tuning.tune`."""
        self.folder.check_place()
        with self.alone(), StopRequest(self.ranks, say=_STOPPING) as stop:
            self.folder.begin(self.key, owner, force=force)
            self.ranks.wait()
            clock = self._clock(stop)
            session = _Session(self, clock, stop)
            found = session.search()
            result = session.report(found)
            if self.ranks.main:
                write_files(result, owner, force=force, recipe=recipe)
            clock.finish()
            return result

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Holds the folder, so that no other process searches in it.

        Raises:
            HeldError: if one does.
        """
        return locked(self.folder.path / self.folder.part / "tune") if self.ranks.main else contextlib.nullcontext()

    def _clock(self, stop: StopRequest) -> Clock:
        counts = PictureCounts.of(
            self.request,
            self.shots,
            columns=column_count(self.space, self.request.symptoms),
            weight=self.weight,
            by_gradient=self.smooth is not None,
        )
        return Clock(
            total=counts.total,
            report=counts.report,
            answer=counts.answer,
            budget=self.request.budget,
            on_progress=self.on_progress,
            wants_stop=lambda: self.ranks.world == 1 and stop.asked > 0,
            now=monotonic,
        )


def write_files(
    result: TuneResult, owner: str, *, force: bool = False, recipe: Mapping[str, Any] | None = None
) -> None:
    """The tuned LoRA, ``tune.json``, the sheet and the plot.

    Raises:
        FileError: if there is a ``tuned.safetensors`` that ``owner`` did not write, without ``force``.
    """
    merge_files(result.terms, result.file, owner=owner, force=force, recipe=recipe)
    write_both(result)
    write_text(result.folder / FILE, json.dumps(result.json(), indent=1, ensure_ascii=False) + "\n")


class _Session:
    """The work of one :class:`TuneRun`: its clock, and the measures, which are made of the first pictures."""

    def __init__(self, run: TuneRun, clock: Clock, stop: StopRequest) -> None:
        self._run, self._clock, self._stop = run, clock, stop
        self._pool = len(run.shots.search)
        self._strategy = Strategy(run.space, run.request.effort, self._pool, run.request.seed)
        self._measures: MeasureSet = MeasureSet()
        self._whole: Sequence[Shown] = ()  # the whole LoRA's pictures of the search

    def search(self) -> Found:
        """Reference pictures, plain strengths, screening, search and check; the last three end early if they must."""
        goals, first = self._reference()
        history = History((first,), self._pool + len(self._run.shots.fresh))
        history = self._with(history, self._drawn(1 + len(history), self._strategy.ladder()))
        if self._run.smooth is not None:
            return self._down_the_gradient(self._run.smooth, history, goals)
        finished = True
        while (ask := self._next(history, goals)) is not None:
            if ask.kind != history.generations[-1].kind:
                self._check_targets(history)
            generation = self._timely(1 + len(history), ask)
            if generation is None:
                finished = False
                self._run.on_note(_CUT)
                break
            history = self._with(history, generation)
        return self._choosing().found(history, goals, finished)

    def _down_the_gradient(self, smooth: Callable[[], SmoothPictures], history: History, goals: Goals) -> Found:
        """The search where measures have a gradient."""
        run = self._run
        plan = Plan(run.request.effort.descent, run.request.effort.descent_shots, run.request.gradient_cost)
        objective = self._objective(goals)
        search = DescentSearch(
            run.space,
            plan,
            DescentShots(run.shots.search, run.request.seed),
            self._clock,
            make=lambda: Descent(smooth(), objective, run.request.batch, run.ranks, run.on_note),
            known=run.folder.step,
            keep=run.folder.keep_step,
            stopped=lambda cost: self._stop.agreed() or run.ranks.any(not self._clock.has_time_for(cost)),
        )
        whole = history.generations[0]
        steps = search.run({goal.name: known_mean(whole.values[goal.name][0]) for goal in goals.measures})
        finished = len(steps) == plan.steps
        if not finished:
            run.on_note(_CUT)
        return self._choosing().after_descent(history, goals, steps, finished)

    def _objective(self, goals: Goals) -> Objective:
        """The goals for the measures' smooth stand-ins.

        Raises:
            MeasureError: for a measure that has none.
        """
        measures = {each.name: each for each in self._all_measures}
        rough = [name for name, each in measures.items() if not isinstance(each, SmoothMeasure)]
        if rough:
            raise MeasureError(
                f"the measure '{rough[0]}' has no gradient that could lead the search; use `method=pictures`, which "
                "needs none"
            )
        smooth = {name: each for name, each in measures.items() if isinstance(each, SmoothMeasure)}
        return Objective.of(goals, smooth, self._whole, self._run.request.batch)

    def _next(self, history: History, goals: Goals) -> Ask | None:
        known = self._run.replay
        return known[len(history)] if len(history) < len(known) else self._strategy.next(history, goals)

    def report(self, found: Found) -> TuneResult:
        """Draw the columns, measure them, and decide."""
        run, start = self._run, self._run.space.start
        held = self._columns(found)
        check_comparable(held, (BEFORE, STRENGTH, TUNED))
        goals = self._goals(held.column(BEFORE).values, held.column(BASE).values, run.request.keep)
        verdict = judge_answer(held, goals, self._checks)
        point = found.point if verdict.answer == TUNED else np.round(start * found.strength, 4)
        notes = [*self._measures.notes, *notes_of(held, goals, verdict, run.request.keep, found.strength)]
        if unusual := run.space.unusual(point):
            names = " ".join(unusual[:_NAMED])
            names += f" and {len(unusual) - _NAMED} more" if len(unusual) > _NAMED else ""
            notes.append(f"{names} stand outside 0 to {USUAL:g}, where people keep block weights; it won all the same")
        return TuneResult(
            folder=run.folder.path,
            request=run.request,
            space=run.space,
            goals=goals,
            history=found.history,
            held=held,
            verdict=verdict,
            point=point,
            found=found.point,
            strength=found.strength,
            vector=as_vector(run.space.terms[run.space.tuned].adapter, run.space.shortest(point)),
            effects=found.effects,
            finished=found.finished,
            notes=tuple(notes),
            seconds=self._clock.elapsed,
            fresh=found.fresh,
            steps=found.steps,
            searched=run.shots.search,
        )

    def _reference(self) -> tuple[Goals, Generation]:
        """The base's and the whole LoRA's pictures of every shot, the measures made of them, and the goals."""
        run, shots = self._run, self._run.shots.search
        self._clock.begin("base")
        drawn = self._pictures({"search-base": None, "search-whole": run.space.start}, shots, fine=False)
        self._measures = run.make_measures(drawn["search-base"], drawn["search-whole"])
        self._whole = drawn["search-whole"]
        if not self._measures.targets:
            wanted = (
                "people's votes alone lead no search here; gather them on a grid's page, then give marks=VOTES.json"
            )
            raise MeasureError(wanted if self._measures.by_votes else "no measure tells what should become better")
        for note in self._measures.notes:
            run.on_note(note)
        every = tuple(range(self._pool))
        base = self._referred(0, Ask("base", ((),), every), drawn["search-base"])
        whole = self._referred(1, Ask("whole", (self._strategy.whole,), every), drawn["search-whole"])
        self._tell_time()
        keep = 1 - (1 - run.request.keep) * (1 - _SPARE)
        return self._goals(whole.of_point(0), base.of_point(0), keep), whole

    def _tell_time(self) -> None:
        """Say how long the rest will take, by the pictures that were drawn just now."""
        each = self._clock.seconds_a_picture
        if each is None:
            return
        left = max(0, self._clock.total - self._clock.done)
        minutes = max(1, round(left * each / 60))
        text = f"{left} more pictures at {each:.2g} s each: about {minutes} minute{'s' if minutes > 1 else ''}"
        budget = self._run.request.budget
        cut = "" if budget is None or left * each <= budget else f", cut to {budget / 60:.3g} by the budget"
        self._run.on_note(f"{text}{cut}; stop at any time, the same command goes on")

    def _referred(self, number: int, ask: Ask, shown: Sequence[Shown]) -> Generation:
        """Reference pictures as a generation, measured now or by an earlier run."""
        known = self._run.folder.generation(number, ask)
        if known is None:
            known = Generation(ask.kind, ask.points, ask.shots, measured(self._all_measures, [shown]))
            self._run.folder.keep(number, known)
        return known

    def _goals(self, whole: Mapping[str, Sequence[float]], base: Mapping[str, Sequence[float]], keep: float) -> Goals:
        targets = {each.name: each.better for each in self._measures.targets}
        kept = {each.name: each.better for each in self._measures.kept if each.name not in targets}
        return goals_of(targets, kept, whole, base, keep)

    @property
    def _all_measures(self) -> list[Measure]:
        """Each once, by name."""
        return list({each.name: each for each in (*self._measures.targets, *self._measures.kept)}.values())

    @property
    def _checks(self) -> dict[str, Better]:
        return {each.name: each.better for each in self._measures.checks}

    def _check_targets(self, history: History) -> None:
        """Raise MeasureError for a target that says the same of every vector's pictures."""
        for target in self._measures.targets:
            values = [value for one in history.generations for row in one.values[target.name] for value in row]
            blank, nothing = ("",) * len(values), (0,) * len(values)
            check_it_varies(Measured(target.name, target.better, np.array(values), blank, nothing))

    def _timely(self, number: int, ask: Ask) -> Generation | None:
        """The generation, drawn now or by an earlier run; None where the search has to stop before it."""
        known = self._run.folder.generation(number, ask)
        if known is not None:
            self._clock.skip(known.pictures)
            return known
        pictures = len(ask.points) * len(ask.shots)
        if self._stop.agreed() or self._run.ranks.any(not self._clock.has_time_for(pictures)):
            return None
        with contextlib.suppress(Stopped):
            return self._drawn(number, ask)
        return None

    def _drawn(self, number: int, ask: Ask) -> Generation:
        """The generation, drawn now or by an earlier run.

        Raises:
            Stopped: if a stop is wanted meanwhile.
        """
        run = self._run
        known = run.folder.generation(number, ask)
        if known is not None:
            self._clock.skip(known.pictures)
            return known
        self._clock.begin(ask.kind)
        begun = self._clock.elapsed
        every = (*run.shots.search, *run.shots.fresh)
        shots = [every[index] for index in ask.shots]
        points = [np.array(point) if point else None for point in ask.points]
        drawn = run.draws(points, shots, fine=False, on_picture=self._clock.picture)
        checks = (
            self._measures.checks if ask.kind == "fresh" else ()
        )  # which have a say in the choice, and lead nothing
        values = measured([*self._all_measures, *checks], drawn)
        generation = Generation(ask.kind, ask.points, ask.shots, values, round(self._clock.elapsed - begun, 2))
        run.folder.keep(number, generation)
        return generation

    def _choosing(self) -> Choosing:
        run = self._run
        return Choosing(
            run.space,
            run.request,
            run.shots,
            self._strategy,
            draw=self._drawn,
            goals=lambda whole, base: self._goals(whole, base, run.request.keep),
            checks=self._checks,
            has_time=lambda pictures: not run.ranks.any(not self._clock.has_time_for(pictures, answering=True)),
        )

    def _columns(self, found: Found) -> HeldOut:
        run, space = self._run, self._run.space
        self._clock.begin("report")
        labels: dict[str, str] = {BASE: "base", BEFORE: "whole LoRA"}
        points: dict[str, Array | None] = {BASE: None, BEFORE: space.start}
        guide = guide_point(space, run.request.symptoms)
        if guide is not None:
            labels[GUIDE], points[GUIDE] = f"guide's rule, {TIMES} steps", guide
        labels[STRENGTH], points[STRENGTH] = f"best plain strength, {found.strength:g}", space.start * found.strength
        labels[TUNED], points[TUNED] = "tuned", found.point
        shots = run.shots.held_out
        drawn = self._pictures(points, shots, fine=True)
        values = measured([*self._all_measures, *self._measures.checks], [drawn[name] for name in points])
        columns = []
        for number, (name, point) in enumerate(points.items()):
            own = {measure: rows[number] for measure, rows in values.items()}
            paths = tuple(run.folder.picture_paths(name, len(shots)))
            columns.append(Column(name, labels[name], point, own, paths))
        return HeldOut(shots, tuple(columns))

    def _pictures(
        self, points: Mapping[str, Array | None], shots: Sequence[Shot], *, fine: bool
    ) -> dict[str, list[Shown]]:
        """The pictures of each point, which the folder keeps by name; equal points are drawn once."""
        run, weight = self._run, self._run.weight if fine else 1
        digests = {name: self._digest(point, fine) for name, point in points.items()}
        drawn: dict[str, list[Shown]] = {}
        for name, digest in digests.items():
            shown = run.folder.pictures(name, digest, shots)
            if shown is not None:
                drawn[digest] = shown
                self._clock.skip(weight * len(shown))
        missing = {digest: points[name] for name, digest in digests.items() if digest not in drawn}
        if missing:

            def on_picture() -> None:
                self._clock.picture(weight)

            made = run.draws(list(missing.values()), shots, fine=fine, on_picture=on_picture)
            drawn |= dict(zip(missing, made, strict=True))
        for name, digest in digests.items():
            if run.folder.pictures(name, digest, shots) is None:
                run.folder.keep_pictures(name, digest, drawn[digest])
        return {name: drawn[digest] for name, digest in digests.items()}

    def _digest(self, point: Array | None, fine: bool) -> str:
        numbers = None if point is None else [round(float(value), 4) for value in point]
        return hashlib.sha256(json.dumps([self._run.key, numbers, fine]).encode()).hexdigest()

    @staticmethod
    def _with(history: History, generation: Generation) -> History:
        return replace(history, generations=(*history.generations, generation))
