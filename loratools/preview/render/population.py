"""Many stacks x the same few pictures, in memory: what a search over block vectors draws, generation by generation.

Nothing is written to disk. A grid's pictures are files; see :mod:`.engine`.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from loratools.base.model import LoadedBase
from loratools.base.prompt.prompt_encoding import encode_prompts
from loratools.errors import GridError
from loratools.launch import Rank
from loratools.preview.plan.jobs import Job, Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.decoder import DrawnBatch
from loratools.preview.render.drawer import open_drawer
from loratools.preview.render.gather import PictureGather
from loratools.preview.render.prompt_cache import Encode
from loratools.preview.request.options import EngineOptions

Pixels = NDArray[np.uint8]  # (height, width, 3)
Place = tuple[int, int]  # indices of a picture's stack and job
_SHARE = 64  # pictures that each process draws between two exchanges
_AHEAD = 2  # batches that the device works on while a picture is read


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
        base: LoadedBase,
        options: EngineOptions | None = None,
        *,
        encode: Encode = encode_prompts,
        say: Callable[[str], None] | None = None,
        rank: Rank | None = None,
    ) -> None:
        self._base = base
        self._drawer = open_drawer(base, options, encode=encode, say=say)
        self._rank = Rank.here() if rank is None else rank
        self._running: weakref.ref[Generator[DrawnPicture]] | None = None

    def __enter__(self) -> PopulationRenderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Bring the base back to W0 and free all that is kept; an iterator that is still open ends."""
        self._stop()
        self._drawer.close()

    def draw(
        self, stacks: Sequence[Stack], jobs: Sequence[PictureJob], *, ordered: bool = True, mine: bool = False
    ) -> Generator[DrawnPicture]:
        """Every job under every stack, yielded while others are still being drawn.

        Arguments are checked at once; drawing begins with the first ``next()``. The base holds a stack as long as
        the iterator is open: its end, ``close()``, the next call and :meth:`close` bring the base back to W0. Where
        processes exchange pictures, all have to stop at the same one.

        Args:
            ordered: all jobs of the first stack, then of the next; else as they come.
            mine: only the pictures that this process draws; see the class.
        Raises:
            GridError: if there is no stack or no job, or a size does not fit; if not even one picture fits the memory.
            BaseModelError, ShapeError: if a stack does not fit the base; nothing is drawn then.
            PromptError: for a clip skip or a prompt that the base cannot be given, or one that cannot be encoded.
            LaunchError: if there are several processes without a process group, or another one is gone.
        """
        if not stacks:
            raise GridError("there is no stack to draw; give at least one (an empty one is the base itself)")
        if not jobs:
            raise GridError("there is no picture to draw; give at least one prompt and seed")
        for job in jobs:
            self._base.check_settings(job.settings)
            for text in (job.prompt, job.settings.negative):
                self._base.check_prompt(text)
        self._drawer.check(stacks)
        gather = None if mine or self._rank.world == 1 else PictureGather(self._rank, self._base.device)
        self._stop()
        drawing = self._draw(stacks, jobs, gather, ordered)
        self._running = weakref.ref(drawing)
        return drawing

    def _stop(self) -> None:
        """Close the iterator of an earlier call that is still open, so that the base is W0 again."""
        running = self._running() if self._running is not None else None
        if running is not None:
            running.close()

    def _draw(
        self, stacks: Sequence[Stack], jobs: Sequence[PictureJob], gather: PictureGather | None, ordered: bool
    ) -> Generator[DrawnPicture]:
        rounds = plan_rounds(len(stacks), len(jobs), self._rank.world)
        shares = rounds if gather is not None else [Round((each.shares[self._rank.rank],)) for each in rounds]
        with contextlib.closing(self._drawn(stacks, jobs, rounds, gather)) as pictures:
            places = (place for each in shares for place in each.places)
            yield from in_order(pictures, places) if ordered else pictures

    def _drawn(
        self, stacks: Sequence[Stack], jobs: Sequence[PictureJob], rounds: Sequence[Round], gather: PictureGather | None
    ) -> Generator[DrawnPicture]:
        """The pictures of this process's share; with ``gather`` those of every process, round by round."""
        own = [place for each in rounds for place in each.shares[self._rank.rank]]
        asked = [Job(stacks[n], jobs[m].prompt, jobs[m].seed, jobs[m].settings, (n, m)) for n, m in own]
        with contextlib.closing(self._drawer.pictures(asked, keep_order=True)) as batches:
            drawn = arrived(batches)
            if gather is None:
                yield from (DrawnPicture(*place, pixels) for place, pixels in drawn)
                return
            held: dict[Place, Pixels] = {}
            for each in rounds:
                mine = each.shares[self._rank.rank]
                while any(place not in held for place in mine):
                    held |= [next(drawn)]
                shapes = [[(*jobs[m].settings.size, 3) for _, m in share] for share in each.shares]
                every = gather.exchange([held.pop(place) for place in mine], shapes)
                for place, pixels in zip(each.places, every, strict=True):
                    yield DrawnPicture(*place, pixels)


@dataclass(frozen=True)
class Round:
    """Pictures that are drawn between two exchanges: each process's share, of stacks that follow each other."""

    shares: tuple[tuple[Place, ...], ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """All of them, in order."""
        return tuple(place for share in self.shares for place in share)


def plan_rounds(stacks: int, jobs: int, world: int) -> list[Round]:
    """All places, stack by stack, in rounds of a bounded size that ``world`` processes share evenly."""
    places = list(itertools.product(range(stacks), range(jobs)))
    rounds = []
    for start in range(0, len(places), _SHARE * world):
        part = places[start : start + _SHARE * world]
        cuts = [len(part) * n // world for n in range(world + 1)]
        rounds.append(Round(tuple(tuple(part[a:b]) for a, b in itertools.pairwise(cuts))))
    return rounds


def arrived(batches: Iterable[DrawnBatch | None]) -> Iterator[tuple[Place, Pixels]]:
    """The pictures of ``batches`` once they are in main memory; the device always has later batches to work on.

    A reader who is slower than the device still has no more than a few batches waiting.
    """
    waiting: deque[DrawnBatch] = deque()
    for batch in batches:
        if batch is not None:
            waiting.append(batch)
        while waiting and (len(waiting) > _AHEAD or waiting[0].pixels.ready):
            yield from _pictures(waiting.popleft())
    while waiting:
        yield from _pictures(waiting.popleft())


def _pictures(batch: DrawnBatch) -> Iterator[tuple[Place, Pixels]]:
    for job, pixels in zip(batch.jobs, batch.pixels.wait(), strict=True):
        yield cast(Place, job.key), pixels


def in_order(pictures: Iterable[DrawnPicture], places: Iterable[Place]) -> Iterator[DrawnPicture]:
    """``pictures`` in the order of ``places``; those that come early wait."""
    held: dict[Place, DrawnPicture] = {}
    expected = iter(places)
    wanted = next(expected, None)
    for picture in pictures:
        held[picture.stack, picture.job] = picture
        while wanted in held:
            yield held.pop(wanted)
            wanted = next(expected, None)
