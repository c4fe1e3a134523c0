"""The log of a run, read back: losses by epoch, by image and by noise."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.files.epoch_files import epochs
from loratools.errors import FileError
from loratools.files import json_lines

_HARDEST = 10  # images that are shown


@dataclass(frozen=True)
class LoggedLosses:
    """The losses of a run, empty without a log.

    Attributes:
        training, validation: by epoch; an epoch's validation loss is that of its last step.
        untrained: the validation loss before the first step.
        held_out: whether the validation loss is of images that no epoch showed.
    """

    training: Mapping[int, float]
    validation: Mapping[int, float]
    untrained: float | None
    held_out: bool


def logged_losses(epoch: Path) -> LoggedLosses:
    """The losses in the log beside an epoch's file."""
    losses: dict[int, float] = {}
    ends: dict[int, int] = {}
    by_step: dict[int, float] = {}
    held_out = True
    for record in read_log(epoch):
        value, step = record.get("loss"), record.get("step")
        if not isinstance(value, float) or not math.isfinite(value):
            continue
        if record.get("kind") == "epoch":
            losses[int(record["epoch"])] = value
            ends |= {int(record["epoch"]): step} if isinstance(step, int) else {}
        elif record.get("kind") == "validation" and isinstance(step, int):
            by_step[step] = value
            held_out = bool(record.get("held_out", True))
    validations = {number: by_step[step] for number, step in ends.items() if step in by_step}
    return LoggedLosses(losses, validations, by_step.get(0), held_out)


@dataclass(frozen=True)
class LossBreakdown:
    """Losses by image and by timesteps: means over the earlier and over the later half of a run's epochs.

    Attributes:
        images: relative training losses, 1 being the mean of all images at the same timesteps.
        timesteps: training losses by band.
    """

    images: Mapping[str, tuple[float | None, float | None]]
    timesteps: Mapping[str, tuple[float | None, float | None]]

    def json(self) -> dict[str, Any]:
        """As JSON values, images with the highest later loss first."""
        return {
            kind: [{"name": name, "earlier": one, "later": two} for name, (one, two) in halves]
            for kind, halves in (("images", self._hardest()), ("timesteps", self.timesteps.items()))
        }

    def text(self) -> str:
        """For a person: the images that are learnt worst, and where in the noise the loss is."""
        hardest, more = self._hardest()[:_HARDEST], len(self.images) - _HARDEST
        lines = ["images with the highest loss in later epochs (in earlier ones); 1 is the mean at the same noise:"]
        lines += [f"  {_number(two)} ({_number(one)})  {name}" for name, (one, two) in hardest]
        lines += [f"  and {more} with lower ones"] if more > 0 else []
        lines += ["", "loss by timesteps, from nearly clean pictures to nearly pure noise:"]
        lines += [f"  {_number(two)} ({_number(one)})  {name}" for name, (one, two) in self.timesteps.items()]
        return "\n".join(lines)

    def _hardest(self) -> list[tuple[str, tuple[float | None, float | None]]]:
        return sorted(self.images.items(), key=lambda item: (-(item[1][1] or item[1][0] or 0.0), item[0]))


def loss_breakdown(run: Path | str) -> LossBreakdown:
    """The losses of ``run`` by image and by timesteps.

    Args:
        run: the folder, or ``FOLDER/NAME`` where a folder holds several runs.
    Raises:
        FileError: if there is no such run, or no log with such losses.
    """
    lines = [line for line in read_log(epochs(run)[0].path) if line.get("kind") == "losses"]
    if not lines:
        raise FileError(
            f"{run} has no log that tells losses by image; runs of loratools from this version on keep one "
            "beside their files"
        )
    half = lines[len(lines) // 2 - 1 if len(lines) > 1 else 0]["epoch"]
    images, timesteps = _Halves(), _Halves()
    for line in lines:
        later = line["epoch"] > half or len(lines) == 1
        for name, loss in line["relative"].items():
            images.add(name, loss, later=later)
        for band in line["bands"]:
            timesteps.add(f"{band['from']} to {band['to']}", band["loss"], later=later)
    named = timesteps.means()
    return LossBreakdown(
        images.means(), {name: named[name] for name in sorted(named, key=lambda own: int(own.split()[0]))}
    )


def read_log(epoch: Path) -> list[dict[str, Any]]:
    """The lines of ``NAME.jsonl`` beside an epoch's file; none where there is no such file."""
    name = epoch.stem[:-7] if epoch.stem[-6:].isdigit() else epoch.stem
    try:
        lines = json_lines(epoch.with_name(f"{name}.jsonl").read_text(encoding="utf-8"))
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the line that a kill cut short
        if isinstance(record, dict):
            records.append(record)
    return records


class _Halves:
    """Values by name, of earlier and of later epochs."""

    def __init__(self) -> None:
        self._values: defaultdict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))

    def add(self, name: str, value: float | None, *, later: bool) -> None:
        """Take in one epoch's mean, if it has one."""
        if value is not None:
            self._values[name][later].append(value)

    def means(self) -> dict[str, tuple[float | None, float | None]]:
        """The mean of each half."""
        return {name: (_mean(one), _mean(two)) for name, (one, two) in self._values.items()}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _number(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.4f}"
