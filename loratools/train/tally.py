"""Whose loss, and at which noise: means over an epoch by image and by band of timesteps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from loratools.train.dataset import Item
from loratools.train.engine import Done
from loratools.train.records import EpochRecord, StepRecord
from loratools.train.tensorboard import Board, NoBoard
from loratools.train.watcher import Seen, Watcher

BANDS = 10
_UNREAD = 256  # steps whose losses may lie on the device before they are read together


class Tally(Watcher):
    """Writes a ``losses`` line an epoch: the losses as they were weighted for training, by image and by noise.

    The losses are read in bunches, when the loop has waited for them anyway.
    """

    name = "tally"

    def __init__(self, seen: Seen, board: Board | NoBoard) -> None:
        self._seen, self._board = seen, board
        self._names = short_names(seen.dataset.items)
        self._timesteps = int(seen.base.scheduler_config.get("num_train_timesteps", 1000))
        self._sums = torch.zeros(2, len(self._names) + BANDS, dtype=torch.float64)  # losses, and how many
        self._unread: list[Done] = []

    def stepped(self, done: Done, record: StepRecord) -> None:
        self._unread.append(done)
        if len(self._unread) >= _UNREAD:
            self._read()

    def ended(self, record: EpochRecord) -> None:
        means = _means(self._gathered())
        self._sums.zero_()
        count = len(self._names)
        images = {name: loss for name, loss in zip(self._names, means, strict=False) if loss is not None}
        self._seen.log.write(
            "losses",
            {"epoch": record.epoch, "step": record.step, "bands": self._bands(means[count:]), "images": images},
        )
        for band, loss in enumerate(means[count:]):
            if loss is not None:
                self._board.scalar(f"timesteps/{self._first(band):04d}", loss, record.step)

    def state(self) -> dict[str, Any]:
        return {"sums": self._gathered()}

    def load(self, state: dict[str, Any]) -> None:
        if state and self._seen.ranks.writes:  # of several processes one goes on with the sum of all
            self._sums.copy_(state["sums"])

    def _read(self) -> None:
        """Count the steps that wait; two copies from the device for all of them."""
        if not self._unread:
            return
        losses = torch.cat([done.losses for done in self._unread]).double().tolist()
        timesteps = torch.cat([done.timesteps for done in self._unread]).tolist()
        items = [sample.item for done in self._unread for sample in done.own]
        self._unread = []
        for item, loss, timestep in zip(items, losses, timesteps, strict=True):
            for place in (item, len(self._names) + timestep * BANDS // self._timesteps):
                self._sums[0, place] += loss
                self._sums[1, place] += 1

    def _gathered(self) -> Tensor:
        """The sums over all processes of the run."""
        self._read()
        if self._seen.ranks.world == 1:
            return self._sums.clone()
        whole = self._sums.to(self._seen.kind.device)
        self._seen.ranks.sum(whole)
        return whole.cpu()

    def _bands(self, means: Sequence[float | None]) -> list[dict[str, Any]]:
        return [{"from": self._first(band), "to": self._first(band + 1) - 1, "loss": loss}
                for band, loss in enumerate(means)]  # fmt: skip

    def _first(self, band: int) -> int:
        return -(-band * self._timesteps // BANDS)


def short_names(items: Sequence[Item]) -> list[str]:
    """``folder/file`` of every image, or its whole path where two are called the same."""
    short = [f"{item.path.parent.name}/{item.path.name}" for item in items]
    known = Counter(short)
    return [name if known[name] == 1 else str(item.path) for name, item in zip(short, items, strict=True)]


def _means(sums: Tensor) -> list[float | None]:
    losses, counts = sums.tolist()
    return [loss / count if count else None for loss, count in zip(losses, counts, strict=True)]
