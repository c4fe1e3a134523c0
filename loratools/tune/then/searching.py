"""Searching once more, of what a way made: the same search, on the same pictures and by the same measures."""

from __future__ import annotations

from dataclasses import replace

from loratools.preview.render.population import PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.tune.drawing import BaseDraws
from loratools.tune.folder import TuneFolder
from loratools.tune.problem.space import Space
from loratools.tune.progress import Stopped, TuneProgress
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun
from loratools.tune.then.way import Made, Turn


def search_again(turn: Turn) -> Made:
    """Search the vector of the first LoRA of the answer so far.

    Raises:
        Stopped: if a stop is wanted meanwhile; what is whole is kept.
    """
    result = searched(turn, Space.of(turn.terms, weights=turn.workplace.request.weights))
    vector = result.space.vector(result.found)
    facts = {"vector": vector, "pictures": result.history.pictures}
    return Made(tuple(result.space.terms_at(result.found)), f"{result.history.pictures} pictures", facts)


def searched(turn: Turn, space: Space) -> TuneResult:
    """A search of ``space`` that loses nothing of what the answer so far has; its files lie in the way's folder.

    Raises:
        Stopped: if a stop is wanted meanwhile.
    """
    place = turn.workplace
    clock, heard = place.clock, 0

    def hear(progress: TuneProgress) -> None:
        nonlocal heard
        clock.skip(max(0, progress.done - heard))
        heard = max(heard, progress.done)

    budget = None if clock.budget is None else max(1.0, clock.budget - clock.elapsed)
    clock.begin(turn.way)
    place.close()
    with PopulationRenderer(place.base, EngineOptions(batch=place.request.batch), rank=place.ranks) as renderer:
        run = TuneRun(
            space=space,
            request=replace(place.request, then=(), keep=1.0, budget=budget),
            shots=place.shots,
            draws=BaseDraws(renderer, space, place.fine, place.coarse),
            make_measures=lambda base, whole: place.measures,
            key=place.key_of(turn.way, turn.digest, space.names, [float(value) for value in space.start]),
            folder=TuneFolder(turn.folder / "search", place.ranks.main),
            ranks=place.ranks,
            weight=place.weight,
            on_progress=hear,
            on_note=lambda text: None,
        )
        result = run.run(turn.owner, force=True)
    if not result.finished:
        raise Stopped
    return result
