"""``/api/jobs/{id}/evidence``: what a search for a vector measured, from the ``tune.json`` that it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from loratools.ops.merging.merge_string import parse_merge_string
from loratools.studio.api.stacks import Evidence, EvidenceRow
from loratools.studio.api.words import problem, quoted, words
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import get
from loratools.studio.jobs.record import JobRecord

_FILE = "tune.json"
_MISSING = 404


def evidence(studio: Studio, request: Request) -> Evidence:
    """What the search of a job found."""
    record = studio.queue.job(request.path_params["id"])
    folder = next((Path(path) for path in record.results if (Path(path) / _FILE).is_file()), None)
    if folder is None:
        raise problem("evidence.none", status=_MISSING)
    try:
        told: dict[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        rows = [
            EvidenceRow(
                measure=name,
                better=better,
                before=_text(told["before"].get(name)),
                after=_text(told["after"].get(name)),
            )
            for name, better in told["measures"].items()
        ]
        held, search = told["held_out"], told["search"]
        sentence = words("evidence.sentence", searched=search["pictures"], held=held["pictures"])
        vector, notes = (
            {str(block): float(weight) for block, weight in told["vector"].items()},
            list(map(str, told["notes"])),
        )
        sheet = folder / told["sheet"]
        amount = told["amount"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise problem("evidence.unreadable", file=f"{folder.name}/{_FILE}") from error
    picture = studio.roots.picture_id(sheet) if sheet.is_file() else None
    return Evidence(
        sentence=sentence,
        rows=rows,
        vector=vector,
        amount=amount,
        picture=picture,
        notes=list(map(quoted, notes)),
        lora=searched_lora(studio, record),
    )


def searched_lora(studio: Studio, record: JobRecord) -> str | None:
    """The LoRA whose vector the job searches: the first of its stack that is added."""
    terms = record.argv[2] if record.argv[:2] == ("blocks", "tune") else ""
    if not terms or terms.lower().endswith((".yaml", ".yml")):
        return None
    path = next((Path(spec.ref) for spec in parse_merge_string(terms) if spec.weight > 0), None)
    return studio.roots.id_of(path) if path is not None and studio.roots.root_of(path) is not None else None


def _text(estimate: dict[str, Any] | None) -> str:
    """``0.93 ± 0.01``."""
    if estimate is None:
        return "-"
    error = estimate["standard_error"]
    return f"{estimate['mean']:.3g}" + (f" ± {error:.2g}" if error is not None else "")


ROUTES: list[Route] = [get("/api/jobs/{id}/evidence", evidence)]
