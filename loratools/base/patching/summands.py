"""What stacks of adapters add to the UNet, as the sums that they are, so that stacks can share factors."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

from loratools.adapter.algebra.factor_sum import Summand


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
