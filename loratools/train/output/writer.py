"""Writing what a run leaves: the files of its LoRA, and its state."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.files.metadata import Provenance
from loratools.adapter.files.save import write
from loratools.dtypes import torch_dtype
from loratools.errors import FileError
from loratools.train.network.ema import Ema
from loratools.train.network.network import Network
from loratools.train.optim.optimizers import optimizer_modes
from loratools.train.output.header import Facts, header
from loratools.train.output.log import NoLog, RunLog
from loratools.train.output.run_folder import RunFolder
from loratools.train.output.state import Position, State, save_state, told


class Writer:
    """Writes one run's files, of the weights that are to be saved: the average, where there is one.

    Args:
        inputs: name, digest and kind of everything that goes into a file, for its header.
        base_digest: of the base with whatever was merged into it.
        log: seen onto the disk before a state is.
    """

    def __init__(
        self,
        folder: RunFolder,
        facts: Facts,
        network: Network,
        ema: Ema | None,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        inputs: Sequence[Mapping[str, str]],
        base_digest: str,
        log: RunLog | NoLog,
    ) -> None:
        self._folder, self._facts, self._network, self._ema = folder, facts, network, ema
        self._optimizer, self._scaler, self._log = optimizer, scaler, log
        self._inputs, self._base_digest = [dict(entry) for entry in inputs], base_digest

    @contextlib.contextmanager
    def saved_weights(self) -> Iterator[None]:
        """Inside the block the network holds the weights that are saved, and drops nothing."""
        averaged = self._ema.applied() if self._ema is not None else contextlib.nullcontext()
        with self._network.whole(), optimizer_modes(self._optimizer), averaged:
            yield

    def epoch(self, number: int, step: int) -> tuple[Path, str]:
        """The file of a finished epoch, and its digest."""
        return self._write(self._folder.epoch(number), number, step)

    def others(self, number: int) -> tuple[Path, str]:
        """What stands for :meth:`epoch` in a process that leaves the writing to another."""
        return self._folder.epoch(number), ""

    def step(self, epoch: int, step: int) -> tuple[Path, str]:
        """The file of a step in ``epoch``."""
        return self._write(self._folder.step(step), epoch, step)

    def state(self, position: Position, watched: Mapping[str, dict[str, Any]]) -> None:
        """Everything that a :class:`State` holds; files that are then too old to stay are removed."""
        facts = self._facts
        self._log.sync()
        save_state(
            self._folder.state,
            State(
                **vars(position),
                network=self._network.state(),
                ema=self._ema.state() if self._ema else None,
                optimizer=self._optimizer.state_dict(),
                scaler=self._scaler.state_dict(),
                watched=dict(watched),
                settings=facts.config.settings(),
                base_digest=self._base_digest,
                dataset_digest=facts.dataset.digest,
                started_at=facts.started_at,
                session=facts.session,
            ),
        )
        self._folder.prune(facts.config.save_every_epochs, facts.config.save_last_n)

    def _write(self, path: Path, epoch: int, step: int) -> tuple[Path, str]:
        facts, config = self._facts, self._facts.config
        made = {"train": {**config.settings(), "epoch": epoch}}
        with self.saved_weights():
            deltas, extras = self._network.deltas(), self._network.extras(torch_dtype(config.dtype))
        try:
            written = write(
                deltas,
                path,
                family=facts.base.family,
                metadata=header(facts, epoch, step),
                dtype=torch_dtype(config.dtype),
                provenance=Provenance(made, self._folder.owner, self._inputs),
                force=config.force,
                alpha=self._network.alphas,
                carried=extras,
            )
        except OSError as error:
            raise FileError(
                f"cannot write {path}: {told(error)}; free some space and go on with --resume, the last state is whole"
            ) from error
        return written.path, written.digest
