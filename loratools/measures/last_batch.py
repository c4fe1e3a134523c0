"""Several measures read the same pictures with the same model: it looks at them once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from loratools.measures.measure import Shown

T = TypeVar("T")


class LastBatch(Generic[T]):
    """A reader of pictures that keeps what it made of the last ones, and gives it again for the same objects."""

    def __init__(self, read: Callable[[Sequence[Shown]], T]) -> None:
        self._read = read
        self._last: tuple[list[Shown], T] | None = None

    def __call__(self, pictures: Sequence[Shown]) -> T:
        own = list(pictures)
        if self._last is None or len(own) != len(self._last[0]) or not all(map(_same, own, self._last[0])):
            self._last = own, self._read(own)
        return self._last[1]


def _same(one: Shown, two: Shown) -> bool:
    return one is two
