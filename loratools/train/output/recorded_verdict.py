"""``NAME.verdict.json`` beside a run's files: which epoch its pictures recommended, and of which files that was said.

``loratools epochs RUN --base B`` writes it with all its evidence (:mod:`loratools.tune.epochs`). What every reader of
``RUN@best`` needs of it is read here: the epoch, the sentence, and the epochs' digests, by which a verdict over files
that have changed since is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loratools.adapter.files.epoch_files import Epoch, epochs
from loratools.adapter.header import read_header
from loratools.errors import FormatError
from loratools.files import sha256

FORMAT = "loratools verdict 1"


@dataclass(frozen=True)
class Staleness:
    """Why a verdict does not hold any more: the recommended epoch is ``gone``, one is ``new``, or one is an ``other``
    file now."""

    kind: Literal["gone", "new", "other"]
    epoch: int

    def __str__(self) -> str:
        match self.kind:
            case "gone":
                return f"epoch {self.epoch}, which it recommends, is gone"
            case "new":
                return f"epoch {self.epoch} is new"
            case "other":
                return f"epoch {self.epoch} is another file now"


@dataclass(frozen=True)
class RecordedVerdict:
    """What the file at ``path`` says.

    Attributes:
        epoch: the recommended one's number.
        digests: of every epoch that was measured, by number; see :func:`epoch_digest`.
    """

    path: Path
    epoch: int
    sentence: str
    digests: Mapping[int, str]

    def stale(self, files: Sequence[Epoch]) -> str:
        """:meth:`staleness` as a clause; empty if it holds."""
        return str(self.staleness(files) or "")

    def staleness(self, files: Sequence[Epoch]) -> Staleness | None:
        """Why it does not hold for a run's epochs as they are now; None if it does.

        Epochs may have been deleted since, but the recommended one; one that is new or another file may be better.
        """
        numbers = {epoch.number for epoch in files}
        if self.epoch not in numbers:
            return Staleness("gone", self.epoch)
        for epoch in files:
            if epoch.number not in self.digests:
                return Staleness("new", epoch.number)
            if epoch_digest(epoch) != self.digests[epoch.number]:
                return Staleness("other", epoch.number)
        return None


def verdict_path(files: Sequence[Epoch]) -> Path:
    """Where the verdict over a run's epochs lies or will lie: beside ``NAME-000001.safetensors``."""
    stem = files[0].path.stem
    name = stem[:-7] if stem[-7:-6] == "-" and stem[-6:].isdigit() else stem
    return files[0].path.with_name(f"{name}.verdict.json")


def epoch_digest(epoch: Epoch) -> str:
    """sha256 of an epoch file's bytes after its header, so that an edited header changes nothing.

    Raises:
        FileError, FormatError: if it cannot be read.
    """
    return sha256(epoch.path, skip=read_header(epoch.path).data_start)


def read_verdict(files: Sequence[Epoch]) -> RecordedVerdict | None:
    """The verdict beside a run's epochs, whether it still holds or not; None where there is none.

    Raises:
        FormatError: for a file of that name that is none.
    """
    path = verdict_path(files)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unreadable(path, str(error)) from error
    try:
        if content["format"] != FORMAT:
            raise _unreadable(path, f"its format is {content['format']!r}, not '{FORMAT}'")
        digests = {int(own["epoch"]): str(own["digest"]) for own in content["epochs"]}
        return RecordedVerdict(path, int(content["epoch"]), str(content["sentence"]), digests)
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error


def recommended(run: Path | str) -> tuple[int, str] | None:
    """Number and digest of the epoch that a verdict recommends which holds for the run's files as they are; else None.

    Raises:
        FileError, FormatError: if the run or its verdict cannot be read.
    """
    files = epochs(run)
    verdict = read_verdict(files)
    if verdict is None or verdict.stale(files):
        return None
    return verdict.epoch, verdict.digests[verdict.epoch]


def stale_note(run: Path | str) -> str:
    """Why ``RUN@best`` is not what the verdict beside the run recommends; empty where it is, or where there is none.

    Raises:
        FileError, FormatError: if the run or its verdict cannot be read.
    """
    files = epochs(run)
    verdict = read_verdict(files)
    why = verdict.stale(files) if verdict is not None else ""
    if verdict is None or not why:
        return ""
    return (
        f"{verdict.path.name} does not hold any more ({why}), so it is the first of the run's shortlist; "
        "`loratools epochs` with --base judges the files anew"
    )


def _unreadable(path: Path, why: str) -> FormatError:
    return FormatError(
        f"{path} is no verdict over epochs ({why}); delete it, or write it anew with `loratools epochs RUN --base BASE`"
    )
