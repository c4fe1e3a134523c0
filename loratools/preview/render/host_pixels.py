"""Pictures on their way from the device to main memory, while the device works on the next ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class HostPixels:
    """A copy of pictures (b, height, width, 3) in uint8 that is begun at once and waited for by who reads it.

    The device may still be computing ``pictures``. On CUDA the copy goes to pinned memory behind an event, so that
    nothing else waits.
    """

    def __init__(self, pictures: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if pictures.device.type != "cuda":
            self._host = pictures.cpu()
            return
        self._host = torch.empty(pictures.shape, dtype=pictures.dtype, pin_memory=True)
        self._host.copy_(pictures, non_blocking=True)
        self._event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._event.record()

    @property
    def ready(self) -> bool:
        """Whether the copy is complete."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def wait(self) -> NDArray[np.uint8]:
        """The pictures (b, height, width, 3), once they are complete."""
        if self._event is not None:
            self._event.synchronize()
        pixels: NDArray[np.uint8] = self._host.numpy()
        return pixels
