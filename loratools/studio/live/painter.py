"""Draws wishes on the base that it keeps: the part of the renderer's process that knows torch.

On a CPU the whole picture is, bit for bit, the one that a grid draws under the written file with as many threads;
another number of threads adds in another order.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from loratools.base.model import Base
from loratools.base.picture_size import check_size
from loratools.base.to_device import release_cache
from loratools.blocks.webui_tag import take_tags
from loratools.errors import BaseModelError, MemoryShortError, PromptError
from loratools.preview.plan.jobs import Job, Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.engine import Engine
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import ModelRequest
from loratools.preview.session import Session
from loratools.studio.api.words import Words, problem, quoted, words
from loratools.studio.live.frame import Frame
from loratools.studio.live.ladder import GPU_LIMITS, LIMITS, Ladder, smaller
from loratools.studio.live.long_lived import LongLived
from loratools.studio.live.painter_options import PainterOptions
from loratools.studio.live.stack import OpenFiles
from loratools.studio.live.wish import POCKET, PictureWish, SamplingWish, State, base_state

OnStep = Callable[[int, int], None]  # (done, of): may raise Stopped
_QUALITY = 90  # of JPEGs
_PROMPTS = 64  # encodings that are kept, which on SDXL take half a megabyte each
_FEWEST_PIXELS = 64  # a side that is not halved any more when memory is short


class Stopped(Exception):
    """The picture is no longer wanted."""


@dataclass(frozen=True)
class _Loaded:
    """A base with what is kept for it; ``state`` tells whether its files changed since."""

    base: Base
    state: State
    engine: Engine
    ladder: Ladder


class Painter:
    """Draws one wish at a time. A wish on another base takes the place of the one that is loaded.

    Args:
        say: called with a sentence for the person at the page.
    """

    def __init__(self, options: PainterOptions, say: Callable[[Words], None]) -> None:
        self._options, self._say = options, say
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._files, self._session = OpenFiles(), Session()
        self._loaded: tuple[str, _Loaded] | None = None
        self._warm: set[tuple[object, ...]] = set()  # kinds of pictures that were drawn before
        self._limited = False
        self._long_lived = LongLived()

    def close(self) -> None:
        """Free the base."""
        self._forget_engine()
        self._session.close()

    def draw(self, wish: PictureWish, on_step: OnStep) -> Frame:
        """The wish's picture, smaller where memory does not suffice, which is said.

        Raises:
            Stopped: where ``on_step`` raises it; what is loaded and patched stays.
            LoratoolsError: what cannot be drawn, in one sentence.
        """
        stack = self._files.stack(wish)
        loaded = self._load(wish.base)
        whole = settings_of(loaded.base, wish.sampling)
        if wish.quality == "drag":
            return self._quick(loaded, stack, wish, whole, on_step)
        pixels, reduced = self._fitting(loaded, stack, wish, whole, whole.size, on_step)
        return encoded(pixels, "png", preview=reduced)

    def between(self) -> None:
        """What is done between two pictures, once a base's first one is with who waited for it."""
        if self._loaded is not None:
            self._long_lived.set_apart()

    def _quick(
        self, loaded: _Loaded, stack: Stack, wish: PictureWish, whole: SamplingSettings, on_step: OnStep
    ) -> Frame:
        rung = loaded.ladder.rung(whole.size)
        settings = rung.settings(whole, loaded.base.vae_scale_factor)
        kind = (wish.base, settings.steps, settings.size, settings.sampler)
        start = time.perf_counter()
        pixels, _ = self._fitting(loaded, stack, wish, settings, whole.size, on_step)
        if kind in self._warm:
            loaded.ladder.took(whole.size, time.perf_counter() - start)
        self._warm.add(kind)
        return encoded(pixels, "jpeg", preview=True)

    def _fitting(
        self,
        loaded: _Loaded,
        stack: Stack,
        wish: PictureWish,
        settings: SamplingSettings,
        noise_size: tuple[int, int],
        on_step: OnStep,
    ) -> tuple[NDArray[np.uint8], bool]:
        """The picture at the largest size that memory allows, by halves; and whether that is smaller than asked for."""
        asked = settings.size
        while True:
            job = PreviewJob(stack, wish.sampling.prompt, wish.sampling.seed, settings, "live", noise_size)
            try:
                return self._drawn(loaded.engine, job, on_step), settings.size != asked
            except (MemoryShortError, torch.OutOfMemoryError) as error:
                size = smaller(settings.size, 2, loaded.base.vae_scale_factor)
                if min(size) < _FEWEST_PIXELS:
                    raise problem("live.nomemory", device=str(loaded.base.device)) from error
                settings = replace(settings, size=size)
            self._say(words("live.memory", asked=_text(asked), given=_text(size)))
            loaded = self._renewed()

    @staticmethod
    def _drawn(engine: Engine, job: Job, on_step: OnStep) -> NDArray[np.uint8]:
        for batch in engine.pictures([job], hold=True, on_step=lambda done: on_step(done, job.steps)):
            if batch is not None:
                pixels: NDArray[np.uint8] = batch.pixels.wait()[0]
                return pixels
        raise RuntimeError("the engine ended without a picture")

    def _load(self, name: str) -> _Loaded:
        state = base_state(name)
        if self._loaded is not None and self._loaded[0] == name and self._loaded[1].state == state:
            return self._loaded[1]
        if self._loaded is not None and self._loaded[0] == name and state:
            self._say(words("live.changed"))
        elif name != POCKET:
            self._say(words("live.loading", name=Path(name).name))
        self._forget_engine()
        self._limit()
        try:
            asked = ModelRequest(name, device=self._options.device, dtype=self._options.dtype)
            base = self._session.load_unet(name, asked)
        except BaseModelError as error:
            raise problem("live.base", error=str(error)) from error
        limits = GPU_LIMITS if base.device.type == "cuda" else LIMITS
        loaded = _Loaded(base, state, self._engine(base), Ladder(limits))
        self._loaded = name, loaded
        return loaded

    def _engine(self, base: Base) -> Engine:
        return Engine(base, EngineOptions(batch=1, mixed=False, prompts=_PROMPTS), say=self._note, announce=False)

    def _note(self, text: str) -> None:
        """What the engine has to say."""
        self._say(quoted(text))

    def _renewed(self) -> _Loaded:
        """The loaded base with a new engine, after the old one ran out of memory and let all of it go."""
        if self._loaded is None:
            raise RuntimeError("no base is loaded")
        name, old = self._loaded
        self._long_lived.give_back()  # the old engine is garbage
        old.engine.close()
        release_cache(old.base.device)
        renewed = replace(old, engine=self._engine(old.base))
        self._loaded = name, renewed
        return renewed

    def _forget_engine(self) -> None:
        self._long_lived.give_back()
        if self._loaded is not None:
            self._loaded[1].engine.close()
            self._loaded = None

    def _limit(self) -> None:
        """Keep to the bytes of a GPU that may be taken."""
        if self._options.memory is None or self._limited or not torch.cuda.is_available():
            return
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, self._options.memory / total))
        self._limited = True


