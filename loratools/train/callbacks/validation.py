"""A validation loss that depends only on the weights: the same images, noise and timesteps at every measurement.

A training loss is a few draws of noise at a few timesteps, and its spread hides what an epoch has learnt. Here each
image is noised in every band of timesteps, always by the same draws, so that what is left is the difference between
two states of the network.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from loratools.train import seeds
from loratools.train.callbacks.callback import Callback, RunView, due
from loratools.train.callbacks.loss_by_image import short_names
from loratools.train.callbacks.progress import Progress
from loratools.train.callbacks.records import EpochRecord, StepRecord
from loratools.train.callbacks.tensorboard import NoTensorBoard, TensorBoard
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset, Sample
from loratools.train.output.state import Position
from loratools.train.step import objective
from loratools.train.step.batch import Inputs, size_conditioning
from loratools.train.step.objective import Draws
from loratools.train.step.runner import FinishedStep
from loratools.train.step.text_states import CaptionEncoder

BANDS = 5
_TRAINED = 8  # images, where none are held out
_ROWS = 4  # at once, at least, since no gradients need memory; unless checkpointing shows that memory is short


@dataclass(frozen=True)
class Validation:
    """One measurement: ``losses`` (images, bands), weighted as in training, and what it was made on."""

    losses: Tensor
    names: tuple[str, ...]
    held_out: bool
    timesteps: tuple[int, int]  # the first one, and the one after the last

    @property
    def loss(self) -> float:
        """The mean over images and bands."""
        return float(self.losses.mean())

    def json(self) -> dict[str, Any]:
        """As the log has it."""
        edges = band_edges(*self.timesteps)
        bands = [
            {"from": edges[band], "to": edges[band + 1] - 1, "loss": loss}
            for band, loss in enumerate(self.losses.mean(0).tolist())
        ]
        images = dict(zip(self.names, self.losses.mean(1).tolist(), strict=True))
        return {"loss": self.loss, "held_out": self.held_out, "bands": bands, "images": images}


class ValidationCallback(Callback):
    """Measures the weights that are saved, whenever the config asks for it, and writes a ``validation`` line.

    The first line is of step 0, before anything is trained.
    """

    name = "validation"

    def __init__(self, run: RunView, board: TensorBoard | NoTensorBoard, bar: Progress, steps: int) -> None:
        self._run, self._board, self._bar = run, board, bar
        self._captions = CaptionEncoder(run.base, run.config, steps)
        self._chosen = chosen(run.config, run.dataset)
        self._every = every_epochs(run.config, run.dataset)
        self._measured = -1, 0.0  # step and loss of the last line
        self._ended = -1

    def due(self, step: int) -> bool:
        return due(self._run.config.validate_every_steps, step)

    def on_train_begin(self, position: Position) -> None:
        if position.step == 0:
            self._record(0, 0)

    def on_step_end(self, done: FinishedStep, record: StepRecord) -> None:
        if self.due(record.step):
            self._record(record.epoch, record.step)

    def on_epoch_end(self, record: EpochRecord) -> None:
        self._ended = record.step
        if due(self._every, record.epoch) and self._measured[0] != record.step:
            self._record(record.epoch, record.step)

    def metrics(self) -> dict[str, float]:
        step, loss = self._measured
        return {"validation": loss} if step == self._ended else {}

    def _record(self, epoch: int, step: int) -> None:
        self._bar.doing("validation loss")
        validation = self.measure()
        self._measured = step, validation.loss
        self._run.log.write("validation", {"epoch": epoch, "step": step, **validation.json()})
        self._board.scalar("validation/loss", validation.loss, step)

    @torch.no_grad()
    def measure(self) -> Validation:
        """The loss of the weights that would be saved now; every process measures its share."""
        run = self._run
        config, dataset, ranks, device = run.config, run.dataset, run.ranks, run.precision.device
        rows = {index: row for row, index in enumerate(self._chosen)}
        measured: list[Tensor] = []
        places: list[tuple[int, int]] = []
        least = 1 if config.gradient_checkpointing else _ROWS
        batches = dataset.plain_batches(self._chosen, max(config.batch_size, least))
        with run.saved_weights(), eagerly(config):
            for batch in batches[ranks.rank :: ranks.world]:
                inputs = self._inputs(batch).to(device)
                for band in range(BANDS):
                    draws = self._draws(batch, tuple(inputs.mean.shape[1:]), band)
                    measured.append(run.step.losses(inputs, draws))
                    places += [(rows[sample.item], band) for sample in batch]
        losses = torch.zeros(len(rows), BANDS)
        if places:
            losses[tuple(zip(*places, strict=True))] = torch.cat(measured).cpu()
        losses = losses.to(device)
        ranks.sum(losses)
        names = short_names([dataset.items[index] for index in self._chosen])
        return Validation(losses.cpu().double(), tuple(names), bool(dataset.held_out), self._span())

    def _inputs(self, batch: Sequence[Sample]) -> Inputs:
        """With tokens and never with cached states, since the text encoder may be trained."""
        run = self._run
        moments, tokenized = run.store.moments(batch), self._captions.tokenized([sample.caption for sample in batch])
        return Inputs(
            moments.mean,
            moments.deviation,
            tokens=tokenized.tokens,
            caption_weights=tokenized.caption_weights,
            mask=run.store.masks(batch),
            time_ids=size_conditioning(run.base, run.dataset, batch),
        )

    def _draws(self, batch: Sequence[Sample], shape: tuple[int, ...], band: int) -> Draws:
        """Noise and timesteps that depend on each image's bytes and the band, and not on the rest of the batch."""
        config, (first, last) = self._run.config, self._span()
        edges = band_edges(first, last)
        drawn = []
        for sample in batch:
            generator = seeds.generator(_seed(config), "validation", self._run.dataset.items[sample.item].digest, band)
            draws = objective.draw((1, *shape), last, config, generator)
            times = torch.randint(edges[band], max(edges[band + 1], edges[band] + 1), (1,), generator=generator)
            drawn.append(replace(draws, timesteps=times))
        return _stacked(drawn, self._run.precision.device)

    def _span(self) -> tuple[int, int]:
        config = self._run.config
        last = self._run.step.schedule.timesteps
        return config.min_timestep, last if config.max_timestep is None else config.max_timestep


