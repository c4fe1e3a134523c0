"""Jobs -> pictures by diffusers' own pipeline, for families that this package's engine does not know.

The order, the stacks and what is yielded are the engine's; each picture is a call of the pipeline of its own, so that
it does not depend on what is drawn beside it. A picture of a large transformer keeps a device busy by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence

import torch

from loratools.base.patching.patch import Patcher
from loratools.base.pipelines.draw import draw
from loratools.base.pipelines.model import PipelineBase
from loratools.base.pipelines.prompts import KeptPrompts
from loratools.base.to_device import release_cache
from loratools.errors import GridError, MemoryShortError
from loratools.preview.plan.jobs import Job, Stack
from loratools.preview.render.batches import StackBatch, plan_stack_batches
from loratools.preview.render.claims import everything, with_next
from loratools.preview.render.decoder import DrawnBatch
from loratools.preview.render.host_pixels import HostPixels
from loratools.preview.render.prompt_cache import Encode
from loratools.preview.render.wanted import All, Wanted
from loratools.preview.request.options import EngineOptions


class PipelineDrawer:
    """Draws jobs on one pipeline, as :class:`.engine.Engine` does on Stable Diffusion; its weights are W0 again after
    every call.

    Args:
        say: called with a line of text when memory runs short and more is saved.
    Raises:
        GridError: for options that pipelines do not have.
    """

    def __init__(
        self, base: PipelineBase, options: EngineOptions | None = None, *, say: Callable[[str], None] | None = None
    ) -> None:
        self.base, self.options, self._say = base, options or EngineOptions(), say or _say_nothing
        _check_options(base, self.options)
        self._prompts = KeptPrompts(self.options.prompts)
        if self.options.offload:
            base.offload()
        if self.options.tiled:
            base.tile()
        self.patcher = Patcher(base)

    def __enter__(self) -> PipelineDrawer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring the base back to W0 and free all that is kept."""
        self.patcher.free()
        self._prompts.forget()

    def serve(self, encode: Encode, say: Callable[[str], None] | None = None) -> None:
        """Go on for another caller; the pipeline reads prompts itself, whatever ``encode`` is."""
        self._say = say or _say_nothing

    def check(self, stacks: Iterable[Stack]) -> None:
        """Raise BaseModelError or ShapeError if a stack does not fit the base; nothing is touched."""
        for stack in stacks:
            self.patcher.check(stack.deltas)

    def pictures(
        self,
        jobs: Sequence[Job],
        *,
        wanted: Wanted | None = None,
        portions: Callable[[Sequence[StackBatch]], Generator[Sequence[StackBatch]]] = everything,
        on_found: Callable[[int], None] | None = None,
        keep_order: bool = False,
        hold: bool = False,
        on_step: Callable[[int], None] | None = None,
    ) -> Generator[DrawnBatch | None]:
        """Draw every job whose picture is wanted, one by one, and yield each; arguments as for
        :meth:`.engine.Engine.pictures`.

        Raises:
            BaseModelError, ShapeError: if a stack does not fit the base.
            GridError: if the pipeline refuses what it is asked for.
            MemoryShortError: if one picture does not fit the memory.
        """
        wanted, found = wanted or All(), on_found or (lambda count: None)
        groups = plan_stack_batches(jobs, 1, keep_order=keep_order)
        try:
            with contextlib.closing(portions(groups)) as mine:
                for group, _ in with_next(mine):
                    if group is None:
                        yield None
                        continue
                    lacking = [job for job in group.jobs if wanted.lacks([job])]
                    found(len(group.jobs) - len(lacking))
                    for job in lacking:
                        yield DrawnBatch((job,), self._draw(job, on_step))
        finally:
            if not hold:
                self.patcher.restore()

    def _draw(self, job: Job, on_step: Callable[[int], None] | None) -> HostPixels:
        while True:
            try:
                return self._tried(job, on_step)
            except torch.OutOfMemoryError as error:
                self.patcher.free()
                if not self._save():
                    raise MemoryShortError(
                        f"one picture does not fit the memory of {self.base.device}, with only the model that works on "
                        "it and pictures decoded in tiles; use a smaller `size=`, fewer frames, or a quantised folder"
                    ) from error

    def _tried(self, job: Job, on_step: Callable[[int], None] | None) -> HostPixels:
        self.patcher.patch(job.stack.deltas, job.stack.weight, job.stack.keys_by_module)
        pixels = draw(
            self.base,
            job.prompt,
            job.seed,
            job.settings,
            prompts=self._prompts,
            text_state=self.patcher.text_state,
            on_step=on_step,
        )
        return HostPixels(torch.from_numpy(pixels)[None])

    def _save(self) -> bool:
        """After memory ran out: save more of it, if there is a way left."""
        if self.base.device.type != "cpu" and not self.base.offloaded:
            self._say("memory is short: only the model that works is kept on the device from now on")
            self.base.offload()
            self.patcher = Patcher(self.base)
        elif not self.base.tiled and self.base.tile():
            self._say("memory is short: pictures are decoded in tiles from now on")
        else:
            return False
        release_cache(self.base.device)
        return True


def _check_options(base: PipelineBase, options: EngineOptions) -> None:
    asked = {"compile": options.compiled, "mixed": options.mixed, "fused": options.fused}
    for name, wish in asked.items():
        if wish:
            raise GridError(f"{base.name} is drawn by diffusers' own pipeline, which knows no `{name}`; leave it out")
    if options.tiled and not hasattr(base.pipeline.vae, "enable_tiling"):
        raise GridError(f"the VAE of {base.name} cannot decode in tiles; leave that out")


def _say_nothing(text: str) -> None:
    """For callers who want to hear nothing."""
