"""What draws jobs, whatever it draws with: this package's engine for Stable Diffusion, diffusers' pipelines for others.

Cells, their cache, their way to disk and all that is drawn of them are the same for both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Protocol

from loratools.base.model import Base, LoadedBase
from loratools.base.pipelines.model import PipelineBase
from loratools.base.prompt.prompt_encoding import encode_prompts
from loratools.errors import BaseModelError
from loratools.preview.plan.jobs import GridJob, Job, Stack
from loratools.preview.render.batches import StackBatch
from loratools.preview.render.claims import Claims, everything
from loratools.preview.render.decoder import DrawnBatch
from loratools.preview.render.engine import Engine
from loratools.preview.render.picture_store import GridPictures, PictureStore
from loratools.preview.render.pipeline_drawer import PipelineDrawer
from loratools.preview.render.png_writer import PngWriter
from loratools.preview.render.prompt_cache import Encode
from loratools.preview.render.wanted import Wanted
from loratools.preview.request.options import EngineOptions


class Drawer(Protocol):
    """Draws jobs on one base, whose weights are the original ones (W0) again after every call; close it to free what it
    keeps."""

    options: EngineOptions

    @property
    def base(self) -> LoadedBase:
        """The base."""
        ...

    def check(self, stacks: Iterable[Stack]) -> None:
        """Raise BaseModelError or ShapeError if a stack does not fit the base; nothing is touched."""
        ...

    def serve(self, encode: Encode, say: Callable[[str], None] | None = None) -> None:
        """Go on for another caller, whose prompts ``encode`` reads and who is told by ``say``."""
        ...

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
        """Draw every job whose picture is wanted, and yield pictures as they come, as the engine does."""
        ...

    def close(self) -> None:
        """Bring the base back to W0 and free all that is kept."""
        ...


def open_drawer(
    base: LoadedBase,
    options: EngineOptions | None = None,
    *,
    encode: Encode = encode_prompts,
    say: Callable[[str], None] | None = None,
) -> Drawer:
    """What draws on ``base``; arguments as for :class:`.engine.Engine`.

    Raises:
        GridError: for options that the base's kind of drawing does not have.
    """
    match base:
        case Base():
            return Engine(base, options, encode=encode, say=say)
        case PipelineBase():
            return PipelineDrawer(base, options, say=say)
    raise BaseModelError(f"nothing here draws with {base.name}")


def render_jobs(
    drawer: Drawer,
    jobs: Sequence[GridJob],
    store: PictureStore,
    *,
    on_done: Callable[[int], None] | None = None,
    claims: Claims | None = None,
) -> int:
    """Render every job whose picture is missing from ``store``, and save it there.

    Args:
        on_done: called with the number of pictures that have just been finished, rendered or found.
        claims: which part of the work is this process's own; all of it by default.
    Returns:
        The number of pictures rendered.
    Raises:
        LoratoolsError: as :meth:`Drawer.pictures`.
    """
    advance, rendered = on_done or (lambda count: None), 0
    pictures = GridPictures(jobs, store)
    portions = everything if claims is None else partial(claims.portions, pictures=pictures)
    drawing = drawer.pictures(jobs, wanted=pictures, portions=portions, on_found=advance)
    # claims, which the drawing holds, are released once everything is written
    with contextlib.closing(drawing) as batches, PngWriter(store) as writing:
        for batch in batches:
            if batch is None:
                for count in writing.drain():
                    advance(count)
                continue
            advance(writing.put(pictures.files(batch.jobs), batch.pixels))
            rendered += len(batch.jobs)
    return rendered
