"""A batch of jobs -> latents: under the stack that is patched, or each row under its own; in halves if memory ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from loratools.base.generate import batch_guidance, denoise_batch
from loratools.base.model import Base
from loratools.errors import MemoryShortError
from loratools.preview.plan.jobs import Job
from loratools.preview.render.batches import even
from loratools.preview.render.device_memory import DeviceMemory
from loratools.preview.render.memory import too_small
from loratools.preview.render.mixed import MixedBatches
from loratools.preview.render.prompt_cache import PromptCache
from loratools.preview.render.unet_choice import UNetChoice


class BatchDenoiser:
    """Runs the sampler on batches whose stack is patched, and whose prompts are read.

    Attributes:
        on_step: called after each UNet call of a batch with their number; what it raises ends the drawing.
        repeats: whether the same shapes are asked for again and again, so that a graph of few calls pays too.
    """

    def __init__(
        self, base: Base, unet: UNetChoice, mixed: MixedBatches, prompts: PromptCache, memory: DeviceMemory
    ) -> None:
        self._base, self._unet, self._mixed, self._prompts, self._memory = base, unet, mixed, prompts, memory
        self.on_step: Callable[[int], None] | None = None
        self.repeats = False

    def latents(self, jobs: Sequence[Job]) -> Iterator[tuple[list[Job], Tensor]]:
        """Latents (b, 4, height / 8, width / 8) of ``jobs``; in halves, and all later batches too, where memory does
        not suffice.

        Raises:
            MemoryShortError: if not even one picture fits.
        """
        waiting = [list(jobs)]
        while waiting:
            part = waiting.pop(0)
            if len(part) > self._memory.most:
                waiting[:0] = [list(half) for half in even(part, self._memory.most)]
                continue
            made = self._try(part)
            if made is None:
                self._memory.ran_out(len(part))
                waiting.insert(0, part)
            else:
                yield part, made

    def _try(self, jobs: list[Job]) -> Tensor | None:
        """None if memory did not suffice for more than one picture."""
        try:
            return self._denoise(jobs)
        except torch.OutOfMemoryError:
            if len(jobs) == 1:
                raise MemoryShortError(too_small(self._base)) from None
            return None

    def _denoise(self, jobs: Sequence[Job]) -> Tensor:
        first, count = jobs[0], len(jobs)
        jobs = self._mixed.padded(jobs, self._memory.most)
        guidance = batch_guidance(first, [self._prompts.of(job) for job in jobs])
        with (
            self._memory.using(self._base.unet),
            self._unet.sampling(),
            self._mixed.attached(jobs, guidance),
        ):
            unet = self._unet.runner(first.steps, self.repeats)
            latents = denoise_batch(self._base, jobs, guidance, callback=self._step, unet=unet)
        return latents[:count]

    def _step(self, done: int) -> None:
        self._mixed.step(done)
        if self.on_step is not None:
            self.on_step(done)