@dataclass(frozen=True, eq=False)
class PreviewJob(Job):
    """A picture that may be smaller than the one whose noise it begins from."""

    whole_size: tuple[int, int]

    @property
    def noise_size(self) -> tuple[int, int]:
        """The size of the picture whose noise this one begins from."""
        return self.whole_size


def settings_of(base: Base, wish: SamplingWish) -> SamplingSettings:
    """How the whole picture is sampled on ``base``, with the base's own values where the wish leaves them open.

    Raises:
        GridError: for a size that does not fit the base, or an unknown sampler.
        PromptError: for a prompt that names a LoRA.
    """
    for text in (wish.prompt, wish.negative):
        if tags := take_tags(text)[1]:
            raise PromptError(f"the prompt names a LoRA, {tags[0]}; put it into the stack, and drop it from the prompt")
    own = base.defaults
    settings = SamplingSettings(
        steps=own.steps if wish.steps is None else wish.steps,
        cfg=own.cfg if wish.cfg is None else wish.cfg,
        sampler=wish.sampler or own.sampler,
        size=wish.size or base.resolution,
        negative=wish.negative,
    )
    check_size(settings.size, base.vae_scale_factor)
    return settings


def encoded(pixels: NDArray[np.uint8], encoding: str, *, preview: bool) -> Frame:
    """Pixels (height, width, 3) as a JPEG (4:4:4) or a PNG, which is exact."""
    from PIL import Image

    data, height, width = io.BytesIO(), pixels.shape[0], pixels.shape[1]
    image = Image.fromarray(pixels)
    if encoding == "jpeg":
        image.save(data, "JPEG", quality=_QUALITY, subsampling=0)
        return Frame("jpeg", width, height, data.getvalue(), preview)
    image.save(data, "PNG", compress_level=1)
    return Frame("png", width, height, data.getvalue(), preview)


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
