"""What a run of a recipe leaves beside its results: ``run.json`` for programs and ``report.html`` for people."""

from loratools.recipe.report.facts import Told
from loratools.recipe.report.write import REPORT, RUN, write_report

__all__ = ["REPORT", "RUN", "Told", "write_report"]
