"""What a run of a recipe leaves beside its results: ``run.json`` for programs and ``report.html`` for people."""

from loratools.recipe.report.facts import FinishedRun
from loratools.recipe.report.printer import RunPrinter
from loratools.recipe.report.write import report_paths, try_report, write_report

__all__ = ["FinishedRun", "RunPrinter", "report_paths", "try_report", "write_report"]
