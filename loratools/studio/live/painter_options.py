"""Where and how the renderer's process loads a base."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PainterOptions:
    """Where and how a base is loaded.

    Args:
        device, dtype: as for :func:`loratools.base.load.load_base`.
        memory: bytes of the GPU that may be taken; None is all that is free.
        threads: of the CPU that compute a picture; None is as many as torch takes by itself, as `loratools grid` does.
            Another number adds in another order, and pixels may differ in rounding.
    """

    device: str = "auto"
    dtype: str | None = None
    memory: int | None = None
    threads: int | None = None
