"""What a run of a recipe leaves beside its results: ``run.json`` for programs and ``report.html`` for people."""

from loratools.recipe.report.facts import Told
from loratools.recipe.report.write import places, try_report, write_report

__all__ = ["Told", "places", "try_report", "write_report"]
