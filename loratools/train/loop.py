"""The training loop: steps, and between them what has to be written, in an order that is safe against kills.

Everything that is due at one moment is written in the order: files, log, state, pictures and the like. After a kill
before the state is whole, a resumed run begins at the state before it and makes what came after it again, byte for
byte. A kill after the state loses at most what callbacks do on saving, and a resumed run does that again.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.errors import DatasetError, FileError, LoratoolsError, TrainingError
from loratools.train.callbacks.callback import Callback, due
from loratools.train.callbacks.progress import Average
from loratools.train.callbacks.records import EpochRecord, OnEpoch, OnStep, StepRecord
from loratools.train.config.config import TrainConfig
from loratools.train.distributed import Ranks
from loratools.train.interrupt import Interrupted, StopRequest
from loratools.train.optim.trainable import Trainable
from loratools.train.output.saved import Saved
from loratools.train.output.state import Position
from loratools.train.output.writer import RunWriter
from loratools.train.step.precision import Precision
from loratools.train.step.runner import FinishedStep, StepRunner


@dataclass(frozen=True)
class LoopParts:
    """What a :class:`TrainingLoop` works with.

    Attributes:
        callbacks: called in this order.
        stop: entered, so that it receives signals.
        steps_per_epoch: optimiser steps.
    """

    config: TrainConfig
    ranks: Ranks
    precision: Precision
    runner: StepRunner
    trained: Trainable
    writer: RunWriter
    callbacks: Sequence[Callback]
    stop: StopRequest
    steps_per_epoch: int


class TrainingLoop:
    """Takes a run from ``position``, which is kept up to date, to its last epoch."""

    def __init__(self, parts: LoopParts, position: Position) -> None:
        self._config, self._ranks, self._position = parts.config, parts.ranks, position
        self._precision, self._runner, self._trained = parts.precision, parts.runner, parts.trained
        self._writer, self._callbacks, self._stop = parts.writer, parts.callbacks, parts.stop
        self._steps_per_epoch = parts.steps_per_epoch
        self._average = Average(position.average)
        self._stop_at: int | None = None  # the step after which to stop, once a signal has asked for it

    def run(self, on_epoch: OnEpoch | None, on_step: OnStep | None) -> None:
        """Train the epochs that are left.

        Raises:
            Interrupted: after a signal, when the step is done and the state saved.
            DatasetError: for an image that cannot be read any more; the state of the step before it is saved.
            FileError: if something cannot be written; the last state is whole.
            TrainingError: for a loss or a weight that is not a number; the last state was saved before it.
        """
        for callback in self._callbacks:
            callback.on_train_begin(self._position)
        while self._position.epoch < self._config.epochs:
            self._steps(self._position.epoch + 1, on_step)
            self._end_epoch(on_epoch)

    def _steps(self, number: int, on_step: OnStep | None) -> None:
        position = self._position
        before, begun = position.seconds, time.perf_counter()
        first = position.step - position.into
        try:
            for done in self._runner.epoch(
                number, first, skip=position.into, read_after=self._must_read_after, after=self._update_ema
            ):
                position.seconds = before + time.perf_counter() - begun
                record = self._count(number, done)
                if on_step is not None and self._ranks.main:
                    on_step(record)
                self._after_step(number)
        except DatasetError as error:
            raise self._saved_before(error) from error
        position.seconds = before + time.perf_counter() - begun

    def _count(self, number: int, done: FinishedStep) -> StepRecord:
        """Count one step whose loss is known."""
        position = self._position
        if not math.isfinite(done.loss):
            raise self._diverged(f"the loss is {done.loss} at step {done.step} (epoch {number})")
        position.step, position.into = done.step, position.into + 1
        position.total, position.count = position.total + done.loss * done.samples, position.count + done.samples
        position.average = self._average.add(done.loss)
        record = StepRecord(
            step=done.step,
            epoch=number,
            loss=done.loss,
            lr_unet=done.rates.get("unet", 0.0),
            lr_te=done.rates.get("text_encoder", 0.0),
            seconds=done.seconds,
            average=position.average,
        )
        for callback in self._callbacks:
            callback.on_step_end(done, record)
        return record

    def _after_step(self, number: int) -> None:
        """What is due after a step; after the last one of an epoch :meth:`_end_epoch` does all but the step's file."""
        config, position = self._config, self._position
        if due(config.save_every_steps, position.step):
            self._check_weights()
            if self._ranks.main:
                self._writer.step(number, position.step)
        if position.into == self._steps_per_epoch:
            return
        stops = position.step == self._stop_at
        if stops or due(config.save_state_every_steps, position.step):
            self._save()
        for callback in self._callbacks:
            callback.on_saved(position)
        if stops:
            self._interrupt()

    def _end_epoch(self, on_epoch: OnEpoch | None) -> None:
        """Write the file of the epoch that is over, call the callbacks and save the state."""
        config, position, number = self._config, self._position, self._position.epoch + 1
        self._check_weights()
        path, saved = self._writer.folder.epoch(number), Saved("")
        if self._ranks.main:
            path, saved = self._written(number)
        loss = position.total / position.count
        record = EpochRecord(number, position.step, loss, position.seconds, path, saved.digest)
        for callback in self._callbacks:
            callback.on_epoch_end(record)
        position.epoch, position.into, position.total, position.count, position.seconds = number, 0, 0.0, 0, 0.0
        position.losses = [*position.losses, loss]
        self._save()
        if self._ranks.main and on_epoch is not None:
            metrics = {name: value for callback in self._callbacks for name, value in callback.metrics().items()}
            metrics |= {} if saved.error is None else {"error of the LoRA": saved.error}
            on_epoch(replace(record, metrics=metrics))
        for callback in self._callbacks:
            callback.on_saved(position)
        if number < config.epochs and self._stop.agreed(epoch_ends=True):
            self._interrupt()

    def _written(self, number: int) -> tuple[Path, Saved]:
        """The epoch's file. If it cannot be written the state is saved first: resuming then writes the file alone."""
        try:
            return self._writer.epoch(number, self._position.step)
        except LoratoolsError:
            if self._ranks.world == 1:
                with contextlib.suppress(FileError):  # the first error says more
                    self._save()
            raise

    def _must_read_after(self, step: int) -> bool:
        """Whether the losses up to ``step`` must be known before the next step runs."""
        config = self._config
        if (self._ranks.world == 1 or step % config.log_every == 0) and self._stop.agreed():
            self._stop_at = step
            return True
        if due(config.save_every_steps, step) or due(config.save_state_every_steps, step):
            return True
        return any(callback.due(step) for callback in self._callbacks)

    def _update_ema(self, step: int) -> None:
        if self._trained.ema is not None:
            self._trained.ema.update(step)

    def _save(self) -> None:
        self._check_weights()
        watched = {callback.name: callback.state_dict() for callback in self._callbacks}
        if self._ranks.main:
            self._writer.state(self._position, watched)

    def _check_weights(self) -> None:
        if not self._trained.network.finite():
            step = self._position.step
            raise self._diverged(f"a weight is not a number after step {step}")

    def _interrupt(self) -> None:
        steps = self._steps_per_epoch * self._config.epochs
        raise Interrupted(self._position.step, steps, self._stop.asked, self._ranks)

    def _saved_before(self, error: DatasetError) -> LoratoolsError:
        """Save the state; ``error`` with its remedy, or the error of saving where that failed too."""
        if self._ranks.world > 1:  # the others are in the middle of a step
            return DatasetError(f"{error}; go on from the last state with `resume=True` when it is back")
        if self._position.step == 0:
            return error
        try:
            self._save()
        except (FileError, TrainingError) as second:
            return second
        return DatasetError(
            f"{error}; the state after step {self._position.step} is saved, so go on with `resume=True` when it is back"
        )

    def _diverged(self, what: str) -> TrainingError:
        remedy = "lower the learning rate"
        remedy += "" if self._precision.name == "no" else " or train with `mixed_precision=no`"
        kept = "; the files and the state before it are whole" if self._position.step else ""
        begin = f" (`network_weights=` begins from the file of epoch {self._position.epoch})" * (
            self._position.epoch > 0
        )
        return TrainingError(f"training diverged: {what}; {remedy}{begin}{kept}")
