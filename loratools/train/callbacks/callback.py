"""The base class of what is called while a run goes on: after steps, after epochs and after saving."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from loratools.base.model import Base
from loratools.train.callbacks.records import EpochRecord, StepRecord
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset
from loratools.train.data.latents import LatentStore
from loratools.train.distributed import Ranks
from loratools.train.output.log import NoLog, RunLog
from loratools.train.output.run_folder import RunFolder
from loratools.train.output.state import Position
from loratools.train.step.precision import Precision
from loratools.train.step.runner import FinishedStep
from loratools.train.step.step import DenoisingStep


@dataclass(frozen=True)
class RunView:
    """The parts of a run that a callback may look at; the network is attached to its base.

    ``saved_weights`` is a context: inside it the network holds what a file of this moment would hold (the average of a
    run with ``ema``, the x of schedule-free optimisers) and drops nothing; afterwards it is as it was, bit for bit.
    ``scaled_weights`` is one too: inside it the network's difference is multiplied by one factor in the text encoders
    and by another in the UNet.
    """

    config: TrainConfig
    ranks: Ranks
    folder: RunFolder
    base: Base
    dataset: Dataset
    store: LatentStore
    step: DenoisingStep
    precision: Precision
    log: RunLog | NoLog
    saved_weights: Callable[[], contextlib.AbstractContextManager[None]]
    scaled_weights: Callable[[float, float], contextlib.AbstractContextManager[None]]


class Callback:
    """Override what is of interest; a callback must change nothing that is trained.

    Every process of a run calls all of these methods at the same moments, and only the one whose ``ranks.main`` is true
    may write files.

    Attributes:
        name: the callback's key in the state file; no two of a run have the same.
    """

    name = "callback"

    def due(self, step: int) -> bool:
        """Whether this callback reads the weights right after optimiser step ``step``.

        The loop then waits for the device, and no later step has run when :meth:`on_step_end` and :meth:`on_saved` are
        called for this one.
        """
        return False

    def on_train_begin(self, position: Position) -> None:
        """Before the first step of this process: at step 0, or at that of the state from which the run is resumed.

        Work of :meth:`on_saved` that a kill has interrupted is to be done again here.
        """

    def on_step_end(self, done: FinishedStep, record: StepRecord) -> None:
        """A step's loss was read, and nothing of this step is saved yet.

        What is logged here appears in the log once, however often the run is killed and resumed. The losses and
        timesteps of ``done`` are ready; the weights are those of this step only if :meth:`due` said so.
        """

    def on_epoch_end(self, record: EpochRecord) -> None:
        """An epoch's file is written, its state is not; the weights are the epoch's.

        Logging is as in :meth:`on_step_end`. In processes that do not write, the record's digest is empty.
        """

    def metrics(self) -> dict[str, float]:
        """What to print beside the loss for the epoch of the last :meth:`on_epoch_end`, by name."""
        return {}

    def on_saved(self, position: Position) -> None:
        """Everything that was due at ``position`` is on disk, so this is the place for slow work.

        Called after every step and, once, at the end of every epoch (``position.into`` 0). The weights are ready as in
        :meth:`on_step_end`.
        """

    def state_dict(self) -> dict[str, Any]:
        """Numbers and tensors to save for a resumed run; every process calls it at the same moment."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave."""


def due(every: int | None, number: int) -> bool:
    """Whether ``number`` (from 1) is a multiple of ``every``; never for None."""
    return every is not None and number % every == 0
