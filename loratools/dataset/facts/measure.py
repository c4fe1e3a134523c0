"""The facts of many pictures, read side by side; a picture that cannot be read is named and stops no other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from loratools.dataset.facts.facts import PictureFacts, picture_facts
from loratools.errors import LoratoolsError
from loratools.progress import OnProgress, counted

_MOST_THREADS = 8  # reading is done outside Python's lock; more threads want more memory
_AHEAD = 4  # pictures waiting for each thread
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Measured:
    """``facts`` of the pictures that can be read, by path in the order asked for; ``refused``: the others' reasons."""

    facts: dict[Path, PictureFacts]
    refused: dict[Path, str]


def measure(paths: Sequence[Path], on_progress: OnProgress | None = None) -> Measured:
    """Read every picture of ``paths``."""
    facts: dict[Path, PictureFacts] = {}
    refused: dict[Path, str] = {}
    for path, result in counted(side_by_side(picture_facts, paths), len(paths), on_progress):
        if isinstance(result, LoratoolsError):
            refused[path] = str(result)
        else:
            facts[path] = result
    return Measured(facts, refused)


def side_by_side(
    function: Callable[[Path], _Value], paths: Iterable[Path]
) -> Iterator[tuple[Path, _Value | LoratoolsError]]:
    """``function`` of every path on a few threads, in order; where it raises an error of ours, that error."""
    threads = max(1, min(_MOST_THREADS, os.cpu_count() or 1))
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Path, Future[_Value]]] = deque()
        try:
            for path in paths:
                waiting.append((path, pool.submit(function, path)))
                if len(waiting) >= threads * _AHEAD:
                    path, future = waiting.popleft()
                    yield path, _result(future)
            while waiting:
                path, future = waiting.popleft()
                yield path, _result(future)
        finally:
            for _, future in waiting:
                future.cancel()


def _result(future: Future[Any]) -> Any:
    """What the work gave, or the error of ours that it raised."""
    try:
        return future.result()
    except LoratoolsError as error:
        return error
