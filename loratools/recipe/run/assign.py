"""Which steps that load a model start now, and in which places: one process of its own for each, or several for one."""

from __future__ import annotations

from collections.abc import Sequence


def assign(most: Sequence[int], free: Sequence[int], soon: int = 0) -> list[tuple[int, ...]]:
    """Share the free places among the steps that are ready, which do not need each other.

    Every step gets a place before any gets a second one, because independent steps gain most by running at once; what
    is left goes round in their order, up to what each gains from. So a step that is alone gets all that it can use.

    Args:
        most: for each step, in its order: the number of processes that it gains from, at least 1.
        free: the places in which nothing runs.
        soon: how many more steps will be ready in a moment; a place is kept for each before any step gets a second one.
    Returns:
        The places of the steps that start: the first ones, as many as there are places for.
    """
    counts = [1] * min(len(most), len(free))
    left = len(free) - len(counts) - soon
    while left > 0 and any(count < limit for count, limit in zip(counts, most, strict=False)):
        for number, limit in enumerate(most[: len(counts)]):
            if left > 0 and counts[number] < limit:
                counts[number] += 1
                left -= 1
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    return [tuple(free[end - count : end]) for count, end in zip(counts, ends, strict=True)]
