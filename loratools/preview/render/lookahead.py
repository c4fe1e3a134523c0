"""Portions of lots, as they are claimed -> one lot after another, each with the one that follows it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Protocol

from loratools.preview.render.batches import Lot
from loratools.preview.render.picture_store import Store


class Claims(Protocol):
    """Which lots are this process's to render, in portions; see :mod:`loratools.preview.render.claims`."""

    def portions(self, lots: Sequence[Lot], store: Store) -> Generator[Sequence[Lot]]:
        """Portions of lots, each claimed until its pictures are on disk or the generator is closed.

        An empty portion says that others wait for what has been given: before the next is asked for, its pictures have
        to be on disk.
        """
        ...


class Alone:
    """The claims of a process that has nobody beside it."""

    def portions(self, lots: Sequence[Lot], store: Store) -> Generator[Sequence[Lot]]:
        """All there is, at once."""
        yield lots


def turns(portions: Iterable[Sequence[Lot]]) -> Iterator[tuple[Lot | None, Lot | None]]:
    """Every lot with the one after it, which may be of the next portion. No lot: all is to be brought to rest."""
    held: Lot | None = None
    for portion in portions:
        for lot in portion:
            if held is not None:
                yield held, lot
            held = lot
        if not portion:
            if held is not None:
                yield held, None
            held = None
            yield None, None
    if held is not None:
        yield held, None
    yield None, None
