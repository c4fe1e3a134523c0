"""Writing what a run leaves: the files of its weights, and its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import Provenance
from loratools.errors import FileError
from loratools.train.optim.trainable import Trainable
from loratools.train.output.header import HeaderFacts, header
from loratools.train.output.log import NoLog, RunLog
from loratools.train.output.run_folder import RunFolder
from loratools.train.output.saved import RunFile, Saved
from loratools.train.output.state import Position, State, error_text, save_state


@dataclass(frozen=True)
class RunWriter:
    """Writes one run's files, of the weights that are to be saved: the average, where there is one.

    Attributes:
        inputs: name, digest and kind of everything that goes into a file, for its header; ``ancestors`` is how the
            LoRAs among them were made, by digest.
        base_digest: of the base with whatever was merged into it.
        file: what an epoch's file is; ``end`` is the further one of the last epoch, if there is one.
        log: flushed to the disk before a state is written.
        recipe: the recipe that the run is of, for the header.
    """

    folder: RunFolder
    facts: HeaderFacts
    trained: Trainable
    inputs: tuple[Mapping[str, str], ...]
    base_digest: str
    file: RunFile
    log: RunLog | NoLog
    recipe: Mapping[str, Any] | None = None
    ancestors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    end: RunFile | None = None

    def epoch(self, number: int, step: int) -> tuple[Path, Saved]:
        """The file of a finished epoch; after the last one the run's last file too."""
        path = self.folder.epoch(number)
        saved = self._write(self.file, path, number, step)
        if saved.error is not None:
            self.log.write(
                "file", {"step": step, "path": path.name, "error": saved.error, "blocks": dict(saved.blocks)}
            )
        config = self.facts.config
        if self.end is not None and number == config.epochs:
            self._write(self.end, self.folder.end(folder=config.save_end == "diffusers"), number, step)
        return path, saved

    def step(self, epoch: int, step: int) -> tuple[Path, Saved]:
        """The file of a step in ``epoch``."""
        path = self.folder.step(step)
        return path, self._write(self.file, path, epoch, step)

    def state(self, position: Position, watched: Mapping[str, dict[str, Any]]) -> None:
        """Everything that a :class:`State` holds; files that are then too old to stay are removed."""
        facts, trained = self.facts, self.trained
        self.log.sync()
        save_state(
            self.folder.state,
            State(
                **vars(position),
                network=trained.network.state(),
                ema=trained.ema.state() if trained.ema else None,
                optimizer=trained.optimizer.state_dict(),
                scaler=trained.scaler.state_dict(),
                watched=dict(watched),
                settings=facts.config.settings(),
                base_digest=self.base_digest,
                dataset_digest=facts.dataset.digest,
                started_at=facts.started_at,
                session=facts.session,
            ),
        )
        self.folder.prune(facts.config.save_every_epochs, facts.config.save_last_n)

    def _write(self, file: RunFile, path: Path, epoch: int, step: int) -> Saved:
        facts, config = self.facts, self.facts.config
        provenance = Provenance(
            {"train": {**config.settings(), "epoch": epoch}},
            self.folder.owner,
            [dict(entry) for entry in self.inputs],
            dict(self.ancestors),
            recipe=self.recipe,
        )
        try:
            with self.trained.saved_weights():
                return file.write(path, header(facts, epoch, step), provenance, force=config.force)
        except OSError as error:
            raise FileError(
                f"cannot write {path}: {error_text(error)}; free some space and go on with "
                f"`resume=True`, the last state is "
                "whole"
            ) from error
