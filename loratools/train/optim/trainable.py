"""What the steps of a run change: the trained weights, their optimiser, the loss scale and their average."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from loratools.train.network.ema import Ema
from loratools.train.network.trained_weights import TrainedWeights
from loratools.train.optim.optimizers import optimizer_modes


@dataclass(frozen=True)
class Trainable:
    """Everything that a step changes, and that a state therefore holds.

    Attributes:
        optimizer: over the network's parameters; each group has a ``base_lr``, a ``name`` and a ``part``.
        scaler: of the loss, for fp16; disabled otherwise.
        ema: the weights' moving average, where the config asks for one.
    """

    network: TrainedWeights
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: Ema | None = None

    @contextlib.contextmanager
    def saved_weights(self) -> Iterator[None]:
        """Inside the block the network holds the weights that a file would have, and drops nothing.

        They are the average of a run with ``ema``, and the x of schedule-free optimisers. Afterwards the factors are as
        they were, bit for bit.
        """
        try:
            with self.network.without_dropout(), optimizer_modes(self.optimizer), contextlib.ExitStack() as averaged:
                if self.ema is not None:
                    averaged.enter_context(self.ema.applied())
                    averaged.enter_context(self.network.averaged(self.ema.mean))
                self.network.weights_changed()
                yield
        finally:
            self.network.weights_changed()
