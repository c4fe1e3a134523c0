"""How far a longer work is: one convention, a callback that gets (done, total)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

OnProgress = Callable[[int, int], None]
"""Called as ``on_progress(done, total)``: ``done`` rises to ``total``. An exception that it raises stops the work, and
files that are not whole yet do not appear."""

_Item = TypeVar("_Item")


def counted(items: Iterable[_Item], total: int, on_progress: OnProgress | None) -> Iterator[_Item]:
    """``items`` as they are; after each has been used, ``on_progress`` hears how many of ``total`` they are."""
    iterator = iter(items)
    try:
        for done, item in enumerate(iterator, 1):
            yield item
            if on_progress is not None:
                on_progress(done, total)
    finally:
        if isinstance(iterator, Generator):  # its threads end here, also where the callback raised
            iterator.close()


def part_of(on_progress: OnProgress | None, number: int, parts: int, units: int) -> OnProgress | None:
    """The callback of the part ``number`` (from 0) of a work of ``parts`` parts that count as ``units`` each."""
    if on_progress is None:
        return None
    whole = on_progress  # mypy forgets in the lambda that a parameter is not None
    return lambda done, total: whole(number * units + units * done // max(total, 1), parts * units)
