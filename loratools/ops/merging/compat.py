"""Other mergers' results, for people who compare: what those tools make of the same merge string.

Written from the tools' observable behaviour: SuperMerger multiplies BOTH factors by the ratio and adds them up factor
by factor, so that the weight acts squared and cross terms appear; its "same to Strength" takes the root of the ratio's
magnitude, with the sign on one factor. It gives blocks that a vector does not list the weight 0, takes BASE for modules
in no block, and ignores the ratio where the vector is written out. LoRA Block Weight is linear, with the same zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.errors import FormatError, MergeStringError
from loratools.ops.merging.combine import combine
from loratools.ops.merging.lazy_result import LazyResult
from loratools.ops.merging.terms import Term

Tool = Literal["supermerger", "supermerger-strength", "lbw"]


def compatible(terms: Sequence[Term], tool: Tool) -> LazyResult:
    """What ``tool`` would compute of the same terms.

    Raises:
        FormatError: if the files are of a kind or ranks that SuperMerger does not add factor by factor.
        MergeStringError: for ``te=`` and ``unet=``, which these tools do not have.
    """
    if any(term.te != 1 or term.unet != 1 for term in terms):
        raise MergeStringError(f"{tool} has no te= or unet=; drop them from the terms")
    if tool == "lbw":
        return combine([replace(term, missing=0.0) for term in terms])
    return SuperMerger(terms, root=tool == "supermerger-strength")


class SuperMerger(LazyResult):
    """SuperMerger's sum of factors, lazily by module, in the first file's alpha.

    Args:
        root: "same to Strength": the root of the ratio on both factors, its sign on one of them.
    """

    def __init__(self, terms: Sequence[Term], *, root: bool) -> None:
        self._root = root
        whole = combine([replace(term, missing=0.0) for term in terms])
        self._terms = whole.terms
        self.family = whole.family
        self.shapes = whole.shapes
        self.ranks = {name: self._rank(name) for name in whole}

    def __getitem__(self, name: str) -> Delta:
        ups, downs = [], []
        for term in self._having(name):
            delta = term.adapter.delta(name, torch.float64)
            if not isinstance(delta, LowRank):
                raise FormatError(f"{term.adapter.path}: {name} is no pair of factors, which SuperMerger needs")
            side = math.sqrt(self._scale(term, name))
            up_ratio, down_ratio = self._ratios(term, name)
            ups.append(delta.up * (up_ratio / side))  # the scale alpha / rank is in up: half of it to each factor
            downs.append(delta.down * (down_ratio * side))
        up, down = torch.stack(ups).sum(0), torch.stack(downs).sum(0)
        return LowRank(up.float(), down.float(), self.shapes[name])

    def _ratios(self, term: Term, name: str) -> tuple[float, float]:
        ratio = self._ratio(term, name)
        if not self._root:
            return ratio, ratio
        return math.sqrt(abs(ratio)), math.copysign(math.sqrt(abs(ratio)), ratio)

    def _ratio(self, term: Term, name: str) -> float:
        if term.vector is None:
            return term.weight
        block = term.block(name) or term.vector.scheme.names[0]
        listed = term.vector.weight(block) if term.vector.lists(block) else 0.0
        return listed if term.inline else term.weight * listed

    def _scale(self, term: Term, name: str) -> float:
        rank = term.adapter.ranks[name]
        scale = term.adapter.alphas.get(name, float(rank)) / rank
        if scale < 0:
            raise FormatError(f"{term.adapter.path}: {name} has a negative alpha, which SuperMerger cannot add")
        return scale

    def _having(self, name: str) -> list[Term]:
        return [term for term in self._terms if name in term.adapter]

    def _rank(self, name: str) -> int:
        having = self._having(name)
        ranks = {term.adapter.ranks[name] for term in having}
        kinds = {term.adapter.kinds[name] for term in having}
        if len(ranks) > 1 or kinds != {"lora"}:
            raise FormatError(
                f"{name} has ranks {sorted(ranks)} and kinds {sorted(kinds)}; SuperMerger adds factors only of plain "
                "LoRAs of one rank: bring them to one with resize, or merge exactly"
            )
        return ranks.pop()
