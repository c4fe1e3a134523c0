"""The loop itself: steps, and between them what has to be written, in an order that no kill can spoil.

Everything that is due at one moment is written in the order: files, log, state, pictures and the like. A kill before
the state is whole goes back to the one before, and what came after that is made again, byte for byte; a kill after it
loses at most what a callback does last, and makes up for when the run goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from loratools.errors import DatasetError, FileError, LoratoolsError, TrainingError
from loratools.train.callbacks.callback import Callback, due
from loratools.train.callbacks.progress import Average
from loratools.train.callbacks.records import EpochRecord, OnEpoch, OnStep, StepRecord
from loratools.train.config.config import TrainConfig
from loratools.train.distributed import Ranks
from loratools.train.interrupt import Interrupted, StopRequest
from loratools.train.network.ema import Ema
from loratools.train.network.network import Network
from loratools.train.output.state import Position
from loratools.train.output.writer import Writer
from loratools.train.step.runner import Done, Engine
from loratools.train.step.step import Precision


class Session:
    """Takes a run from ``position`` to its last epoch.

    Args:
        position: where the run is; kept up to date.
        steps_per_epoch: optimiser steps.
        ema: taken along after every step, where there is one.
        callbacks: called in this order.
        stop: entered, so that it hears of signals.
    """

    def __init__(
        self,
        config: TrainConfig,
        ranks: Ranks,
        kind: Precision,
        position: Position,
        steps_per_epoch: int,
        engine: Engine,
        network: Network,
        ema: Ema | None,
        writer: Writer,
        callbacks: Sequence[Callback],
        stop: StopRequest,
    ) -> None:
        self._config, self._ranks, self._kind, self._position = config, ranks, kind, position
        self._per_epoch, self._engine, self._network, self._ema = steps_per_epoch, engine, network, ema
        self._writer, self._callbacks, self._stop = writer, callbacks, stop
        self._average = Average(position.average)
        self._stop_at: int | None = None  # the step after which to stop, once a signal has asked for it

    def run(self, on_epoch: OnEpoch | None, on_step: OnStep | None) -> None:
        """Train the epochs that are left.

        Raises:
            Interrupted: after a signal, when the step is done and the state saved.
            DatasetError: for an image that cannot be read any more; the state of the step before it is saved.
            FileError: if something cannot be written; the last state is whole.
            TrainingError: for a loss or a weight that is not a number; the last state is from before it.
        """
        for callback in self._callbacks:
            callback.on_train_begin(self._position)
        while self._position.epoch < self._config.epochs:
            self._steps(self._position.epoch + 1, on_step)
            self._end(on_epoch)

    def _steps(self, number: int, on_step: OnStep | None) -> None:
        position = self._position
        before, begun = position.seconds, time.perf_counter()
        first = position.step - position.into
        try:
            for done in self._engine.epoch(
                number, first, skip=position.into, read_after=self._reads_after, after=self._averaged
            ):
                position.seconds = before + time.perf_counter() - begun
                record = self._took(number, done)
                if on_step is not None and self._ranks.main:
                    on_step(record)
                self._between(number)
        except DatasetError as error:
            raise self._kept(error) from error
        position.seconds = before + time.perf_counter() - begun

    def _took(self, number: int, done: Done) -> StepRecord:
        """Count one step whose loss is known."""
        position = self._position
        if not math.isfinite(done.loss):
            raise self._diverged(f"the loss is {done.loss} at step {done.step} (epoch {number})")
        position.step, position.into = done.step, position.into + 1
        position.total, position.count = position.total + done.loss * done.samples, position.count + done.samples
        position.average = self._average.add(done.loss)
        record = StepRecord(
            done.step,
            number,
            done.loss,
            done.rates.get("unet", 0.0),
            done.rates.get("text_encoder", 0.0),
            done.seconds,
            position.average,
        )
        for callback in self._callbacks:
            callback.on_step_end(done, record)
        return record

    def _between(self, number: int) -> None:
        """What is due after a step; at the last one of an epoch all but the step's file is left to the epoch's end."""
        config, position = self._config, self._position
        if due(config.save_every_steps, position.step):
            self._check()
            if self._ranks.main:
                self._writer.step(number, position.step)
        if position.into == self._per_epoch:
            return
        stops = position.step == self._stop_at
        if stops or due(config.save_state_every_steps, position.step):
            self._save()
        for callback in self._callbacks:
            callback.on_saved(position)
        if stops:
            self._interrupt()

    def _end(self, on_epoch: OnEpoch | None) -> None:
        """Everything of an epoch that is over."""
        config, position, number = self._config, self._position, self._position.epoch + 1
        self._check()
        path, digest = self._writer.epoch(number, position.step) if self._ranks.main else self._writer.others(number)
        loss = position.total / position.count
        record = EpochRecord(number, position.step, loss, position.seconds, path, digest)
        for callback in self._callbacks:
            callback.on_epoch_end(record)
        position.epoch, position.into, position.total, position.count, position.seconds = number, 0, 0.0, 0, 0.0
        position.losses = [*position.losses, loss]
        self._save()
        if self._ranks.main and on_epoch is not None:
            metrics = {name: value for callback in self._callbacks for name, value in callback.metrics().items()}
            on_epoch(replace(record, metrics=metrics))
        for callback in self._callbacks:
            callback.on_saved(position)
        if number < config.epochs and self._stop.agreed():
            self._interrupt()

    def _reads_after(self, step: int) -> bool:
        """Whether the losses up to ``step`` must be known before the next step runs."""
        config = self._config
        if (self._ranks.world == 1 or step % config.log_every == 0) and self._stop.agreed():
            self._stop_at = step
            return True
        if due(config.save_every_steps, step) or due(config.save_state_every_steps, step):
            return True
        return any(callback.due(step) for callback in self._callbacks)

    def _averaged(self, step: int) -> None:
        if self._ema is not None:
            self._ema.update(step)

    def _save(self) -> None:
        self._check()
        watched = {callback.name: callback.state_dict() for callback in self._callbacks}
        if self._ranks.main:
            self._writer.state(self._position, watched)

    def _check(self) -> None:
        if not self._network.finite():
            step = self._position.step
            raise self._diverged(f"a weight is not a number after step {step}")

    def _interrupt(self) -> None:
        steps = self._per_epoch * self._config.epochs
        raise Interrupted(self._position.step, steps, self._stop.asked, self._ranks)

    def _kept(self, error: DatasetError) -> LoratoolsError:
        """``error`` with what was saved because of it; the one of saving, where that failed too."""
        if self._ranks.world > 1:  # the others are in the middle of a step
            return DatasetError(f"{error}; go on from the last state with --resume when it is back")
        if self._position.step == 0:
            return error
        try:
            self._save()
        except (FileError, TrainingError) as second:
            return second
        return DatasetError(
            f"{error}; the state after step {self._position.step} is saved, so go on with --resume when it is back"
        )

    def _diverged(self, what: str) -> TrainingError:
        remedy = "lower the learning rate" + ("" if self._kind.name == "no" else " or train with --mixed-precision no")
        kept = "; the files and the state before it are whole" if self._position.step else ""
        begin = f" (--network-weights begins from the file of epoch {self._position.epoch})" * (
            self._position.epoch > 0
        )
        return TrainingError(f"training diverged: {what}; {remedy}{begin}{kept}")
