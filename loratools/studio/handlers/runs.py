"""``/api/runs``: training runs below the roots, whoever started them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from loratools.adapter.header import read_header
from loratools.base.infotext import parameters, read_png
from loratools.errors import LoratoolsError
from loratools.studio.api.models import Done, Point, Run, RunDetail, RunDo, RunEpoch, Sample
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.discover.snapshot import FoundRun
from loratools.studio.handlers.answers import get, post
from loratools.studio.handlers.verdict import verdict_of
from loratools.train.output.run_folder import RunFolder
from loratools.train.stop_file import EPOCH, STEP, ask_to_stop

_DRAWN = re.compile(r"(?:e(?P<epoch>\d{6,})|s(?P<step>\d{8,}))_(?P<number>\d{2,})\.png")
_MOST_SAMPLES = 2_000


def runs(studio: Studio, request: Request) -> list[Run]:
    """Every run, those that changed last first."""
    found = sorted(studio.index.now.runs, key=lambda own: -own.updated)
    return [Run(**_run(studio, own)) for own in found]


def run(studio: Studio, request: Request) -> RunDetail:
    """One run with its curves, pictures and verdict."""
    found = find_run(studio, request.path_params["id"])
    verdict, wrong = verdict_of(found)
    log = found.log
    return RunDetail(
        **_run(studio, found),
        loss=_points(log.loss.all()) if log else [],
        epoch_loss=_points(sorted(log.epoch_loss.items())) if log else [],
        validation=_points(log.validation_points) if log else [],
        rate=log.rate if log else None,
        samples=list(_samples(studio, found)),
        verdict=verdict,
        problem=wrong,
    )


def find_run(studio: Studio, run_id: str) -> FoundRun:
    """The run of an id.

    Raises:
        StudioError: if there is none.
    """
    found = next((own for own in studio.index.now.runs if studio.roots.id_of(own.place, "run") == run_id), None)
    if found is None:
        raise problem("run.unknown", status=404)
    return found


def _run(studio: Studio, found: FoundRun) -> dict[str, Any]:
    root = studio.roots.root_of(found.place.parent)
    log = found.log
    return {
        "id": studio.roots.id_of(found.place, "run"),
        "name": found.place.name,
        "root": root.id if root else "",
        "path": studio.roots.shown(found.place),
        "state": found.state,
        "epochs": [RunEpoch(number=number, lora=studio.roots.id_of(path)) for number, path in found.epochs.items()],
        "base": str(log.settings.get("base", "")) if log else _stated_base(found),
        "step": log.step if log else 0,
        "steps": log.steps if log else None,
        "updated": found.updated,
        "job": studio.queue.job_of_run(found.place) if found.running else None,
    }


def _stated_base(found: FoundRun) -> str:
    """What another trainer's file says that it was trained on."""
    try:
        path = next(iter(found.epochs.values()))
        return read_header(path).metadata.get("ss_sd_model_name", "")
    except (LoratoolsError, OSError, StopIteration):
        return ""


def _points(values: list[tuple[float, float]]) -> list[Point]:
    return [Point(at=at, value=value) for at, value in values]


def _samples(studio: Studio, found: FoundRun) -> Iterator[Sample]:
    """The pictures in ``NAME-samples``, in the order in which they were drawn."""
    folder = found.place.with_name(f"{found.place.name}-samples")
    prompts: dict[int, str] = {}
    if not folder.is_dir() or studio.roots.root_of(folder) is None:
        return
    for path in sorted(folder.iterdir())[:_MOST_SAMPLES]:
        match = _DRAWN.fullmatch(path.name)
        if match is None or studio.roots.root_of(path) is None:
            continue
        number = int(match["number"])
        if number not in prompts:
            prompts[number] = _prompt(path) or str(number)
        yield Sample(
            epoch=int(match["epoch"] or 0),
            step=int(match["step"]) if match["step"] else None,
            prompt=prompts[number],
            picture=studio.roots.picture_id(path),
        )


def _prompt(path: Path) -> str:
    """The prompt that a picture's own text holds; empty where it has none."""
    try:
        return parameters(read_png(path)[0]).prompt
    except (LoratoolsError, OSError, ValueError):
        return ""


def stop(studio: Studio, request: Request, body: RunDo) -> Done:
    """Ask a run to stop after its step or its epoch, whoever started it; its state is saved."""
    found = find_run(studio, request.path_params["id"])
    if not found.running:
        raise problem("run.idle", status=409, name=found.place.name)
    ask_to_stop(RunFolder(found.place.parent, found.place.name).stop, STEP if body.do == "stop" else EPOCH)
    return Done()


ROUTES: list[Route] = [get("/api/runs", runs), get("/api/runs/{id}", run), post("/api/runs/{id}", RunDo, stop)]
