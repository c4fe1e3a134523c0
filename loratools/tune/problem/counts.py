"""How many pictures a tune draws, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loratools.tune.problem.effort import fresh_pictures
from loratools.tune.problem.prompts import Split
from loratools.tune.problem.request import TuneRequest


@dataclass(frozen=True)
class PictureCounts:
    """Pictures at most, counted in pictures of the search: one with its gradient and one of the report cost several.

    Attributes:
        stages: of the search, by the names that progress has for them.
        report: of all columns.
        answer: what choosing the answer takes at least, which is a part of the search.
    """

    stages: Mapping[str, int]
    report: int
    answer: int

    @property
    def search(self) -> int:
        """All before the report."""
        return sum(self.stages.values())

    @property
    def total(self) -> int:
        """The search and the report."""
        return self.search + self.report

    @staticmethod
    def of(request: TuneRequest, shots: Split, *, columns: int, weight: int, by_gradient: bool) -> PictureCounts:
        """Of a request.

        Args:
            columns: of the report.
            weight: search pictures that one of the report costs.
            by_gradient: the gradient leads the search.
        """
        effort, pool, fresh = request.effort, len(shots.search), len(shots.fresh)
        if by_gradient:
            stages = effort.descent_stages(pool, fresh, request.gradient_cost)
            answer = fresh_pictures(fresh, 1)
        else:
            stages = effort.search_stages(pool, fresh)
            answer = (effort.check_pictures(pool) + fresh_pictures(fresh, 1)) * min(1, effort.checks)
        return PictureCounts(stages, columns * len(shots.held_out) * weight, answer)
