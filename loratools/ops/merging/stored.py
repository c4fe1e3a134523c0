"""What reading a merge's file back would give, module by module, without writing it."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from loratools.adapter.algebra.factor_sum import FactorSum, Rounding, Summand
from loratools.adapter.algebra.fuse import cut
from loratools.adapter.algebra.lowrank import Delta, inner
from loratools.adapter.algebra.rank import Exact
from loratools.adapter.algebra.to_lowrank import lower
from loratools.adapter.files.encode import stored_tensors
from loratools.adapter.files.key_layout import Slot, lay_out
from loratools.dtypes import dtype_name
from loratools.ops.merging.combine import Combined
from loratools.ops.merging.merge import merge_in_memory
from loratools.ops.merging.terms import Term
from loratools.ops.merging.write_result import CANCELS

_MOST_KNOWN = 200_000  # products, of some 500 pairs of files
_SURELY = 1.001  # of the bound: other ways to sum a norm differ far less


class StoredMerge(Mapping[str, Delta]):
    """The exact sum of terms as its kohya file in ``dtype`` holds it: every factor rounded, alpha folded in as a reader
    folds it.

    A module is computed when it is looked up, by the functions that write a file and read it, so that a picture drawn
    under it is, bit for bit, the one drawn under the file.

    Attributes:
        shapes: module -> shape of its difference.
        content_keys: of every module's difference; equal keys mean equal numbers, in other merges too. No factor is
            read for them.
    Args:
        products: of the same files, kept from one merge to the next.
    Raises:
        LoratoolsError: of the kinds that :func:`~loratools.ops.merging.combine.combine` names.
    """

    def __init__(
        self, terms: Sequence[Term], dtype: torch.dtype = torch.float16, products: TermProducts | None = None
    ) -> None:
        self._products = products or TermProducts()
        prepared = merge_in_memory(terms, rule=Exact(), dtype=dtype)
        if not isinstance(prepared.source, Combined):
            raise TypeError(f"the exact sum of terms is a Combined, not a {type(prepared.source).__name__}")
        self._prepared, self._summed, self._dtype = prepared, prepared.source, dtype
        self._slots = {
            name: (slot, place)
            for slot in lay_out(prepared, prepared.source.family, "kohya", dtype, None)
            for place, name in enumerate(slot.names)
        }
        self.shapes: Mapping[str, tuple[int, ...]] = prepared.shapes
        self.content_keys: Mapping[str, Hashable] = {name: self._content_key(name) for name in prepared}

    def __getitem__(self, name: str) -> Delta:
        """The module's difference in float32.

        Raises:
            NonFiniteError: if it does not fit into the dtype.
        """
        slot, place = self._slots[name]
        tensors = stored_tensors(self._prepared, slot, self._dtype)
        return cut(_read_back(slot, tensors), slot.rows[place])

    def factor_sum(self, name: str) -> FactorSum | None:
        """The terms' own factors, and how the file rounds their sum; None for what is not low-rank, shares a stored
        weight with other modules, or is a sum whose terms cancel, which is stored in another form."""
        slot, _ = self._slots[name]
        whole = self._summed.factor_sum(name)
        if (
            whole is None
            or self._products.may_cancel(name, whole.summands)
            or slot.kind != "kohya"
            or slot.rows != (((0, slot.shape[0]),),)
        ):
            return None
        return replace(whole, rounding=Rounding(self._dtype, slot.scale, slot.balanced))

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def _content_key(self, name: str) -> Hashable:
        """What the stored numbers depend on: the sums of all modules that share its slot, and the slot's scale."""
        slot, place = self._slots[name]
        sums = tuple(
            tuple((term.adapter.digest, strength) for term, strength in self._summed.parts(part)) for part in slot.names
        )
        return "stored", dtype_name(self._dtype), slot.alpha, slot.rank, place, sums


class TermProducts:
    """Inner products of files' differences, module by module: with them a sum's norm is known under any strengths."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Hashable, Hashable], float] = {}

    def may_cancel(self, name: str, summands: Sequence[Summand]) -> bool:
        """Whether so much of a module's terms may cancel that a merge stores their sum in another form; near the bound
        it is said to. A single term never cancels, and is not read for this."""
        if len(summands) == 1:
            return False
        own = [self._product(name, part, part) * part.strength**2 for part in summands]
        between = [
            2 * one.strength * other.strength * self._product(name, one, other)
            for one, other in itertools.combinations(summands, 2)
        ]
        return sum(own) + sum(between) < _SURELY * CANCELS * sum(own)

    def _product(self, name: str, one: Summand, other: Summand) -> float:
        key = name, one.key, other.key
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = inner(one.source[name], other.source[name])
        return self._known[key]


def _read_back(slot: Slot, tensors: Sequence[Tensor]) -> Delta:
    """The whole difference of a slot, as a reader makes it of the stored tensors."""
    if slot.kind == "full":
        return lower("diff", {"diff": tensors[0].float()}, slot.shape, 1.0)
    alpha, down, up = (tensor.float() for tensor in tensors)
    return lower("lora", {"down": down, "up": up}, slot.shape, float(alpha.double()) / slot.rank)
