"""Computed factors kept on disk, so that a rule which needs all modules at once does not need all memory."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import LowRank


class Spool(Mapping[str, LowRank]):
    """A write-once mapping of float32 factors in an unnamed temporary file; ``ranks`` may be lowered afterwards.

    Args:
        folder: where the file lies: beside the result, since a system's own folder for such files may be memory.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by __exit__)
        self._lock = threading.Lock()
        self._positions: dict[str, tuple[int, int]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.ranks: dict[str, int] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, name: str, delta: LowRank) -> None:
        """Keep ``delta``; its components should fall in importance, so that a lowered rank drops the last ones."""
        with self._lock:
            self._positions[name] = (self._stream.seek(0, 2), delta.rank)
            for factor in (delta.up.T, delta.down):
                self._stream.write(factor.float().contiguous().numpy().data)
        self.shapes[name] = delta.shape
        self.ranks[name] = delta.rank

    def __getitem__(self, name: str) -> LowRank:
        start, rank = self._positions[name]
        shape, kept = self.shapes[name], self.ranks[name]
        columns = int(torch.Size(shape[1:]).numel())
        up = self._read(start, kept, shape[0])
        down = self._read(start + 4 * rank * shape[0], kept, columns)
        return LowRank(up.T, down, shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def _read(self, start: int, rows: int, columns: int) -> Tensor:
        data = bytearray(4 * rows * columns)
        with self._lock:
            self._stream.seek(start)
            view = memoryview(data)
            while view:
                view = view[self._stream.readinto(view) or len(view) :]
        return torch.frombuffer(data, dtype=torch.float32).reshape(rows, columns)
