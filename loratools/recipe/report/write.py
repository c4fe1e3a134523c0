"""Both files of a run, each whole or not at all, over those of the same recipe's last run and over nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from glob import escape
from pathlib import Path

from loratools.errors import LoratoolsError
from loratools.files import sweep, write_text
from loratools.recipe.plan.planner import Planner
from loratools.recipe.report.facts import FORMAT, Told, run_facts
from loratools.recipe.report.page import draw

RUN, REPORT = "run.json", "report.html"


def write_report(told: Told) -> Path:
    """Write the facts and the page of a run into its work folder, at :func:`places`; the page is returned.

    Raises:
        FileError: if the folder cannot be written.
    """
    run, report = places(told.planner)
    for path in (run, report):
        sweep(path.with_name(escape(path.name)))  # of a run that was killed; the work folder is held
    facts = run_facts(told)
    write_text(run, json.dumps(facts, indent=1, ensure_ascii=False, default=str) + "\n")
    write_text(report, draw(facts, told.planner.work, run.name))
    return report


def try_report(told: Told, warn: Callable[[str], None]) -> Path | None:
    """:func:`write_report` for the end of a run, which must neither fail for its report nor have its own error hidden
    by it: whatever goes wrong is told to ``warn`` in a sentence, and None is returned."""
    try:
        return write_report(told)
    except Exception as error:
        why = str(error) if isinstance(error, LoratoolsError) else f"{type(error).__name__}: {error}"
        warn(f"there is no report of this run ({why}); what the run made is there all the same")
        return None


def places(planner: Planner) -> tuple[Path, Path]:
    """``run.json`` and ``report.html`` in the work folder; ``NAME.run.json`` and ``NAME.report.html`` where those names
    are taken: by another recipe that shares the folder, or by files that no run of ours wrote."""
    work = planner.work
    run, report = work / RUN, work / REPORT
    free = not run.exists() and not report.exists()
    return (
        (run, report)
        if free or _tells_of(run, planner.name)
        else (work / f"{planner.name}.{RUN}", work / f"{planner.name}.{REPORT}")
    )


def _tells_of(run: Path, name: str) -> bool:
    """Whether a run of the recipe called ``name`` wrote this file."""
    try:
        facts = json.loads(run.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    recipe = facts.get("recipe") if isinstance(facts, dict) else None
    return isinstance(recipe, dict) and facts.get("format") == FORMAT and recipe.get("name") == name
