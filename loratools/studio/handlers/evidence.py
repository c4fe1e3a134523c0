"""``/api/jobs/{id}/evidence``: what a search for a vector measured, from the ``tune.json`` that it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from loratools.errors import StudioError
from loratools.studio.api.stacks import Evidence
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import get

_FILE = "tune.json"
_MISSING = 404


def evidence(studio: Studio, request: Request) -> Evidence:
    """What the search of a job found."""
    record = studio.queue.job(request.path_params["id"])
    folder = next((Path(path) for path in record.results if (Path(path) / _FILE).is_file()), None)
    if folder is None:
        raise StudioError("this job has measured nothing yet", status=_MISSING, remedy="wait until it is done")
    try:
        told: dict[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        rows = [
            (f"{name} ({better} is better)", _text(told["before"].get(name)), _text(told["after"].get(name)))
            for name, better in told["measures"].items()
        ]
        held, search = told["held_out"], told["search"]
        sentence = (
            f"{search['pictures']} pictures were drawn to search; the figures are from {held['pictures']} others that "
            "the search never saw"
        )
        vector, notes = {str(block): float(weight) for block, weight in told["vector"].items()}, list(told["notes"])
        sheet = folder / told["sheet"]
        amount = told["amount"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudioError(f"{folder.name}/{_FILE} is not as a search writes it", remedy="search again") from error
    picture = studio.roots.picture_id(sheet) if sheet.is_file() else None
    return Evidence(sentence=sentence, rows=rows, vector=vector, amount=amount, picture=picture, notes=notes)


def _text(estimate: dict[str, Any] | None) -> str:
    """``0.93 ± 0.01``."""
    if estimate is None:
        return "-"
    error = estimate["standard_error"]
    return f"{estimate['mean']:.3g}" + (f" ± {error:.2g}" if error is not None else "")


ROUTES: list[Route] = [get("/api/jobs/{id}/evidence", evidence)]
