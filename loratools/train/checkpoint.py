"""What a run leaves on disk: numbered epoch files, a JSONL log, and the state from which it goes on."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch

from loratools import files
from loratools.adapter.metadata import guard_overwrite
from loratools.errors import FileError, TrainingError

_STATE_VERSION = 1


@dataclass(frozen=True)
class RunFolder:
    """Where the files of the run ``name`` lie in ``out``, and whose they are."""

    out: Path
    name: str

    @property
    def owner(self) -> str:
        """Written into every file; only the same owner may overwrite it without force."""
        return f"train:{self.name}"

    @property
    def log(self) -> Path:
        """One JSON object a line."""
        return self.out / f"{self.name}.jsonl"

    @property
    def state(self) -> Path:
        """The file to resume from, replaced whole at the end of every epoch."""
        return self.out / f"{self.name}-state" / "state.pt"

    def epoch(self, number: int) -> Path:
        """``NAME-000001.safetensors``."""
        return self.out / f"{self.name}-{number:06d}.safetensors"

    def epochs(self) -> list[Path]:
        """The numbered files that exist, in order."""
        found = self.out.glob(f"{_escaped(self.name)}-??????.safetensors") if self.out.is_dir() else ()
        return sorted(path for path in found if path.stem[-6:].isdigit())

    def guard(self, *, force: bool) -> None:
        """Raise before any work is done if a file of this run's name is someone else's.

        Raises:
            FileError: naming the file and the remedy.
        """
        for path in self.epochs():
            guard_overwrite(path, self.owner, force)
        if self.log.exists() and not force and _log_owner(self.log) != self.owner:
            raise FileError(f"{self.log} exists and was not written by this run; choose another --name, or --force")

    def sweep(self) -> None:
        """Remove the half-written temporary files that a kill left behind; only while the run's lock is held."""
        mine = f".{_escaped(self.name)}"
        for pattern in (f"{mine}-??????.safetensors.*.part", f"{mine}.jsonl.*.part"):
            for path in self.out.glob(pattern):
                path.unlink(missing_ok=True)
        for path in self.state.parent.glob(f".{self.state.name}.*.part"):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Take an earlier run of the same name away, so that its epochs never mix with the new ones."""
        for path in (self.state, *self.epochs()):
            path.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _log_owner(path: Path) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.loads(stream.readline() or "null")
    except (OSError, ValueError):
        return None
    return found.get("owner") if isinstance(found, dict) else None


@dataclass
class State:
    """Everything that the next epoch depends on; random draws are functions of the seed and need no state."""

    epoch: int
    step: int
    network: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    settings: dict[str, Any]
    base_digest: str
    dataset_digest: str
    started_at: float
    session: int
    losses: list[float] = field(default_factory=list)


def save_state(path: Path, state: State) -> None:
    """Write ``state`` whole; until it is, the one before it stays."""
    with files.replacing(path) as part:
        torch.save({"version": _STATE_VERSION, **vars(state)}, part)


def load_state(path: Path) -> State | None:
    """The state at ``path``, or None where there is none yet.

    Raises:
        TrainingError: if it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        version = found.pop("version")
        state = State(**found)
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise TrainingError(f"the state {path} cannot be read ({error}); start anew without --resume") from error
    if version != _STATE_VERSION:
        raise TrainingError(f"the state {path} is of another version; start anew without --resume")
    return state


def check_resumable(state: State, settings: Mapping[str, Any], base_digest: str, dataset_digest: str) -> None:
    """Refuse to go on with other settings, another base or other data: the result would be neither run's.

    More epochs are allowed where the learning rate does not depend on how many there are.

    Raises:
        TrainingError: naming what differs.
    """
    free = {"base", "images", "datasets"}  # their digests are compared; a moved folder is the same data
    if str(settings.get("lr_scheduler")).startswith("constant") and float(settings.get("lr_warmup") or 0) >= 1:
        free.add("epochs")
    if settings.get("lr_scheduler") == "constant":
        free.add("epochs")
    now, before = dict(settings), state.settings
    changed = [key for key in sorted({*now, *before} - free) if now.get(key) != before.get(key)]
    changed += ["the base"] * (base_digest != state.base_digest)
    changed += ["the images or captions"] * (dataset_digest != state.dataset_digest)
    if changed:
        shown = ", ".join(f"{key} ({before.get(key)} -> {now.get(key)})" if key in now else key for key in changed)
        raise TrainingError(f"cannot resume: {shown} changed since the run was started; change it back, or start anew "
                            "without --resume")  # fmt: skip


class RunLog:
    """The JSONL log. Lines of kind ``run``, ``step`` and ``epoch``; flushed as they come.

    Args:
        keep_steps: None starts a new file; else lines of later steps are dropped and the rest is kept.
    """

    def __init__(self, folder: RunFolder, first: Mapping[str, Any], keep_steps: int | None) -> None:
        self._path = folder.log
        lines = [] if keep_steps is None else _lines_until(folder.log, keep_steps)
        text = json.dumps({"kind": "run", "owner": folder.owner, **first}, ensure_ascii=False)
        files.write_text(folder.log, "\n".join([*(lines or [text]), ""]))
        self._stream: TextIO = open(folder.log, "a", encoding="utf-8")  # noqa: SIM115  (closed by close)

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            FileError: if the disk is full or the file is gone.
        """
        try:
            self._stream.write(json.dumps({"kind": kind, **values}, ensure_ascii=False) + "\n")
            self._stream.flush()
        except OSError as error:
            raise FileError(
                f"cannot write {self._path}: {error.strerror or error}; free some space, then --resume"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def _lines_until(path: Path, step: int) -> list[str]:
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found = json.loads(line)
        except ValueError:
            break  # the line that a kill cut short
        if found.get("step", 0) > step:
            break
        kept.append(line)
    return kept
