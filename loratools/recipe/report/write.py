"""Both files of a run, each whole or not at all; a page that cannot be drawn must not take a good run with it."""

from __future__ import annotations

import json
from pathlib import Path

from loratools.files import write_text
from loratools.recipe.report.facts import Told, run_facts
from loratools.recipe.report.page import draw

RUN, REPORT = "run.json", "report.html"


def write_report(told: Told) -> Path:
    """Write ``run.json`` and ``report.html`` into the work folder, over those of its last run; the page is returned.

    Raises:
        FileError: if the folder cannot be written.
    """
    work = told.planner.work
    facts = run_facts(told)
    write_text(work / RUN, json.dumps(facts, indent=1, ensure_ascii=False, default=str) + "\n")
    write_text(work / REPORT, draw(facts, work))
    return work / REPORT
