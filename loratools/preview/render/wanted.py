"""Which pictures an engine is still to draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from loratools.preview.plan.jobs import Job


class Wanted(Protocol):
    """Says which pictures are missing, for instance from a grid's folder; it may change while others are drawn."""

    def lacks(self, jobs: Iterable[Job]) -> bool:
        """Whether any of these pictures is missing."""
        ...


class All:
    """Every picture is wanted: there is nowhere to find one."""

    def lacks(self, jobs: Iterable[Job]) -> bool:
        """Whether there is any job."""
        return any(True for _ in jobs)
