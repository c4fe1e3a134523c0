"""Jobs -> pictures on disk: patched, encoded, denoised, decoded and written, each as seldom and as wide as it can be.

Pictures of one stack share batches; stacks follow each other so that the fewest weights are rewritten; prompts are
encoded once for every state of the text encoders; latents wait until a batch of them is decoded; files are compressed
and written on threads. On CUDA the UNet is a graph that is replayed on the patched weights, and nothing in the loop
waits for the device, so that the next stack is patched while the last one is still being computed. Where stacks have
too few pictures for a batch each, pictures of several stacks share one, every row with its own low-rank branches
beside the base's weights (:mod:`loratools.base.patching.batched_lora`).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from loratools.base.generate import batch_guidance, denoise_batch
from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora, RowAdapters
from loratools.base.patching.patch import Patcher
from loratools.base.prompt.guidance import Guidance
from loratools.base.prompt.prompt_encoding import encode_prompts
from loratools.base.sampling.cuda_graph import UNetGraphs
from loratools.base.sampling.sample import UNet, compiled_unet, plain_unet
from loratools.errors import GridError
from loratools.preview.plan.jobs import Job, Stack
from loratools.preview.render.batches import Lot, even, mixed, plan_lots
from loratools.preview.render.decoder import Decoder
from loratools.preview.render.lookahead import Alone, Claims, turns
from loratools.preview.render.memory import Need, Parking, available, fitting, need, too_small
from loratools.preview.render.picture_store import Store
from loratools.preview.render.png_writer import Writing
from loratools.preview.render.prefetch import Ahead
from loratools.preview.render.prompt_cache import Encode, Texts

_WORTH_A_GRAPH = 8  # UNet calls of one shape; capturing one costs about three
_FEW = 0.5  # of a batch: with more pictures a stack, patching it and filling its own batches is as fast


@dataclass(frozen=True)
class Options:
    """How an engine works; none of it changes what a picture shows beyond rounding.

    Args:
        batch: pictures a UNet call, at most.
        graphs: replay the UNet as a CUDA graph (on CUDA, and not with ``offload``).
        compiled: run the UNet through torch.compile: minutes of compiling for a third less time a step.
        offload: keep only the model that works on the device.
        sliced: decode pictures one by one.
        tiled: decode each picture in tiles, for sizes whose decoding does not fit otherwise.
        mixed: pictures of several stacks in one batch: ``None`` where that is faster (on CUDA, if stacks have few
            pictures), ``True`` wherever it can be, ``False`` never.
    """

    batch: int = 8
    graphs: bool = True
    compiled: bool = False
    offload: bool = False
    sliced: bool = False
    tiled: bool = False
    mixed: bool | None = None


class Engine:
    """Renders jobs on one base, which is W0 again after every call. Close it to free graphs and kept deltas.

    Args:
        encode: texts -> guides, under what is patched into the text encoders; by default all that the WebUI's syntax
            says, without embeddings.
        say: told what rendering needs before it starts, and when memory made it work in smaller batches.
    """

    def __init__(
        self,
        base: Base,
        options: Options | None = None,
        *,
        encode: Encode = encode_prompts,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.base = base
        self.options = options or Options()
        if self.options.batch < 1:
            raise GridError(f"a batch of {self.options.batch} pictures makes no grid; use 1 or more")
        self.patcher = Patcher(base)
        self._say = say or (lambda text: None)
        self._most = self.options.batch
        self._texts = Texts(base, self.patcher, encode, self._using)
        self._decoder = Decoder(base, self.options.sliced, self._using, self._free, self._say)
        self._pieces: deque[Callable[[], None]] = deque()  # of what the next lot needs
        self._branches: BatchedLora | None = None
        self._mixing = False
        self._widths: dict[Hashable, int] = {}  # pictures of the widest mixed batch, by their shape
        self._parking = Parking(base) if self.options.offload and base.device.type != "cpu" else None
        self._plain: UNet = compiled_unet(base) if self.options.compiled else plain_unet(base)
        on_cuda = base.device.type == "cuda" and self._parking is None
        self._graphs = UNetGraphs(self._plain) if self.options.graphs and on_cuda else None
        if self.options.tiled:
            base.vae.enable_tiling()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring the base back to W0 and free all that is kept."""
        self.patcher.forget()
        self._texts.forget()
        if self._branches is not None:
            self._branches.forget()
        if self._graphs is not None:
            self._graphs.drop()
        if self.options.tiled:
            self.base.vae.disable_tiling()

    def check(self, stacks: Iterable[Stack]) -> None:
        """Raise BaseModelError or ShapeError if a stack does not fit the base; nothing is touched."""
        for stack in stacks:
            self.patcher.check(stack.deltas)

    def render(
        self,
        jobs: Sequence[Job],
        store: Store,
        *,
        on_done: Callable[[int], None] | None = None,
        claims: Claims | None = None,
    ) -> int:
        """Render every job whose picture ``store`` lacks, and save it there.

        A batch of one stack with one lacking picture is rendered whole, so that a resumed grid has the pictures of an
        uninterrupted one; only what lacks is written. Of a mixed batch only what lacks is rendered.

        Args:
            on_done: called with the number of pictures that have just come to rest, rendered or found.
            claims: which part of the work is this process's own; all of it by default.
        Returns:
            The number of pictures rendered.
        Raises:
            BaseModelError, ShapeError: if a stack does not fit the base.
            GridError: if not even one picture fits the memory.
        """
        lots = self._plan(jobs)
        self._widths = self._widest(lots, store)
        told, rendered = on_done or (lambda count: None), 0
        self._announce(lots, store)
        mine = contextlib.closing((claims or Alone()).portions(lots, store))
        try:
            with _current(self.base.device), mine as portions, Writing(store) as writing, self._ahead(store) as ready:
                for lot, following in turns(map(ready, portions)):
                    if lot is None:
                        self._decoder.flush(writing, told)
                        told(writing.drain())
                        continue
                    self._soon(following, store)
                    rendered += self._render_lot(lot, store, writing, told)
        finally:
            self._decoder.drop()
            self._pieces.clear()
            self.patcher.restore()
            if self._parking:
                self._parking.back()
        return rendered

    def _plan(self, jobs: Sequence[Job]) -> list[Lot]:
        lots = plan_lots(jobs, self.options.batch)
        before, self._mixing = self._mixing, self._mixes(lots)
        if before != self._mixing and self._graphs is not None:
            self._graphs.drop()  # they hold, or lack, the branches
        if not self._mixing:
            return lots
        if self._branches is None:
            self._branches = BatchedLora(self.base)
        self._branches.know(lot.stack.deltas for lot in lots if lot.stack)
        return mixed(lots, self.options.batch)

    def _mixes(self, lots: Sequence[Lot]) -> bool:
        """Whether pictures of several stacks share batches: see :class:`Options`."""
        wanted, stacks = self.options.mixed, [lot.stack for lot in lots if lot.stack]
        if wanted is False or self.options.compiled or self._parking or self._most == 1 or len(stacks) == 1:
            return False
        filled = sum(len(lot.jobs) for lot in lots) / sum(len(lot.batches) for lot in lots)
        pays = self._graphs is not None and filled <= _FEW * self._most
        if not (pays or wanted):
            return False
        branches = BatchedLora(self.base)
        return all(branches.fits(stack.deltas) for stack in stacks)

    @contextlib.contextmanager
    def _ahead(self, store: Store) -> Iterator[Callable[[Sequence[Lot]], Sequence[Lot]]]:
        """What puts the found ones of some lots first, and has the others' stacks read ahead where the device works
        meanwhile."""
        if self.base.device.type != "cuda":
            yield lambda lots: lots
            return
        with Ahead() as ahead:

            def ready(lots: Sequence[Lot]) -> Sequence[Lot]:
                lacking = {lot for lot in lots if store.lacks(job.wanted for job in lot.jobs)}
                found = [lot for lot in lots if lot not in lacking]
                return [*found, *ahead.add([lot for lot in lots if lot in lacking])]

            yield ready

    def _widest(self, lots: Sequence[Lot], store: Store) -> dict[Hashable, int]:
        """How many pictures of each shape lack in the mixed batch where the most do, for graphs of one width."""
        widths: dict[Hashable, int] = {}
        for lot in lots if self._mixing and self._graphs is not None else ():
            shape, count = lot.jobs[0].shape, sum(store.lacks([job.wanted]) for job in lot.jobs)
            widths[shape] = max(count, widths.get(shape, 0))
        return widths

    def _render_lot(self, lot: Lot, store: Store, writing: Writing, told: Callable[[int], None]) -> int:
        lacking = [job for batch in lot.batches for job in batch if store.lacks([job.wanted])]
        if lacking:
            try:
                self._prepare(lot.stack, lot.jobs if lot.stack else lacking)
            except torch.OutOfMemoryError:
                self._free()
                self._prepare(lot.stack, lot.jobs if lot.stack else lacking)
        for batch in lot.batches:
            open_jobs = [job for job in batch if store.lacks([job.wanted])]
            told(len(batch) - len(open_jobs))
            if not open_jobs:
                continue
            for jobs, latents in self._denoised(list(batch) if lot.stack else open_jobs):
                new = [job.wanted if store.lacks([job.wanted]) else None for job in jobs]
                self._decoder.add(new, latents)
            if self._decoder.full:
                self._decoder.flush(writing, told)
            told(writing.finished())
        return len(lacking)

    def _prepare(self, stack: Stack | None, jobs: Sequence[Job]) -> None:
        """Patch the stack and read the texts; without a stack only text encoders are patched, for each job's own."""
        if self._parking:
            self._parking.park()
        if stack is not None:
            self.patcher.move(stack.deltas, stack.weight, stack.module_marks)
            self._texts.read(stack, jobs)
            return
        for own in _by_stack(jobs):
            self._texts.read_alone(own)

    def _soon(self, lot: Lot | None, store: Store) -> None:
        """Have a mixed lot prepared piece by piece between the steps of the one before it: the device is given its
        steps faster than it takes them, and would wait for the first of ``lot`` otherwise."""
        self._pieces.clear()
        if lot is None or lot.stack is not None or not self._mixing or self._graphs is None or self._branches is None:
            return
        for own in _by_stack([job for job in lot.jobs if store.lacks([job.wanted])]):
            self._pieces.append(partial(self._texts.read_alone, own))
            self._pieces.append(partial(self._branches.bring, _row(own[0])))

    def _step(self, _done: int) -> None:
        if self._pieces:
            self._pieces.popleft()()

    def _denoised(self, jobs: list[Job]) -> Iterator[tuple[list[Job], Tensor]]:
        """Latents of ``jobs``; in halves, and all later batches too, where memory does not suffice."""
        waiting = [jobs]
        while waiting:
            part = waiting.pop(0)
            if len(part) > self._most:
                waiting[:0] = [list(half) for half in even(part, self._most)]
                continue
            latents = self._try(part)
            if latents is None:
                self._most = -(-len(part) // 2)
                waiting.insert(0, part)
                self._free()
                self._say(f"out of memory with {len(part)} pictures at once; going on with {self._most}")
            else:
                yield part, latents

    def _try(self, jobs: list[Job]) -> Tensor | None:
        """None if memory did not suffice for more than one picture."""
        try:
            return self._denoise(jobs)
        except torch.OutOfMemoryError:
            if len(jobs) == 1:
                raise GridError(too_small(self.base)) from None
            return None

    def _denoise(self, jobs: Sequence[Job]) -> Tensor:
        """The jobs' latents. A narrow mixed batch is filled up with its last picture, so that all batches replay one
        graph: another width would be captured, and its activations kept, for itself."""
        first, count = jobs[0], len(jobs)
        jobs = [*jobs, *[jobs[-1]] * (min(self._most, self._widths.get(first.shape, 0)) - count)]
        guidance = batch_guidance(first, [self._texts.of(job) for job in jobs])
        with self._using(self.base.unet), self._beside(jobs, guidance):
            latents = denoise_batch(self.base, jobs, guidance, callback=self._step, unet=self._unet(jobs))
        return latents[:count]

    def _beside(self, jobs: Sequence[Job], guidance: Guidance) -> contextlib.AbstractContextManager[None]:
        """Every row's own branches, where pictures of several stacks share a batch."""
        if not self._mixing or self._branches is None:
            return contextlib.nullcontext()
        owners = guidance.row_owners(len(jobs))
        if self._branches.reserve(len(owners)) and self._graphs is not None:
            self._graphs.drop()
        self._branches.fill([_row(job) for job in jobs], owners)
        return self._branches.attached()

    def _unet(self, jobs: Sequence[Job]) -> UNet:
        return self._graphs if self._graphs is not None and jobs[0].steps >= _WORTH_A_GRAPH else self._plain

    def _using(self, *models: object) -> contextlib.AbstractContextManager[None]:
        return self._parking.using(*models) if self._parking else contextlib.nullcontext()

    def _free(self) -> None:
        """Give back all that can be made or read again."""
        if self._graphs is not None:
            self._graphs.drop()
        if self._branches is not None:
            self._branches.shrink()
        self.patcher.shrink()
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()

    def _announce(self, lots: Sequence[Lot], store: Store) -> None:
        """Say what the work needs, and begin with smaller batches where that is more than there is."""
        jobs = [job for lot in lots for job in lot.jobs if store.lacks([job.wanted])]
        free = available(self.base.device)
        if not jobs or free is None:
            return
        size = max((job.size for job in jobs), key=lambda size: size[0] * size[1])
        largest = max(len(batch) for lot in lots for batch in lot.batches)
        names = {name for job in jobs for name in (job.stack.text_part if self._mixing else job.stack.deltas)}
        touched = self.patcher.size_of(names)

        def wanted(batch: int) -> Need:
            beside = self._branches.size(2 * batch) if self._mixing and self._branches is not None else 0
            return need(
                self.base,
                batch,
                size,
                min(self._decoder.at_once, len(jobs)),
                touched + beside,
                offload=self._parking is not None,
            )

        asked = min(self._most, largest)
        most, told = fitting(wanted, asked, free)
        if most < asked:
            self._most = most
        self._say(told)


def _current(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Streams and graphs belong to the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _by_stack(jobs: Sequence[Job]) -> list[list[Job]]:
    found: dict[Hashable, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.stack.key, []).append(job)
    return list(found.values())


def _row(job: Job) -> RowAdapters:
    return RowAdapters(job.stack.deltas, job.stack.weight, job.stack.module_marks)
