"""Jobs -> pictures: patched, encoded, denoised and decoded in few steps and large batches, and yielded as they come.

Pictures of one stack share batches; stacks follow each other so that the fewest weights are rewritten; prompts are
encoded once for every state of the text encoders; latents are collected until a batch of them is decoded; pictures are
copied to main memory while the next are drawn. A grid compresses and writes them on threads (:mod:`.drawer`); a
search reads them in memory (:mod:`.population`). On CUDA the UNet is a graph that is replayed on the patched weights,
and nothing in the loop waits for the device, so that the next stack is patched while the last one is still being
computed. Where stacks have too few pictures for a batch each, pictures of several stacks share one (:mod:`.mixed`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial

import torch

from loratools.base.fused.onednn import OneDnnModules
from loratools.base.model import Base
from loratools.base.patching.patch import Patcher
from loratools.base.prompt.prompt_encoding import encode_prompts
from loratools.base.to_device import release_cache
from loratools.errors import GridError
from loratools.preview.plan.jobs import Job, Stack
from loratools.preview.render.batch_denoiser import BatchDenoiser
from loratools.preview.render.batches import StackBatch, plan_stack_batches
from loratools.preview.render.claims import everything, with_next
from loratools.preview.render.decoder import Decoder, DrawnBatch
from loratools.preview.render.device_memory import DeviceMemory
from loratools.preview.render.memory import Need, Savings, need
from loratools.preview.render.mixed import MixedBatches, by_stack
from loratools.preview.render.prefetch import DeltaPrefetcher
from loratools.preview.render.prompt_cache import Encode, PromptCache
from loratools.preview.render.unet_choice import UNetChoice
from loratools.preview.render.wanted import All, Wanted
from loratools.preview.request.options import EngineOptions

Portions = Callable[[Sequence[StackBatch]], Generator[Sequence[StackBatch]]]


class Engine:
    """Renders jobs on one base, whose weights are the original ones (W0) again after every call.

    Close it to free graphs and kept deltas.

    Args:
        encode: texts -> guides, under what is patched into the text encoders; by default all that the WebUI's syntax
            says, without embeddings.
        say: called with a line of text: what memory rendering needs, and when it goes on in smaller batches.
        announce: whether what memory rendering needs is said where there is enough of it.
    """

    def __init__(
        self,
        base: Base,
        options: EngineOptions | None = None,
        *,
        encode: Encode = encode_prompts,
        say: Callable[[str], None] | None = None,
        announce: bool = True,
    ) -> None:
        self.base = base
        self.options = options or EngineOptions()
        if self.options.batch < 1:
            raise GridError(f"a batch of {self.options.batch} pictures makes no grid; use 1 or more")
        say = say or _say_nothing
        self.patcher = Patcher(base)
        self._unet = UNetChoice(base, self.options, lambda text: self._memory.say(text))
        self._memory = DeviceMemory(base, self.options, self._free, say, announces=announce)
        self._prompts = PromptCache(base, self.patcher, encode, self._memory.using, self.options.prompts)
        self._decoder = Decoder(base, self._decoding, self._free, say)
        self._mixed = MixedBatches(base, self.options, self._unet.graphs, self._prompts)
        self._denoiser = BatchDenoiser(base, self._unet, self._mixed, self._prompts, self._memory)
        on_cpu = base.device.type == "cpu" and base.dtype == torch.float32 and not self.options.compiled
        self._onednn = OneDnnModules((base.unet, base.vae) if on_cpu else ())
        self._follow_savings()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring the base back to W0 and free all that is kept."""
        self._onednn.remove()
        self.patcher.free()
        self._prompts.forget()
        self._mixed.forget()
        self._unet.drop_graphs()
        self._memory.close()

    def serve(self, encode: Encode, say: Callable[[str], None] | None = None) -> None:
        """Go on for another caller, whose prompts ``encode`` reads and who is told by ``say``."""
        self._prompts.use(encode)
        self._decoder.say = say or _say_nothing
        self._memory.serve(self._decoder.say)

    def check(self, stacks: Iterable[Stack]) -> None:
        """Raise BaseModelError or ShapeError if a stack does not fit the base; nothing is touched."""
        for stack in stacks:
            self.patcher.check(stack.deltas)

    def pictures(
        self,
        jobs: Sequence[Job],
        *,
        wanted: Wanted | None = None,
        portions: Portions = everything,
        on_found: Callable[[int], None] | None = None,
        keep_order: bool = False,
        hold: bool = False,
        on_step: Callable[[int], None] | None = None,
    ) -> Generator[DrawnBatch | None]:
        """Draw every job whose picture is wanted, and yield pictures as they come, while the next are being drawn.

        A batch of one stack with one wanted picture is drawn whole, so that a resumed grid has the pictures of an
        uninterrupted one; only what is wanted is yielded. Of a mixed batch only what is wanted is drawn. Closing the
        iterator early brings the base back to W0, as its end does.

        Args:
            wanted: which pictures are missing; all of them by default.
            portions: the groups of this process in portions, as :meth:`.claims.Claims.portions` gives them.
            on_found: called with the number of pictures that have just been found not to be wanted.
            keep_order: draw stacks in the order of their first jobs, and not in the order that patches fewest modules.
            hold: leave the last stack on the base at the end, for a caller who asks for a few pictures again and again:
                the next call then writes only the modules that differ. :meth:`close` brings the base back to W0.
            on_step: called after each UNet call of a batch with their number; what it raises ends the drawing.
        Yields:
            Batches of pictures; None where all before it are to be on disk before the next is asked for, as
            ``portions`` says and at the end.
        Raises:
            BaseModelError, ShapeError: if a stack does not fit the base.
            GridError: if not even one picture fits the memory.
        """
        wanted = wanted or All()
        self._denoiser.on_step, self._denoiser.repeats = on_step, hold
        lacking = [job for job in jobs if wanted.lacks([job])]
        self._unet.choose(lacking)
        groups = self._plan(jobs, keep_order)
        if lacking and self._memory.save(partial(self._need, lacking), _widest(groups)):
            self._follow_savings()
            groups = self._plan(jobs, keep_order)
        self._mixed.measure(groups, wanted)
        if lacking:
            self._memory.announce(partial(self._need, lacking), _widest(groups))
        try:
            if self._mixed.active:  # rows have their stacks beside W0: one that was held does not stay under them
                self.patcher.restore()
            self._onednn.install()
            with (
                _on_device(self.base.device),
                contextlib.closing(portions(groups)) as mine,
                self._ahead(wanted, hold) as ready,
            ):
                for group, following in with_next(map(ready, mine)):
                    if group is None:
                        yield from self._decoder.flush()
                        yield None
                        continue
                    self._mixed.prepare_next(following, wanted)
                    yield from self._draw_group(group, wanted, on_found or (lambda count: None))
        finally:
            self._decoder.drop()
            self._mixed.cancel()
            if not hold:
                self._onednn.remove()
                self.patcher.restore()
            self._memory.back()

    def _plan(self, jobs: Sequence[Job], keep_order: bool = False) -> list[StackBatch]:
        groups = plan_stack_batches(jobs, self.options.batch, keep_order=keep_order)
        return self._mixed.plan(groups, self._memory.most, offloads=self._memory.offloads, compiles=self._unet.compiles)

    @contextlib.contextmanager
    def _ahead(self, wanted: Wanted, hold: bool) -> Iterator[Callable[[Sequence[StackBatch]], Sequence[StackBatch]]]:
        """A function that puts the groups whose pictures exist first; on CUDA it also has the stacks of the others read
        on a thread while the device works. A stack that is held has most of its modules there already."""
        if self.base.device.type != "cuda" or hold:
            yield lambda groups: groups
            return
        with DeltaPrefetcher() as ahead:

            def ready(groups: Sequence[StackBatch]) -> Sequence[StackBatch]:
                lacking = {group for group in groups if wanted.lacks(group.jobs)}
                complete = [group for group in groups if group not in lacking]
                return [*complete, *ahead.add([group for group in groups if group in lacking])]

            yield ready

    def _draw_group(self, group: StackBatch, wanted: Wanted, on_found: Callable[[int], None]) -> Iterator[DrawnBatch]:
        lacking = [job for job in group.jobs if wanted.lacks([job])]
        if lacking:
            try:
                self._prepare(group.stack, group.jobs if group.stack else lacking)
            except torch.OutOfMemoryError:
                self._free()
                self._prepare(group.stack, group.jobs if group.stack else lacking)
        for batch in group.batches:
            missing = [job for job in batch if wanted.lacks([job])]
            on_found(len(batch) - len(missing))
            if not missing:
                continue
            for jobs, latents in self._denoiser.latents(batch if group.stack else missing):
                self._decoder.add([job if wanted.lacks([job]) else None for job in jobs], latents)
            if self._decoder.full:
                yield from self._decoder.flush()

    def _prepare(self, stack: Stack | None, jobs: Sequence[Job]) -> None:
        """Patch the stack and read the texts; without a stack only text encoders are patched, for each job's own."""
        self._memory.park()
        if stack is not None:
            self.patcher.patch(stack.deltas, stack.weight, stack.keys_by_module)
            self._prompts.read(stack, jobs)
            return
        for own in by_stack(jobs):
            self._prompts.read_alone(own, len(jobs))

    @contextlib.contextmanager
    def _decoding(self, *models: object) -> Iterator[None]:
        with self._memory.using(*models), self._unet.decoding():
            yield

    def _follow_savings(self) -> None:
        if self._memory.savings.sliced:
            self._decoder.slice()
        if self._memory.offloads:
            self._unet.graphs = None  # models move between its calls

    def _free(self) -> None:
        """Give back all that can be made or read again."""
        self._unet.drop_graphs()
        self._mixed.shrink()
        self.patcher.clear_cache()
        release_cache(self.base.device)

    def _need(self, jobs: Sequence[Job], batch: int, savings: Savings) -> Need:
        """What drawing ``jobs`` takes, ``batch`` pictures at once."""
        size = max((job.size for job in jobs), key=lambda size: size[0] * size[1])
        names = {name for job in jobs for name in (job.stack.text_part if self._mixed.active else job.stack.deltas)}
        touched = self.patcher.saved_bytes(names) + self._mixed.size(batch)
        return need(self.base, batch, size, min(self._decoder.at_once, len(jobs)), touched, savings)


def _widest(groups: Sequence[StackBatch]) -> int:
    """Pictures of the batch with the most."""
    return max(len(batch) for group in groups for batch in group.batches)


def _say_nothing(text: str) -> None:
    """For callers who want to hear nothing."""


def _on_device(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Streams and graphs belong to the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
