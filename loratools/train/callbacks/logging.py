"""The callback that writes the log and moves the progress bar."""

from __future__ import annotations

from loratools.train.callbacks.callback import Callback
from loratools.train.callbacks.progress import Progress
from loratools.train.callbacks.records import EpochRecord, StepRecord
from loratools.train.output.log import NoLog, RunLog
from loratools.train.step.runner import FinishedStep


class LogCallback(Callback):
    """Writes every step and every epoch to the log, and shows the steps on the bar."""

    name = "log"

    def __init__(self, log: RunLog | NoLog, bar: Progress, epochs: int) -> None:
        self._log, self._bar, self._epochs = log, bar, epochs

    def on_step_end(self, done: FinishedStep, record: StepRecord) -> None:
        self._log.write("step", vars(record))
        title = f"epoch {record.epoch}/{self._epochs}"
        self._bar.step(title, record.loss, record.average, done.samples, record.seconds)

    def on_epoch_end(self, record: EpochRecord) -> None:
        values = {name: value for name, value in vars(record).items() if name != "metrics"}
        self._log.write("epoch", {**values, "path": record.path.name})
