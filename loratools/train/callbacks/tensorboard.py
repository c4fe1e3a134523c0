"""The curves of a run for TensorBoard, through PyTorch's own writer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from loratools.errors import UnavailableError
from loratools.train.callbacks.callback import Callback
from loratools.train.callbacks.records import EpochRecord, StepRecord
from loratools.train.config.config import TrainConfig
from loratools.train.step.runner import FinishedStep


class TensorBoard:
    """Writes numbers and pictures as TensorBoard's events.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``.
    """

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def scalar(self, name: str, value: float, step: int) -> None:
        """One point of the curve ``name``."""
        self._writer.add_scalar(name, value, step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """A picture (height, width, 3) in uint8."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Flush what was written to the file."""
        self._writer.flush()


class NoTensorBoard:
    """Takes TensorBoard's place in a run without it, and in processes that do not write."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Nothing."""

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""


class TensorBoardCallback(Callback):
    """The curves that every run has: the loss, its moving average and the learning rates by step, the loss by epoch."""

    name = "tensorboard"

    def __init__(self, board: TensorBoard | NoTensorBoard) -> None:
        self._board = board

    def on_step_end(self, done: FinishedStep, record: StepRecord) -> None:
        for name in ("loss", "average"):
            self._board.scalar(f"loss/{name}", getattr(record, name), record.step)
        for name, rate in done.rates.items():
            self._board.scalar(f"rate/{name}", rate, record.step)

    def on_epoch_end(self, record: EpochRecord) -> None:
        self._board.scalar("loss/epoch", record.loss, record.step)

    def state_dict(self) -> dict[str, Any]:
        self._board.flush()
        return {}


def check_tensorboard(config: TrainConfig) -> None:
    """Raise UnavailableError, with the remedies, if curves are asked for and TensorBoard's package is missing."""
    if not config.tensorboard:
        return
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            "tensorboard needs a package that is not installed: pip install 'loratools[log]', or set "
            "tensorboard: false (every loss is in NAME.jsonl anyway)"
        ) from error


@contextlib.contextmanager
def open_tensorboard(config: TrainConfig, step: int, *, writes: bool) -> Iterator[TensorBoard | NoTensorBoard]:
    """The curves of a run that is resumed after ``step``; what was written of later steps before is hidden."""
    if not config.tensorboard or not writes:
        yield NoTensorBoard()
        return
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(tensorboard_folder(config)), purge_step=step + 1 if step else 0)  # type: ignore[no-untyped-call]
    with contextlib.closing(writer):
        yield TensorBoard(writer)


def tensorboard_folder(config: TrainConfig) -> Path:
    """Where the curves lie: beside the epoch files, or in a folder for each run in the one that was named."""
    if isinstance(config.tensorboard, Path):
        return config.tensorboard / config.name
    return config.out / f"{config.name}-tensorboard"