def band_edges(first: int, last: int, bands: int = BANDS) -> list[int]:
    """Where each of ``bands`` bands of the timesteps ``first`` to ``last`` (exclusive) begins, and where all end."""
    return [first + (last - first) * band // bands for band in range(bands + 1)]


def every_epochs(config: TrainConfig, dataset: Dataset) -> int | None:
    """Epochs between measurements; None for none."""
    asked = config.validate_every_epochs
    return (1 if dataset.held_out else None) if asked is None else asked or None


def validates(config: TrainConfig, dataset: Dataset) -> bool:
    """Whether a run measures a validation loss at all."""
    return bool(every_epochs(config, dataset) or config.validate_every_steps)


def chosen(config: TrainConfig, dataset: Dataset) -> tuple[int, ...]:
    """The items that are measured: held out ones, else a few that are trained on; the same in every run of a seed."""
    own = dataset.held_out or tuple(
        index
        for index, (item, uses) in enumerate(zip(dataset.items, dataset.uses(), strict=True))
        if uses and not dataset.folders[item.folder].regularisation
    )
    most = config.validation_images or (len(own) if dataset.held_out else _TRAINED)
    seed = _seed(config)
    ranked = sorted(own, key=lambda at: hashlib.sha256(f"judged/{seed}/{dataset.items[at].digest}".encode()).digest())
    return tuple(sorted(ranked[:most]))


def validation_notes(config: TrainConfig, dataset: Dataset) -> Iterator[str]:
    """What a person should know of the validation loss before the run."""
    if validates(config, dataset) and not dataset.held_out:
        yield (
            f"no image is held out, so the validation loss is of {len(chosen(config, dataset))} images that are "
            "trained on: it shows what is learnt, and not what is learnt by heart; validation_split: 0.1 holds a "
            "tenth out"
        )


@contextlib.contextmanager
def eagerly(config: TrainConfig) -> Iterator[None]:
    """Inside the block a compiled base runs eagerly, since compiling is not worth it for a few forward passes."""
    with torch.compiler.set_stance("force_eager") if config.compile else contextlib.nullcontext():
        yield


def _seed(config: TrainConfig) -> int:
    return config.seed if config.validation_seed is None else config.validation_seed


def _stacked(draws: Sequence[Draws], device: torch.device) -> Draws:
    """Draws of single samples joined to those of a batch, on the device."""
    parts: dict[str, Any] = {}
    for part in fields(Draws):
        values = [getattr(each, part.name) for each in draws]
        parts[part.name] = None if values[0] is None else torch.cat(values).to(device)
    return Draws(**parts)
