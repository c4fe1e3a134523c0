"""Pictures that several processes drew, exchanged so that each has all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loratools.errors import LaunchError
from loratools.launch import Rank

Shape = tuple[int, int, int]  # (height, width, 3)


class PictureGather:
    """Exchanges pictures within torch's process group: through the GPUs under NCCL, through main memory under gloo.

    Args:
        device: of the base; the one that NCCL's exchange uses.
    Raises:
        LaunchError: if there is no process group, or one of another size than the launch.
    """

    def __init__(self, rank: Rank, device: torch.device) -> None:
        group = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not group or torch.distributed.get_world_size() != rank.world:
            raise LaunchError(
                f"{rank.world} processes draw one population, but they have no process group of that size; have each "
                "call loratools.train.distributed.join first, or ask for its own pictures only"
            )
        self._rank = rank
        self._device = device if torch.distributed.get_backend() == "nccl" else torch.device("cpu")
        # of its own, so that the exchange does not wait for the pictures that are being drawn
        self._stream = torch.cuda.Stream(device) if self._device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def exchange(self, own: Sequence[NDArray[np.uint8]], shapes: Sequence[Sequence[Shape]]) -> list[NDArray[np.uint8]]:
        """Every process' pictures, those of rank 0 first; all processes must call it at the same point.

        Args:
            own: this process' pictures.
            shapes: of each process' pictures.
        Raises:
            LaunchError: if another process is gone.
        """
        sizes = [sum(map(math.prod, own_shapes)) for own_shapes in shapes]
        sent = np.zeros(max(sizes), dtype=np.uint8)
        if own:
            np.concatenate([picture.reshape(-1) for picture in own], out=sent[: sizes[self._rank.rank]])
        with torch.cuda.stream(self._stream) if self._stream is not None else contextlib.nullcontext():
            received = self._gather(torch.from_numpy(sent), len(shapes))
        made = []
        for all_bytes, own_shapes in zip(received, shapes, strict=True):
            rest = all_bytes.numpy()
            for shape in own_shapes:
                picture, rest = rest[: math.prod(shape)], rest[math.prod(shape) :]
                made.append(picture.reshape(shape))
        return made

    def _gather(self, own: Tensor, world: int) -> list[Tensor]:
        """Every process's bytes, in main memory."""
        flat = own.to(self._device)
        received = [torch.empty_like(flat) for _ in range(world)]
        try:
            torch.distributed.all_gather(received, flat)
        except RuntimeError as error:
            raise LaunchError(
                f"another process of this run stopped ({str(error).splitlines()[0]}); its own message says why"
            ) from error
        return [each.cpu() for each in received]
