"""Both files of a run, each whole or not at all, over those of the same recipe's last run and over nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from glob import escape
from pathlib import Path

from loratools.errors import LoratoolsError
from loratools.files import sweep, write_text
from loratools.recipe.plan.planner import Planner
from loratools.recipe.report.facts import FORMAT, FinishedRun, run_facts
from loratools.recipe.report.page import draw

RUN, REPORT = "run.json", "report.html"


def write_report(run: FinishedRun) -> Path:
    """Write the facts and the page of a run into its work folder, at :func:`report_paths`; the page is returned.

    Raises:
        FileError: if the folder cannot be written.
    """
    facts_path, page_path = report_paths(run.planner)
    for path in (facts_path, page_path):
        sweep(path.with_name(escape(path.name)))  # of a run that was killed; the work folder is locked
    facts = run_facts(run)
    write_text(facts_path, json.dumps(facts, indent=1, ensure_ascii=False, default=str) + "\n")
    write_text(page_path, draw(facts, run.planner.work, facts_path.name))
    return page_path


def try_report(run: FinishedRun, warn: Callable[[str], None]) -> Path | None:
    """:func:`write_report` for the end of a run, which must neither fail for its report nor have its own error hidden.

    Args:
        warn: is called with a sentence if anything goes wrong; then None is returned.
    """
    try:
        return write_report(run)
    except Exception as error:
        why = str(error) if isinstance(error, LoratoolsError) else f"{type(error).__name__}: {error}"
        warn(f"there is no report of this run ({why}); what the run made is there all the same")
        return None


def report_paths(planner: Planner) -> tuple[Path, Path]:
    """``run.json`` and ``report.html`` in the work folder; ``NAME.run.json`` and ``NAME.report.html`` where those names
    are taken: by another recipe that shares the folder, or by files that no run of ours wrote."""
    work = planner.work
    run, report = work / RUN, work / REPORT
    free = not run.exists() and not report.exists()
    return (
        (run, report)
        if free or _is_of(run, planner.name)
        else (work / f"{planner.name}.{RUN}", work / f"{planner.name}.{REPORT}")
    )


def _is_of(run: Path, name: str) -> bool:
    """Whether a run of the recipe called ``name`` wrote this file."""
    try:
        facts = json.loads(run.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    recipe = facts.get("recipe") if isinstance(facts, dict) else None
    return isinstance(recipe, dict) and facts.get("format") == FORMAT and recipe.get("name") == name
