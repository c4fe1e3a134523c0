"""Portions as they are claimed: what follows is known early, and nobody waits for what nobody finishes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loratools.preview.render.batches import Lot
from loratools.preview.render.lookahead import turns

A, B, C, D = (Lot(None, ()) for _ in range(4))


def test_every_lot_comes_with_the_next_one_also_of_the_next_portion() -> None:
    assert list(turns([[A, B], [C]])) == [(A, B), (B, C), (C, None), (None, None)]
    assert list(turns([])) == list(turns([[]]))[1:] == [(None, None)]


def test_before_others_are_waited_for_all_is_made_and_brought_to_rest() -> None:
    """After an empty portion nothing is asked for until the pictures of those before it were called for."""
    asked: list[str] = []

    def portions() -> Iterator[Sequence[Lot]]:
        asked.append("first")
        yield [A, B]
        asked.append("empty")
        yield []
        asked.append("after")
        yield [C]

    given = turns(portions())
    assert next(given) == (A, B) and asked == ["first"]
    assert next(given) == (B, None) and asked == ["first", "empty"]
    assert next(given) == (None, None) and asked == ["first", "empty"]
    assert list(given) == [(C, None), (None, None)]
