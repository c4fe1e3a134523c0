"""What looks at a run while it goes on: the log, the bar, and whatever else wants to see steps, epochs or weights."""

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
from loratools.train.network.network import Network
from loratools.train.output.log import NoLog, RunLog
from loratools.train.output.run_folder import RunFolder
from loratools.train.output.state import Position
from loratools.train.step.runner import Done
from loratools.train.step.step import Precision, Step


@dataclass(frozen=True)
class Seen:
    """The parts of a run that a watcher may look at; the network is attached to its base.

    ``saved_weights`` is a context: inside it the network holds what a file of this moment would hold (the average of a
    run with ``ema``, the x of schedule-free optimisers) and drops nothing; afterwards it is as it was, bit for bit.
    """

    config: TrainConfig
    ranks: Ranks
    folder: RunFolder
    base: Base
    network: Network
    dataset: Dataset
    store: LatentStore
    stepper: Step
    kind: Precision
    log: RunLog | NoLog
    saved_weights: Callable[[], contextlib.AbstractContextManager[None]]


class Watcher:
    """Override what is of interest. Looking must change nothing that is trained; every process of a run calls all of
    these at the same moments, and only the one whose ``ranks.main`` may write.

    ``name`` is the watcher's place in the state; no two of a run have the same.
    """

    name = "watcher"

    def due(self, step: int) -> bool:
        """Whether to look at the weights right after optimiser step ``step``: the loop then waits for the device, and
        no later step has run when :meth:`stepped` and :meth:`after` are called for this one."""
        return False

    def began(self, position: Position) -> None:
        """Before the first step of this process: step 0, or that of the state from which the run goes on.

        The place to make up for what :meth:`after` did not finish before a kill.
        """

    def stepped(self, done: Done, record: StepRecord) -> None:
        """A step's loss was read, and nothing of this moment is saved yet: what is logged here is logged once, however
        often the run is killed. Losses and timesteps of ``done`` are ready, but weights only if the step was due."""

    def ended(self, record: EpochRecord) -> None:
        """An epoch's file is written, its state is not: the weights are the epoch's, and logging is as in
        :meth:`stepped`. In processes that do not write, the record's file is not theirs and its digest is empty."""

    def figures(self) -> dict[str, float]:
        """What is told to a person of the epoch that :meth:`ended` has just seen, beside its loss."""
        return {}

    def after(self, position: Position) -> None:
        """Everything that was due at ``position`` is on disk, so that slow work loses nothing to a kill; after every
        step and, once, at every epoch's end (``position.into`` 0). Weights are ready as in :meth:`stepped`."""

    def state(self) -> dict[str, Any]:
        """Numbers and tensors to carry over a kill; every process calls it at the same moment."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state` gave."""
