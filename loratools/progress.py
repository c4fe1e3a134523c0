"""How far a longer work is: one convention, a callback that gets (done, total), and one bar for people.

A program that runs loratools as a process of its own reads how far it is in a file: it names one in
``LORATOOLS_PROGRESS``, and finds there ``{"done": 12, "total": 80, "unit": "step", "what": "epoch 1/4", "left": 34}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

PROGRESS_FILE = "LORATOOLS_PROGRESS"  # environment variable: a file that is replaced as the work goes on
_REPORTED = 0.5  # seconds between two reports

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


def tqdm_bar(*, shown: bool = True, **options: Any) -> Any:
    """A tqdm bar on stderr, if ``shown`` and that is a terminal; or one that reports to the file of
    :data:`PROGRESS_FILE`, where that is set.

    Args:
        options: of tqdm: ``total``, ``unit``, ``desc``, ``initial``, ``leave`` ...
    """
    from tqdm import tqdm

    file = os.environ.get(PROGRESS_FILE)
    if not shown or not file:
        return tqdm(file=sys.stderr, disable=None if shown else True, **options)
    null = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (as long as the process)
    return _reporting(tqdm, file)(file=null, disable=False, mininterval=_REPORTED, **options)


def _reporting(bar: type[Any], file: str) -> type[Any]:
    """A kind of bar that writes what it would display to ``file``."""

    class Reporting(bar):  # type: ignore[misc]
        """What is displayed goes to a file; ``seconds_left`` of it, where that is known better than by the rate."""

        def display(self, msg: str | None = None, pos: int | None = None) -> bool:
            report(file, {**self.format_dict, "left": getattr(self, "seconds_left", None)})
            return True

    return Reporting


def report(file: str, facts: dict[str, Any]) -> None:
    """Replace ``file`` by how far a bar is; where it cannot be written, or is being read on Windows, nothing happens.

    Args:
        facts: a bar's ``format_dict``, and ``left`` where the seconds are known that it will take.
    """
    done, total, rate = facts["n"], facts["total"], facts["rate"]
    if rate is None and facts["elapsed"] and done > facts.get("initial", 0):
        rate = (done - facts.get("initial", 0)) / facts["elapsed"]
    what = (facts["prefix"] or "").strip().removesuffix(":")
    left = facts.get("left")
    if left is None and total and rate:
        left = (total - done) / rate
    text = json.dumps({"done": done, "total": total, "unit": facts["unit"], "what": what, "left": left})
    part = f"{file}.part"
    try:
        with open(part, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(part, file)
    except OSError:
        return


@contextlib.contextmanager
def shown_progress(what: str, unit: str) -> Iterator[OnProgress]:
    """A bar for a work that reports by :data:`OnProgress`; it appears with the first report."""
    bars: list[Any] = []

    def on_progress(done: int, total: int) -> None:
        if not bars:
            bars.append(tqdm_bar(total=total, desc=what, unit=unit, leave=False))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    try:
        yield on_progress
    finally:
        for bar in bars:
            bar.close()
