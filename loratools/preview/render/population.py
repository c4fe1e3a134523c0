"""Many stacks x the same few pictures, in memory: what a search over block vectors draws, generation by generation.

Nothing is written to disk. A grid's pictures are files; see :mod:`.engine`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loratools.base.model import Base
from loratools.base.picture_size import check_size
from loratools.base.prompt.prompt_encoding import encode_prompts
from loratools.errors import GridError
from loratools.launch import Rank
from loratools.preview.plan.jobs import Job, PictureFile, Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.engine import Engine
from loratools.preview.render.gather import PictureGather
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.render.prompt_cache import Encode
from loratools.preview.request.options import EngineOptions

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]  # (height, width, 3)
_ROUND = 64  # pictures that each process draws between two exchanges


@dataclass(frozen=True)
class PictureJob:
    """What one picture is apart from the adapters it is made under; an empty prompt is allowed."""

    prompt: str
    seed: int
    settings: SamplingSettings


@dataclass(frozen=True, eq=False)
class DrawnPicture:
    """A picture of a population: the indices of its stack and of its job, and its pixels (height, width, 3) in RGB."""

    stack: int
    job: int
    pixels: Pixels


class PopulationRenderer:
    """Draws stacks x jobs on one base, whose weights are the original ones (W0) again after every call.

    It keeps what the next call can use: prompts' encodings, graphs and buffers. Close it, or leave its ``with`` block,
    to free them.

    Several processes: if all call :meth:`draw` with the same arguments, each draws a part of the pictures, and every
    process gets all of them by an exchange within torch's process group (which
    :func:`loratools.train.distributed.join` makes), so that the same search can run in each. With ``mine`` each
    process gets its own part only, and nothing is exchanged.

    Args:
        encode: texts -> their conditioning, under what is patched into the text encoders; by default all that the
            WebUI's syntax says, without embeddings.
        say: called with a line of text: what memory drawing needs, and when it goes on in smaller batches.
        rank: this process among those of the launch; by default as the environment says.
    """

    def __init__(
        self,
        base: Base,
        options: EngineOptions | None = None,
        *,
        encode: Encode = encode_prompts,
        say: Callable[[str], None] | None = None,
        rank: Rank | None = None,
    ) -> None:
        self._base = base
        self._engine = Engine(base, options, encode=encode, say=say)
        self._rank = Rank.here() if rank is None else rank

    def __enter__(self) -> PopulationRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring the base back to W0 and free all that is kept."""
        self._engine.close()

    def draw(
        self, stacks: Sequence[Stack], jobs: Sequence[PictureJob], *, ordered: bool = True, mine: bool = False
    ) -> Iterator[DrawnPicture]:
        """Every job under every stack, yielded while others are still being drawn.

        Arguments are checked at once; drawing begins with the first ``next()``. Closing the iterator early, as leaving
        a ``for`` loop does, brings the base back to W0; where processes exchange pictures all have to leave it at the
        same picture.

        Args:
            ordered: all jobs of the first stack, then of the next; else as they come.
            mine: only the pictures that this process draws; see the class.
        Raises:
            GridError: if there is no stack or no job, or a size does not fit; if not even one picture fits the memory.
            BaseModelError, ShapeError: if a stack does not fit the base; nothing is drawn then.
            PromptError: for a clip skip that does not fit the base, or a prompt that cannot be encoded.
            LaunchError: if there are several processes without a process group, or another one is gone.
        """
        if not stacks:
            raise GridError("there is no stack to draw; give at least one (an empty one is the base itself)")
        if not jobs:
            raise GridError("there is no picture to draw; give at least one prompt and seed")
        for job in jobs:
            check_size(job.settings.size, self._base.vae_scale_factor)
        self._engine.check(stacks)
        gather = None if mine or self._rank.world == 1 else PictureGather(self._rank, self._base.device)
        return self._drawn(stacks, jobs, ordered, gather)

    def _drawn(
        self, stacks: Sequence[Stack], jobs: Sequence[PictureJob], ordered: bool, gather: PictureGather | None
    ) -> Iterator[DrawnPicture]:
        places = list(itertools.product(range(len(stacks)), range(len(jobs))))
        size, rank, world = _ROUND * self._rank.world, self._rank.rank, self._rank.world
        for start in range(0, len(places), size):
            part = places[start : start + size]
            shares = [part[len(part) * n // world : len(part) * (n + 1) // world] for n in range(world)]
            drawn = self._draw([(place, stacks[place[0]], jobs[place[1]]) for place in shares[rank]])
            if gather is not None:
                shapes = [[(*jobs[n].settings.size, 3) for _, n in share] for share in shares]
                every = gather.exchange([drawn[place] for place in shares[rank]], shapes)
                drawn = dict(zip(part, every, strict=True))
            for place, pixels in drawn.items() if not ordered else sorted(drawn.items()):
                yield DrawnPicture(*place, pixels)

    def _draw(self, asked: Sequence[tuple[tuple[int, int], Stack, PictureJob]]) -> dict[tuple[int, int], Pixels]:
        store = _Memory()
        jobs = {}
        for place, stack, job in asked:
            file = PictureFile(Path(), f"{place[0]} {place[1]}", "", {})
            jobs[place] = Job(stack, job.prompt, job.seed, file, job.settings)
        self._engine.render(list(jobs.values()), store)
        return {place: store.pixels[job.file.key] for place, job in jobs.items()}


class _Memory(PictureStore):
    """Pictures by key, in memory."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}
        self.pixels: dict[str, Pixels] = {}

    def put(self, file: PictureFile, image: Image) -> None:
        """Keep a picture's pixels."""
        self.pixels[file.key] = np.asarray(image)
        self._paths[file.key] = file.path
