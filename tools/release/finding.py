"""What a check says: nothing, or sentences each with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Check:
    """A line of the checklist.

    Args:
        title: what has to hold.
        problems: sentences about what does not; none where it holds.
    """

    title: str
    problems: Callable[[], Iterator[str]]
