"""A module's delta as the sum that it is: adapters' own factors times strengths, so that stacks can share factors."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

from loratools.adapter.algebra.lowrank import Delta, LowRank


@dataclass(frozen=True, eq=False)
class Summand:
    """``strength`` * ``source[name]``, one summand of the delta of a module ``name``.

    Args:
        key: of the whole source's content: equal keys mean equal numbers under every name.
        source: an adapter, or any other mapping of deltas; read only where its factors are needed.
    """

    key: Hashable
    strength: float
    source: Mapping[str, Delta]

    def rank(self, name: str) -> int | None:
        """The rank of its delta, without reading a factor if the source has ``ranks``; None for a full difference."""
        if name in getattr(self.source, "dense", ()):
            return None
        ranks = getattr(self.source, "ranks", None)
        if ranks is not None:
            return int(ranks[name])
        delta = self.source[name]
        return delta.rank if isinstance(delta, LowRank) else None


@dataclass(frozen=True, eq=False)
class AdapterSum:
    """What a stack of adapters adds to the UNet: the summands of each module's delta, by name."""

    modules: Mapping[str, tuple[Summand, ...]]

    @cached_property
    def adapters(self) -> dict[Hashable, tuple[Summand, int]]:
        """Every adapter by its key: a summand of it, and how many of a module's summands are of it at most."""
        found: dict[Hashable, tuple[Summand, int]] = {}
        for summands in self.modules.values():
            counts: dict[Hashable, int] = {}
            for summand in summands:
                counts[summand.key] = counts.get(summand.key, 0) + 1
                known = found.get(summand.key)
                if known is None or known[1] < counts[summand.key]:
                    found[summand.key] = summand, counts[summand.key]
        return found


@dataclass(frozen=True, eq=False)
class RowAdapters:
    """One picture's adapters: ``weight`` * ``whole``."""

    whole: AdapterSum
    weight: float = 1.0

    @property
    def modules(self) -> Mapping[str, tuple[Summand, ...]]:
        """The summands of each module that it changes; none at weight 0."""
        return self.whole.modules if self.weight else {}

    @property
    def adapters(self) -> Mapping[Hashable, tuple[Summand, int]]:
        """:attr:`AdapterSum.adapters`; none at weight 0."""
        return self.whole.adapters if self.weight else {}
