"""The memory that branches read: factors of every row, or of the few adapters that all rows share with their strengths.

Ranks are rounded up, so that LoRAs of other ranks find buffers, graphs and compiled blocks of the same shapes; what a
stack does not fill is zero.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from loratools.adapter.algebra.factor_sum import Summand
from loratools.base.patching.branches import Branch, RowBranch, SharedBranch
from loratools.base.patching.factor_cache import FactorCache
from loratools.base.patching.summands import RowAdapters
from loratools.base.to_device import upload

Modules = Mapping[str, nn.Module]
_RANKS = (8, 16, 32, 48, 64, 96, 128, 192, 256)


class BranchBuffers(Protocol):
    """Buffers for up to a number of rows, and the branches that read them."""

    @property
    def branches(self) -> Mapping[str, Branch]:
        """Every module's branch."""
        ...

    def fill(self, pictures: Sequence[RowAdapters], owners: Sequence[int]) -> None:
        """Set row i of the next batch to the adapters of ``pictures[owners[i]]``."""
        ...


@dataclass(frozen=True)
class Place:
    """Where the buffers lie, and how they are filled."""

    modules: Modules
    device: torch.device
    dtype: torch.dtype
    cache: FactorCache


def rounded_rank(rank: int) -> int:
    """The rank that buffers have for one of ``rank``."""
    return next((own for own in _RANKS if own >= rank), -(-rank // 64) * 64)


def matrix_shape(module: nn.Module) -> tuple[int, int]:
    """(out, in) of a linear module or 1x1 convolution."""
    weight = module.weight
    return int(weight.shape[0]), int(weight.shape[1])  # type: ignore[index, operator, union-attr]


class RowBuffers:
    """Factors of every row: all down factors of a row in one buffer and all up factors in another.

    Args:
        ranks: of every module's sum, rounded.
    """

    def __init__(self, place: Place, ranks: Mapping[str, int], rows: int) -> None:
        self._place = place
        shapes = {name: matrix_shape(place.modules[name]) for name in ranks}
        sizes = [sum(rank * shapes[name][side] for name, rank in ranks.items()) for side in (1, 0)]
        self._flat = [torch.zeros(rows, size, device=place.device, dtype=place.dtype) for size in sizes]
        self._views: dict[str, tuple[Tensor, Tensor]] = {}
        starts = [0, 0]
        for name, rank in ranks.items():
            views = []
            for side, width in enumerate(reversed(shapes[name])):
                end = starts[side] + rank * width
                views.append(self._flat[side][:, starts[side] : end].view(rows, rank, width))
                starts[side] = end
            self._views[name] = views[0], views[1]
        self.branches = {name: RowBranch(place.modules[name], *pair) for name, pair in self._views.items()}

    def fill(self, pictures: Sequence[RowAdapters], owners: Sequence[int]) -> None:
        """As :meth:`BranchBuffers.fill`; rows of one picture are copied from each other."""
        done: dict[int, int] = {}
        for row, owner in enumerate(owners):
            first = done.setdefault(owner, row)
            for flat in self._flat:
                if first == row:
                    flat[row].zero_()
                else:
                    flat[row].copy_(flat[first])
            if first == row:
                self._set(row, pictures[owner])

    def _set(self, row: int, picture: RowAdapters) -> None:
        wanted = [(name, summand) for name, own in picture.modules.items() for summand in own]
        if not wanted:
            return
        factors = self._place.cache.get(wanted)
        downs, ups, at = list[Tensor](), list[Tensor](), dict[str, int]()
        for (name, _), (down, _) in zip(wanted, factors, strict=True):
            start = at.get(name, 0)
            at[name] = end = start + len(down)
            downs.append(self._views[name][0][row, start:end])
            ups.append(self._views[name][1][row, start:end])
        strengths = [summand.strength * picture.weight for _, summand in wanted]
        torch._foreach_copy_(downs, [down for down, _ in factors])
        torch._foreach_copy_(ups, torch._foreach_mul([up for _, up in factors], strengths))


class SharedBuffers:
    """Factors of up to ``slots`` adapters, each with ``ranks`` by module, and strengths of every row by slot.

    An adapter stays in its slot as long as no other needs it, so that a search over the vectors of the same LoRAs
    writes strengths alone.

    Args:
        ranks: of every module's largest adapter, rounded.
        slots: adapters that one batch may have.
    """

    def __init__(self, place: Place, ranks: Mapping[str, int], slots: int, rows: int) -> None:
        self._place, self._ranks = place, ranks
        self._columns: dict[str, int] = {}
        self._views: dict[str, tuple[Tensor, Tensor]] = {}
        columns = 0
        for name, rank in ranks.items():
            self._columns[name] = columns
            columns += slots * rank
        self._scale = torch.zeros(rows, columns, device=place.device)
        self.branches: dict[str, SharedBranch] = {}
        for name, rank in ranks.items():
            out, deep = matrix_shape(place.modules[name])
            down, up = (
                torch.zeros(slots * rank, width, device=place.device, dtype=place.dtype) for width in (deep, out)
            )
            self._views[name] = down.view(slots, rank, deep), up.view(slots, rank, out)
            start = self._columns[name]
            scale = self._scale[:, start : start + slots * rank]
            self.branches[name] = SharedBranch(place.modules[name], down, up, scale)
        self._slots: dict[Hashable, int] = {}  # the adapter in each, the least recently used first
        self._free = list(range(slots))

    def fill(self, pictures: Sequence[RowAdapters], owners: Sequence[int]) -> None:
        """As :meth:`BranchBuffers.fill`."""
        self._place_all(pictures)
        scales = torch.zeros(len(pictures), self._scale.shape[1])
        table = scales.numpy()
        for picture, row in zip(pictures, table, strict=True):
            for name, summands in picture.modules.items():
                rank, start = self._ranks[name], self._columns[name]
                for summand in summands:
                    first = start + self._slots[summand.key] * rank
                    row[first : first + rank] += summand.strength * picture.weight
        self._scale[: len(owners)].copy_(upload(scales[list(owners)], self._place.device))

    def _place_all(self, pictures: Sequence[RowAdapters]) -> None:
        """Have every adapter of ``pictures`` in a slot; those that are there already stay."""
        wanted = {key: summand for picture in pictures for key, (summand, _) in picture.adapters.items()}
        for key in wanted:
            if key in self._slots:
                self._slots[key] = self._slots.pop(key)  # used last
        for key, summand in wanted.items():
            if key not in self._slots:
                if not self._free:
                    self._free.append(self._slots.pop(next(own for own in self._slots if own not in wanted)))
                slot = self._free.pop(0)
                self._set(slot, summand)
                self._slots[key] = slot

    def _set(self, slot: int, adapter: Summand) -> None:
        """The whole adapter into a slot: other vectors of it may need other modules."""
        names = [name for name in self._views if name in adapter.source and adapter.rank(name) is not None]
        torch._foreach_zero_([part[slot] for pair in self._views.values() for part in pair])
        factors = self._place.cache.get([(name, adapter) for name in names])
        for side in (0, 1):
            sources = [pair[side] for pair in factors]
            targets = [self._views[name][side][slot, : len(own)] for name, own in zip(names, sources, strict=True)]
            torch._foreach_copy_(targets, sources)
