"""Batches whose pictures belong to different stacks: every row has its own low-rank branches beside the base's weights.

Used where stacks have too few pictures for a batch each; see :mod:`loratools.base.patching.batched_lora`.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from functools import partial

from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora
from loratools.base.patching.summands import RowAdapters
from loratools.base.prompt.guidance import Guidance
from loratools.base.sampling.cuda_graph import UNetGraphs
from loratools.preview.plan.jobs import Job
from loratools.preview.render.batches import StackBatch, mixed_batches
from loratools.preview.render.prompt_cache import PromptCache
from loratools.preview.render.wanted import Wanted
from loratools.preview.request.options import EngineOptions

_FEW = 0.5  # of a batch: with more pictures a stack, patching it and filling its own batches is as fast


class MixedBatches:
    """Decides whether pictures of several stacks share batches, and prepares such batches.

    Args:
        graphs: CUDA graphs of the UNet, if it is replayed as such; they are dropped when branches come or go.
        prompts: reads the prompts of a job under its own stack's text encoders.
    """

    def __init__(self, base: Base, options: EngineOptions, graphs: UNetGraphs | None, prompts: PromptCache) -> None:
        self._base, self._options, self._graphs, self._prompts = base, options, graphs, prompts
        self.active = False  # whether the groups planned last are mixed
        self._branches: BatchedLora | None = None
        self._widths: dict[Hashable, int] = {}  # pictures of the widest mixed batch, by their shape
        self._pieces: deque[Callable[[], None]] = deque()  # steps of preparing the next group

    def plan(self, groups: list[StackBatch], most: int, *, offloads: bool, compiles: bool) -> list[StackBatch]:
        """``groups`` as they are, or their pictures in mixed batches where that is wanted or faster.

        A graph of one picture is captured in a moment, so that the first one comes alone where graphs are replayed;
        with compiled blocks every width would be compiled.

        Args:
            most: pictures that fit a batch.
            offloads: whether models are moved off the device between steps, which rules mixing out.
            compiles: whether the UNet's blocks are compiled.
        """
        before, self.active = self.active, not offloads and self._mixes(groups, most)
        if before != self.active and self._graphs is not None:
            self._graphs.drop()  # they hold, or lack, the branches
        if not self.active:
            return groups
        mixed = mixed_batches(groups, self._options.batch, first_alone=self._graphs is not None and not compiles)
        self._lora.register([own[0].stack.unet_part for own in by_stack(group.jobs)] for group in mixed)
        return mixed

    def _mixes(self, groups: Sequence[StackBatch], most: int) -> bool:
        """Whether pictures of several stacks share batches: see :class:`EngineOptions`."""
        wanted, stacks = self._options.mixed, [group.stack for group in groups if group.stack]
        if wanted is False or most == 1 or len(stacks) == 1:
            return False
        filled = sum(len(group.jobs) for group in groups) / sum(len(group.batches) for group in groups)
        pays = self._graphs is not None and filled <= _FEW * most
        if not (pays or wanted):
            return False
        return all(self._lora.fits(stack.unet_part) for stack in stacks)

    @property
    def _lora(self) -> BatchedLora:
        if self._branches is None:
            self._branches = BatchedLora(self._base)
        return self._branches

    def measure(self, groups: Sequence[StackBatch], wanted: Wanted) -> None:
        """Note for each shape the missing pictures of the mixed batch with the most, so that graphs have one width."""
        self._widths = {}
        for group in groups if self.active and self._graphs is not None else ():
            shape, count = group.jobs[0].shape, sum(wanted.lacks([job]) for job in group.jobs)
            self._widths[shape] = max(count, self._widths.get(shape, 0))

    def padded(self, jobs: Sequence[Job], most: int) -> list[Job]:
        """``jobs``, the last one repeated up to the width of the widest mixed batch.

        All batches of a shape then replay one graph; another width would be captured, and its activations kept,
        separately. That is worth it for a picture alone, for which a whole batch would take several times as long.
        """
        width = 1 if len(jobs) == 1 else min(most, self._widths.get(jobs[0].shape, 0))
        return [*jobs, *[jobs[-1]] * (width - len(jobs))]

    def prepare_next(self, group: StackBatch | None, wanted: Wanted) -> None:
        """Have a mixed group prepared piece by piece, by :meth:`step`, while the group before it is being denoised.

        The device is given steps faster than it takes them, and would otherwise wait before the first step of
        ``group``.
        """
        self._pieces.clear()
        if group is None or group.stack is not None or not self.active:
            return
        if self._graphs is None or self._branches is None:
            return
        for own in by_stack([job for job in group.jobs if wanted.lacks([job])]):
            self._pieces.append(partial(self._prompts.read_alone, own))
            self._pieces.append(partial(self._branches.prefetch, _adapters(own[0])))

    def step(self, _done: int) -> None:
        """Called after each sampler step: one more piece of the next group's preparation."""
        if self._pieces:
            self._pieces.popleft()()

    def cancel(self) -> None:
        """Drop the preparation of the next group."""
        self._pieces.clear()

    def attached(self, jobs: Sequence[Job], guidance: Guidance) -> contextlib.AbstractContextManager[None]:
        """The branches of every row, attached to the UNet inside the block, if the batch is a mixed one."""
        if not self.active or self._branches is None:
            return contextlib.nullcontext()
        owners = guidance.row_owners(len(jobs))
        widest = max(self._widths.values(), default=0)  # a narrower batch that comes first has buffers for it too
        rows = max(len(owners), len(owners) // len(jobs) * widest)
        if self._branches.reserve(rows) and self._graphs is not None:
            self._graphs.drop()
        self._branches.fill([_adapters(job) for job in jobs], owners)
        return self._branches.attached()

    def size(self, batch: int) -> int:
        """Bytes that the branches of a batch of ``batch`` pictures under CFG take on the device."""
        return self._branches.buffer_bytes(2 * batch) if self.active and self._branches is not None else 0

    def shrink(self) -> None:
        """Free what can be uploaded again."""
        if self._branches is not None:
            self._branches.clear_cache()

    def forget(self) -> None:
        """Free everything."""
        if self._branches is not None:
            self._branches.free()


def by_stack(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs of each stack together, in the order of their first ones."""
    groups: dict[Hashable, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.stack.key, []).append(job)
    return list(groups.values())


def _adapters(job: Job) -> RowAdapters:
    return RowAdapters(job.stack.unet_part, job.stack.weight)
