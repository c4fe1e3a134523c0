"""The folder of a run: names of its files, which of them are its own, and which are removed."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from loratools.adapter.files.metadata import guard_overwrite
from loratools.errors import FileError
from loratools.files import sweep

_DRAWN = re.compile(r"(e\d{6,}|s\d{8,})_\d{2,}\.png|sheet\.png")


@dataclass(frozen=True)
class RunFolder:
    """The files of the run ``name`` in the folder ``out``."""

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
        """The file to resume from, replaced whole at the end of every epoch and wherever else it is saved."""
        return self.out / f"{self.name}-state" / "state.pt"

    @property
    def base(self) -> Path:
        """Where the base of a full training lies, for reading its checkpoints as what they differ by."""
        from loratools.adapter.files.tuned_model import noted_at  # torch, which whoever only lists runs does without

        return noted_at(self.epoch(1))

    @property
    def stop(self) -> Path:
        """Asks the run to stop once it is there; see :mod:`loratools.train.stop_file`."""
        return self.out / f"{self.name}-state" / "stop"

    @property
    def samples(self) -> Path:
        """Folder of the pictures that the run draws of itself."""
        return self.out / f"{self.name}-samples"

    def epoch(self, number: int) -> Path:
        """``NAME-000001.safetensors``."""
        return self.out / f"{self.name}-{number:06d}.safetensors"

    def end(self, *, folder: bool) -> Path:
        """``NAME-last.safetensors``, the file of the end beside the epochs' files; or the Diffusers folder."""
        return self.out / (f"{self.name}-last" if folder else f"{self.name}-last.safetensors")

    def epochs(self) -> list[Path]:
        """The numbered files that exist, in order."""
        return self._numbered("-", 6)

    def step(self, number: int) -> Path:
        """``NAME-step00000100.safetensors``."""
        return self.out / f"{self.name}-step{number:08d}.safetensors"

    def steps(self) -> list[Path]:
        """The files of steps that exist, in order."""
        return self._numbered("-step", 8)

    def sample(self, epoch: int, step: int, number: int, *, ended: bool) -> Path:
        """``e000001_01.png`` of an epoch's end (0: before the first), ``s00000100_01.png`` of a step within one."""
        return self.samples / f"{f'e{epoch:06d}' if ended else f's{step:08d}'}_{number:02d}.png"

    def size(self) -> int:
        """Bytes of what the run has on the disk: its files, its state, and what it wrote at its end."""
        ends = [self.end(folder=False), *self.end(folder=True).rglob("*")]
        return sum(path.stat().st_size for path in (self.state, *self.epochs(), *self.steps(), *ends) if path.is_file())

    def guard(self, *, force: bool) -> None:
        """Raise before any work is done if a file of this run's name is someone else's.

        Raises:
            FileError: naming the file and the remedy.
        """
        for path in (*self.epochs(), *self.steps()):
            guard_overwrite(path, self.owner, force)
        if self.log.exists() and not force and _log_owner(self.log) != self.owner:
            raise FileError(
                f"{self.log} exists and was not written by this run; choose another `name=`, or use `force=True`"
            )

    def sweep(self) -> None:
        """Remove the half-written temporary files that a kill left behind; only while the run's lock is held."""
        mine = escape(self.name)
        own = (
            f"{mine}-??????.safetensors",
            f"{mine}-step????????.safetensors",
            f"{mine}-last",
            f"{mine}-last.safetensors",
            f"{mine}.jsonl",
        )
        noted = self.state.with_name("base.json")
        for place in (*(self.out / name for name in own), self.state, noted, self.samples / "*.png"):
            sweep(place)

    def clear(self) -> None:
        """Remove the files of an earlier run of the same name, so that its epochs never mix with the new ones."""
        drawn = [path for path in self.samples.glob("*.png") if _DRAWN.fullmatch(path.name)]
        for path in (self.state, *self.epochs(), *self.steps(), *drawn):
            path.unlink(missing_ok=True)
        self._clear_end()

    def _clear_end(self) -> None:
        """The file and the folder of an earlier run's end, if it was this run's name that wrote them."""
        from loratools.train.output.diffusers_folder import guard_folder  # torch

        file, folder = self.end(folder=False), self.end(folder=True)
        with contextlib.suppress(FileError):
            guard_overwrite(file, self.owner, False)
            file.unlink(missing_ok=True)
        with contextlib.suppress(FileError):
            guard_folder(folder, self.owner, False)
            if folder.exists():
                shutil.rmtree(folder)

    def prune(self, every: int | None, keep: int | None) -> None:
        """Leave only the files of every ``every``-th epoch and of the newest one, and of them, and of steps, only the
        newest ``keep``; all of them for None.
        """
        by_number = {_number(path): path for path in self.epochs()}
        stay = staying(tuple(by_number), every, keep)
        steps = self.steps()[:-keep] if keep is not None else []
        for path in (*(path for number, path in by_number.items() if number not in stay), *steps):
            path.unlink(missing_ok=True)

    def _numbered(self, before: str, digits: int) -> list[Path]:
        pattern = f"{escape(self.name)}{before}{'?' * digits}.safetensors"
        paths = self.out.glob(pattern) if self.out.is_dir() else ()
        return sorted(path for path in paths if path.stem[-digits:].isdigit())


def staying(numbers: Sequence[int], every: int | None, keep: int | None) -> tuple[int, ...]:
    """Of the epochs ``numbers``, in order, those whose files stay: every ``every``-th and the newest one, and of them
    the newest ``keep``; all of them for None."""
    left = tuple(number for number in numbers if number == numbers[-1] or number % (every or 1) == 0)
    return left if keep is None else left[-keep:]


def _number(path: Path) -> int:
    return int(path.stem[-6:])


def _log_owner(path: Path) -> str | None:
    try:
        with open(path, encoding="utf-8") as stream:
            first = json.loads(stream.readline() or "null")
    except (OSError, ValueError):
        return None
    return first.get("owner") if isinstance(first, dict) else None
