"""Training losses by image and by band of timesteps, as means over an epoch.

At little noise the loss is tens of times what it is at much, so an image's mean mostly depends on which timesteps were
drawn for it. Its relative loss does not: each loss is divided by the mean loss of all images in its band.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from loratools.dataset.folder import Item
from loratools.train.callbacks.callback import Callback, RunView
from loratools.train.callbacks.records import EpochRecord, StepRecord
from loratools.train.callbacks.tensorboard import NoTensorBoard, TensorBoard
from loratools.train.step.runner import FinishedStep

BANDS = 10
_UNREAD = 256  # steps whose losses may lie on the device before they are read together


class LossByImage(Callback):
    """Writes a ``losses`` line for each epoch: the losses as weighted for training, by image and by timesteps.

    Losses stay on the device until many of them are read at once.
    """

    name = "tally"  # its key in the states of earlier versions, which can still be resumed

    def __init__(self, run: RunView, board: TensorBoard | NoTensorBoard) -> None:
        self._run, self._board = run, board
        self._names = short_names(run.dataset.items)
        self._timesteps = run.step.schedule.timesteps
        self._sums = torch.zeros(2, len(self._names), BANDS, dtype=torch.float64)  # losses, and how many
        self._unread: list[FinishedStep] = []

    def on_step_end(self, done: FinishedStep, record: StepRecord) -> None:
        self._unread.append(done)
        if len(self._unread) >= _UNREAD:
            self._read()

    def on_epoch_end(self, record: EpochRecord) -> None:
        losses, counts = self._gathered()
        self._sums.zero_()
        bands = losses.sum(0) / counts.sum(0)  # NaN for a band of no use
        means = {
            "bands": self._bands(bands),
            "images": self._by_image(losses, counts),
            "relative": self._by_image((losses / bands).nan_to_num(0.0), counts),
        }
        self._run.log.write("losses", {"epoch": record.epoch, "step": record.step, **means})
        for band, loss in enumerate(_numbers(bands)):
            if loss is not None:
                self._board.scalar(f"timesteps/{self._first(band):04d}", loss, record.step)

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._gathered()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state and self._run.ranks.main:  # of several processes, one holds the sum of all
            self._sums.copy_(state["sums"])

    def _read(self) -> None:
        """Add the steps that are not read yet to the sums; two copies from the device for all of them."""
        if not self._unread:
            return
        losses = torch.cat([done.losses for done in self._unread]).cpu().double()
        bands = torch.cat([done.timesteps for done in self._unread]).cpu() * BANDS // self._timesteps
        items = torch.tensor([sample.item for done in self._unread for sample in done.own], dtype=torch.long)
        self._unread = []
        self._sums[0].index_put_((items, bands), losses, accumulate=True)
        self._sums[1].index_put_((items, bands), torch.ones_like(losses), accumulate=True)

    def _gathered(self) -> Tensor:
        """The sums over all processes of the run."""
        self._read()
        if self._run.ranks.world == 1:
            return self._sums.clone()
        whole = self._sums.clone().to(self._run.precision.device)
        self._run.ranks.sum(whole)
        return whole.cpu()

    def _by_image(self, sums: Tensor, counts: Tensor) -> dict[str, float]:
        """Means over all bands; images that were not shown are left out."""
        means = _numbers(sums.sum(1) / counts.sum(1))
        return {name: mean for name, mean in zip(self._names, means, strict=True) if mean is not None}

    def _bands(self, means: Tensor) -> list[dict[str, Any]]:
        return [
            {"from": self._first(band), "to": self._first(band + 1) - 1, "loss": loss}
            for band, loss in enumerate(_numbers(means))
        ]

    def _first(self, band: int) -> int:
        return -(-band * self._timesteps // BANDS)


def short_names(items: Sequence[Item]) -> list[str]:
    """``folder/file`` of every image, or its whole path where two are called the same."""
    short = [f"{item.path.parent.name}/{item.path.name}" for item in items]
    known = Counter(short)
    return [name if known[name] == 1 else str(item.path) for name, item in zip(short, items, strict=True)]


def _numbers(means: Tensor) -> list[float | None]:
    """As floats; None for NaN, the mean of no losses."""
    return [None if math.isnan(mean) else mean for mean in means.tolist()]
