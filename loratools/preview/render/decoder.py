"""Latents are collected until a batch of them is decoded, and the pictures are on their way to main memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.sampling.sample import decode_pixels
from loratools.errors import MemoryShortError
from loratools.preview.plan.jobs import Job
from loratools.preview.render.host_pixels import HostPixels
from loratools.preview.render.memory import too_small
from loratools.preview.render.prompt_cache import Using

AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class DrawnBatch:
    """Pictures that are decoded together: the job of each, and their pixels in the same order."""

    jobs: tuple[Job, ...]
    pixels: HostPixels


class Decoder:
    """Decodes as many latents at once as pays off and as memory allows.

    Args:
        using: a context manager that has models on the device while they work.
        free: frees what memory can be spared.
        say: called with a line of text when memory makes it decode fewer at once.
    """

    def __init__(self, base: Base, using: Using, free: Callable[[], None], say: Callable[[str], None]) -> None:
        self._base, self._using, self._free, self.say = base, using, free, say
        self._sliced, self.at_once = False, AT_ONCE
        self._waiting: list[tuple[list[Job | None], Tensor]] = []
        self._begun = False  # whether somebody has seen a picture of this drawing

    def slice(self) -> None:
        """Decode pictures one by one from now on."""
        self._sliced, self.at_once = True, 1

    def add(self, jobs: Sequence[Job | None], latents: Tensor) -> None:
        """Queue the ``latents`` of ``jobs``; None where a picture is decoded with the others and then dropped."""
        self._waiting.append((list(jobs), latents))

    @property
    def full(self) -> bool:
        """Whether enough latents are queued to decode them. A drawing's first ones are: somebody waits for them."""
        return not self._begun or sum(len(latents) for _, latents in self._waiting) >= self._wide

    def flush(self) -> Iterator[DrawnBatch]:
        """Decode all queued latents."""
        waiting, self._waiting, self._begun = self._waiting, [], True
        by_size: dict[Hashable, list[tuple[list[Job | None], Tensor]]] = {}
        for jobs, latents in waiting:
            by_size.setdefault(tuple(latents.shape[1:]), []).append((jobs, latents))
        for same in by_size.values():
            left = [job for own, _ in same for job in own]
            for pictures in self._pictures(torch.cat([own for _, own in same])):
                jobs, left = left[: len(pictures)], left[len(pictures) :]
                kept = [n for n, job in enumerate(jobs) if job is not None]
                if kept:
                    # an index tensor would be uploaded, and waited for
                    shown = pictures if len(kept) == len(jobs) else torch.stack([pictures[n] for n in kept])
                    yield DrawnBatch(tuple(job for job in jobs if job is not None), HostPixels(shown))

    def drop(self) -> None:
        """End a drawing; all queued latents are dropped."""
        self._waiting.clear()
        self._begun = False

    @property
    def _wide(self) -> int:
        """How many latents are collected before they are decoded; 1 on a CPU, where larger batches are no quicker."""
        return 1 if self._base.device.type == "cpu" else self.at_once

    def _pictures(self, latents: Tensor) -> Iterator[Tensor]:
        """Pictures (b, height, width, 3) in uint8, as many at once as memory allows."""
        done = 0
        count = self.at_once if self._wide > 1 or self._sliced else len(latents)
        while done < len(latents):
            made = self._decode(latents[done : done + count])
            if made is None:
                count = self.at_once = max(1, min(count, len(latents) - done) // 2)
                continue
            done += len(made)
            yield made

    def _decode(self, latents: Tensor) -> Tensor | None:
        """None if memory did not suffice for more than one picture."""
        try:
            with self._using(self._base.vae):
                return decode_pixels(self._base, latents)
        except torch.OutOfMemoryError:
            if len(latents) == 1:
                raise MemoryShortError(too_small(self._base)) from None
        self._free()
        self.say(f"out of memory decoding {len(latents)} pictures at once; going on with fewer")
        return None
