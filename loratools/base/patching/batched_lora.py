"""Many stacks in one UNet batch: every row under its own adapters, ``y_i = W x_i + b + sum_k s_ik up_k (down_k x_i)``.

A UNet call with two rows spends its time on kernel launches and on reading every weight; sixteen rows cost little more.
So pictures of different stacks are cheapest in one batch, each row with its own low-rank branch beside the frozen
modules, while the base's weights stay as they are. The factors lie in buffers that a captured CUDA graph or a compiled
block reads: other stacks need other contents of the buffers, and no new capture.

Where the stacks of a batch are sums of few adapters (one row of a grid at several weights, a search over the vectors of
one LoRA) all rows share the factors and have strengths of their own; else every row has its own factors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn

from loratools.adapter.algebra.factor_sum import Summand
from loratools.base.model import Base
from loratools.base.patching.branch_buffers import (
    BranchBuffers,
    Place,
    RowBuffers,
    SharedBuffers,
    matrix_shape,
    rounded_rank,
)
from loratools.base.patching.factor_cache import FactorCache
from loratools.base.patching.patch import live_modules
from loratools.base.patching.summands import AdapterSum, RowAdapters

_MOST_RANK = 256  # of one module's sum; beyond it branches cost about what they save
_CHEAP_RANK = 128  # up to it a product over all rows costs about what the narrowest does: the kernels' tile


class BatchedLora:
    """Low-rank branches beside a base's UNet modules, for batches of up to a number of rows that grows as needed.

    Args:
        shared: whether rows share factors: ``None`` where that is faster.
    """

    def __init__(self, base: Base, *, shared: bool | None = None) -> None:
        live = live_modules(base)
        modules = {name: live[name] for name in live if name.startswith("unet.") and _is_matrix(live[name])}
        self._place = Place(modules, base.device, base.dtype, FactorCache(base.device))
        self._wish = shared
        self._ranks: dict[Hashable, dict[str, int]] = {}  # of every module of each adapter
        self._row_ranks: dict[str, int] = {}  # of every module's widest sum
        self._slots = 1  # adapters of the batch with the most
        self._reserved: tuple[object, ...] = ()
        self._buffers: BranchBuffers | None = None
        self._rows = 0

    def fits(self, whole: AdapterSum) -> bool:
        """Whether every module of a sum is low-rank, and a linear module or a 1x1 convolution of the UNet.

        Reads no factor where the adapters have ``ranks`` and ``dense`` modules.
        """
        for name, summands in whole.modules.items():
            ranks = [summand.rank(name) for summand in summands]
            known = [rank for rank in ranks if rank is not None]
            if name not in self._place.modules or len(known) < len(ranks) or sum(known) > _MOST_RANK:
                return False
        return True

    def register(self, batches: Iterable[Sequence[AdapterSum]]) -> None:
        """Make the buffers wide enough for each batch, from the next :meth:`reserve` on.

        Args:
            batches: the sums of the stacks that each batch has.
        """
        for batch in batches:
            self._slots = max(self._slots, len({key for whole in batch for key in whole.adapters}))
            for whole in batch:
                total: dict[str, int] = {}
                for key, (adapter, count) in whole.adapters.items():
                    for name, rank in self._ranks_of(key, adapter).items():
                        total[name] = total.get(name, 0) + count * rank
                for name, rank in total.items():
                    self._row_ranks[name] = max(self._row_ranks.get(name, 0), rank)

    @property
    def shared(self) -> bool:
        """Whether rows share factors, of what is registered: a cost model.

        Sharing turns a batched product for each row into one product over all rows, of all adapters' ranks together.
        That pays as long as these are not much more than what a row has on its own.
        """
        if self._wish is not None:
            return self._wish
        together, alone = (max(ranks.values(), default=0) for ranks in (self._shared_ranks(), self._row_ranks))
        return self._slots * together <= max(_CHEAP_RANK, 2 * alone)

    def buffer_bytes(self, rows: int) -> int:
        """Bytes of the buffers for ``rows`` rows of any registered batch."""
        ranks, copies = (self._shared_ranks(), self._slots) if self.shared else (self._rounded_rows(), rows)
        numbers = sum(rank * sum(matrix_shape(self._place.modules[name])) for name, rank in ranks.items())
        return numbers * copies * self._place.dtype.itemsize

    @torch.no_grad()
    def reserve(self, rows: int) -> bool:
        """Have buffers for ``rows`` rows; True if they were allocated anew, so that captured graphs are stale."""
        shared = self.shared
        ranks = self._shared_ranks() if shared else self._rounded_rows()
        wanted = (shared, self._slots if shared else 0, tuple(ranks.items()))
        if rows <= self._rows and self._reserved == wanted:
            return False
        self._rows = max(rows, self._rows)
        self._buffers = None  # the old buffers' memory is free before the new ones are taken
        self._buffers = (
            SharedBuffers(self._place, ranks, self._slots, self._rows)
            if shared
            else RowBuffers(self._place, ranks, self._rows)
        )
        self._reserved = wanted
        return True

    @torch.no_grad()
    def fill(self, pictures: Sequence[RowAdapters], owners: Sequence[int]) -> None:
        """Set row i of the next batch to the adapters of ``pictures[owners[i]]``.

        Args:
            pictures: of registered batches.
            owners: no more of them than rows are reserved.
        """
        if self._buffers is not None:
            self._buffers.fill(pictures, owners)

    @torch.no_grad()
    def prefetch(self, picture: RowAdapters) -> None:
        """Upload what :meth:`fill` will need for a picture of a later batch."""
        if not self._rows:
            return
        if self.shared:
            wanted = [(name, own) for key, (own, _) in picture.adapters.items() for name in self._ranks_of(key, own)]
        else:
            wanted = [(name, summand) for name, own in picture.modules.items() for summand in own]
        self._place.cache.get(wanted)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Run the block with the branches beside the UNet's modules."""
        branches = list(self._buffers.branches.values()) if self._buffers is not None else []
        for branch in branches:
            branch.attach()
        try:
            yield
        finally:
            for branch in branches:
                branch.detach()

    def clear_cache(self) -> None:
        """Free what can be uploaded again."""
        self._place.cache.clear()

    def free(self) -> None:
        """Free buffers and factors, and forget what was registered."""
        self.clear_cache()
        self._ranks.clear()
        self._row_ranks.clear()
        self._slots, self._rows, self._reserved, self._buffers = 1, 0, (), None

    def _ranks_of(self, key: Hashable, adapter: Summand) -> Mapping[str, int]:
        """The rank of every module of an adapter that can have a branch: other vectors of it may need them all."""
        if key not in self._ranks:
            names = [name for name in adapter.source if name in self._place.modules]
            ranks = {name: adapter.rank(name) for name in names}
            self._ranks[key] = {name: rank for name, rank in ranks.items() if rank is not None}
        return self._ranks[key]

    def _shared_ranks(self) -> dict[str, int]:
        largest: dict[str, int] = {}
        for ranks in self._ranks.values():
            for name, rank in ranks.items():
                largest[name] = max(rank, largest.get(name, 0))
        return {name: rounded_rank(rank) for name, rank in largest.items()}

    def _rounded_rows(self) -> dict[str, int]:
        return {name: rounded_rank(rank) for name, rank in self._row_ranks.items()}


def _is_matrix(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == module.stride == (1, 1) and module.groups == 1 and module.padding == (0, 0)
    return isinstance(module, nn.Linear)
