"""Latents are collected until a batch of them is decoded, and the pictures are handed to the writers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.sampling.sample import decode_pixels
from loratools.errors import GridError
from loratools.preview.plan.jobs import PictureFile
from loratools.preview.render.memory import too_small
from loratools.preview.render.png_writer import PngWriter
from loratools.preview.render.prompt_cache import Using

AT_ONCE = 8


class Decoder:
    """Decodes as many latents at once as pays off and as memory allows.

    Args:
        sliced: decode pictures one by one.
        using: a context manager that has models on the device while they work.
        free: frees what memory can be spared.
        say: called with a line of text when memory makes it decode fewer at once.
    """

    def __init__(
        self, base: Base, sliced: bool, using: Using, free: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self._base, self._sliced, self._using, self._free, self._say = base, sliced, using, free, say
        self.at_once = 1 if sliced else AT_ONCE
        self._waiting: list[tuple[list[PictureFile | None], Tensor]] = []

    def add(self, files: Sequence[PictureFile | None], latents: Tensor) -> None:
        """Queue ``latents``; each picture is saved as the file of its place in ``files``; None saves none."""
        self._waiting.append((list(files), latents))

    @property
    def full(self) -> bool:
        """Whether enough latents are queued to decode them."""
        return sum(len(latents) for _, latents in self._waiting) >= self._wide

    def flush(self, writing: PngWriter, on_done: Callable[[int], None]) -> None:
        """Decode all queued latents and hand the pictures to ``writing``; ``on_done`` is called with how many pictures
        have been saved since."""
        waiting, self._waiting = self._waiting, []
        by_size: dict[Hashable, list[tuple[list[PictureFile | None], Tensor]]] = {}
        for files, latents in waiting:
            by_size.setdefault(tuple(latents.shape[1:]), []).append((files, latents))
        for same in by_size.values():
            items = [item for own, _ in same for item in own]
            with self._using(self._base.vae):
                for part in self._pictures(torch.cat([own for _, own in same])):
                    on_done(writing.put(items[: len(part)], part))
                    items = items[len(part) :]

    def drop(self) -> None:
        """Drop all queued latents."""
        self._waiting.clear()

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
            return decode_pixels(self._base, latents)
        except torch.OutOfMemoryError:
            if len(latents) == 1:
                raise GridError(too_small(self._base)) from None
        self._free()
        self._say(f"out of memory decoding {len(latents)} pictures at once; going on with fewer")
        return None
