"""What was found at one moment: immutable, so that a request sees one state while the next is looked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loratools.studio.discover.lora_files import LoraFacts
from loratools.studio.discover.picture_folders import FoundPictures
from loratools.studio.discover.run_log import RunLog
from loratools.studio.discover.walk import Stamp


@dataclass(frozen=True)
class FoundFile:
    """A file or folder, and what tells whether it has changed."""

    path: Path
    stamp: Stamp


@dataclass(frozen=True)
class FoundLora(FoundFile):
    """A LoRA file; ``run`` is ``OUT/NAME`` where it is an epoch of one."""

    facts: LoraFacts
    run: Path | None = None
    epoch: int | None = None


@dataclass(frozen=True)
class FoundBase(FoundFile):
    """A base model: a checkpoint, or a Diffusers folder."""

    family: str


@dataclass(frozen=True)
class FoundRun:
    """A run.

    Attributes:
        place: ``OUT/NAME``; no file has this name.
        log: None for a run of another trainer.
        epochs: number -> file.
        running: whether a process holds its lock.
        updated: seconds since 1970.
    """

    place: Path
    log: RunLog | None
    epochs: Mapping[int, Path]
    running: bool
    updated: float

    @property
    def state(self) -> str:
        """``running``, ``done`` or ``stopped``."""
        if self.running:
            return "running"
        return "done" if self.log is None or self.log.finished else "stopped"


@dataclass(frozen=True)
class Snapshot:
    """Everything below the roots, each kind in the order of its paths."""

    loras: Sequence[FoundLora] = ()
    bases: Sequence[FoundBase] = ()
    runs: Sequence[FoundRun] = ()
    grids: Sequence[FoundFile] = ()
    recipes: Sequence[FoundFile] = ()
    pictures: Sequence[FoundPictures] = ()
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)
