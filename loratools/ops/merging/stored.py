"""What reading a merge's file back would give, module by module, without writing it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from loratools.adapter.algebra.fuse import cut
from loratools.adapter.algebra.lowrank import Delta
from loratools.adapter.algebra.rank import Exact
from loratools.adapter.algebra.to_lowrank import lower
from loratools.adapter.files.encode import encode
from loratools.adapter.files.key_layout import Slot, lay_out
from loratools.dtypes import dtype_name
from loratools.ops.merging.combine import Combined
from loratools.ops.merging.merge import merge_in_memory
from loratools.ops.merging.terms import Term


class StoredMerge(Mapping[str, Delta]):
    """The exact sum of terms as its kohya file in ``dtype`` holds it: every factor rounded, alpha folded in as a reader
    folds it.

    A module is computed when it is looked up, by the functions that write a file and read it, so that a picture drawn
    under it is, bit for bit, the one drawn under the file.

    Attributes:
        shapes: module -> shape of its difference.
        content_keys: of every module's difference; equal keys mean equal numbers, in other merges too. No factor is
            read for them.
    Raises:
        LoratoolsError: of the kinds that :func:`~loratools.ops.merging.combine.combine` names.
    """

    def __init__(self, terms: Sequence[Term], dtype: torch.dtype = torch.float16) -> None:
        prepared = merge_in_memory(terms, rule=Exact(), dtype=dtype)
        self._prepared, self._dtype = prepared, dtype
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
        tensors, _ = encode(self._prepared, slot, self._dtype)
        return cut(_read_back(slot, tensors), slot.rows[place])

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def _content_key(self, name: str) -> Hashable:
        """What the stored numbers depend on: the sums of all modules that share its slot, and the slot's scale."""
        slot, place = self._slots[name]
        source = self._prepared.source
        if not isinstance(source, Combined):
            raise TypeError(f"the exact sum of terms is a Combined, not a {type(source).__name__}")
        sums = tuple(
            tuple((term.adapter.digest, strength) for term, strength in source.parts(part)) for part in slot.names
        )
        return "stored", dtype_name(self._dtype), slot.alpha, slot.rank, place, sums


def _read_back(slot: Slot, tensors: Sequence[Tensor]) -> Delta:
    """The whole difference of a slot, as a reader makes it of the stored tensors."""
    if slot.kind == "full":
        return lower("diff", {"diff": tensors[0].float()}, slot.shape, 1.0)
    alpha, down, up = (tensor.float() for tensor in tensors)
    return lower("lora", {"down": down, "up": up}, slot.shape, float(alpha.double()) / slot.rank)
