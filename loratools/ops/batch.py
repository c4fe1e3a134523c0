"""The same operation on many files: all are looked at before any is written, and one that fails stops no other."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.errors import BatchError, FileError, LoratoolsError
from loratools.ops.text_table import table
from loratools.progress import OnProgress

_ENDING = ".safetensors"
_NAMED = 5  # files whose errors a message tells in full
_LONGEST = 44  # characters of a file's name in the table


@dataclass(frozen=True)
class BatchItem:
    """A file to work on, and where its result goes: None where nothing is written, or the file itself is changed."""

    source: Path
    out: Path | None = None


@dataclass(frozen=True)
class Done:
    """What came of one file: the cells of its row, and its facts as JSON."""

    cells: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True)
class BatchRow:
    """One file of a batch: what came of it, or why nothing did."""

    item: BatchItem
    done: Done | None = None
    failure: str = ""


@dataclass(frozen=True)
class BatchReport:
    """A whole batch.

    Attributes:
        columns: heads of the cells in every row's ``done``.
        rows: a row a file, in the order in which they were given.
    """

    columns: tuple[str, ...]
    rows: tuple[BatchRow, ...]

    @property
    def failed(self) -> tuple[BatchRow, ...]:
        """The rows of files that failed."""
        return tuple(row for row in self.rows if row.done is None)

    def json(self) -> dict[str, Any]:
        """``{"files": [{"file","out","result","failure"}], "failed": n}``; one of the last two is null."""
        return {
            "files": [
                {
                    "file": str(row.item.source),
                    "out": None if row.item.out is None else str(row.item.out),
                    "result": row.done.facts if row.done else None,
                    "failure": row.failure or None,
                }
                for row in self.rows
            ],
            "failed": len(self.failed),
        }

    def text(self) -> str:
        """A row a file, and how many there are."""
        empty = ("failed", *[""] * (len(self.columns) - 1))
        rows = [("file", *self.columns)]
        rows += [(_clipped(row.item.source.name), *(row.done.cells if row.done else empty)) for row in self.rows]
        failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{table(rows)}\n{len(self.rows)} files{failed}"

    def check(self) -> None:
        """Raise BatchError if files failed, with the reason of each."""
        if not self.failed:
            return
        done = len(self.rows) - len(self.failed)
        writes = any(row.item.out is not None for row in self.rows)
        rest = f"; {done} others are done and stay" if writes and done else ""
        raise BatchError(f"{len(self.failed)} of {len(self.rows)} files failed{rest}: {_reasons(self.failed)}")


def find_files(names: Sequence[str], folders: Sequence[str]) -> tuple[Path, ...]:
    """The files of a batch, each once, in order.

    Args:
        names: files, or patterns such as ``loras/ink*.safetensors``; what is there by its name is no pattern.
        folders: all ``.safetensors`` files directly in them are taken.
    Raises:
        FileError: for a pattern that no file matches, a folder without such files, or that is none.
    """
    found: list[Path] = []
    for name in names:
        path = Path(name).expanduser()
        if path.exists() or not is_pattern(name):
            found.append(path)
            continue
        matches = [match for match in _matches(path) if match.is_file()]
        if not matches:
            raise FileError(f"no file matches '{name}'; check the folder and the pattern")
        found += matches
    for folder in folders:
        place = Path(folder).expanduser()
        if not place.is_dir():
            raise FileError(f"{folder} is no folder; name one that holds {_ENDING} files")
        inside = sorted(path for path in place.iterdir() if path.suffix.lower() == _ENDING and path.is_file())
        if not inside:
            raise FileError(f"{folder} holds no {_ENDING} file; name the folder that they lie in")
        found += inside
    return tuple(dict.fromkeys(found))


def _matches(pattern: Path) -> list[Path]:
    """What a pattern means, in order; its folders that are there by their names, such as ``[2026] ink``, are none."""
    place = next(folder for folder in pattern.parents if folder.is_dir() or folder == folder.parent)
    return sorted(place.glob(str(pattern.relative_to(place))))


def is_pattern(name: str) -> bool:
    """Whether a name holds what stands for several names."""
    return glob.has_magic(name)


def batch_items(sources: Iterable[Path], folder: str | Path) -> list[BatchItem]:
    """Each source with a file of its own name in ``folder``.

    Raises:
        FileError: if the folder is a file, or two sources have one name.
    """
    place = Path(folder).expanduser()
    if place.is_file() or place.suffix.lower() == _ENDING:
        raise FileError(f"several files are written, so {folder} has to be a folder, and it is named like a file")
    items: dict[Path, BatchItem] = {}
    for source in sources:
        out = place / (f"{source.name}{_ENDING}" if source.is_dir() else source.with_suffix(_ENDING).name)
        if out in items:
            raise FileError(
                f"{items[out].source} and {source} would both be written to {out}; take one folder at a time"
            )
        items[out] = BatchItem(source, out)
    return list(items.values())


def check_all(items: Sequence[BatchItem], check: Callable[[BatchItem], None]) -> None:
    """Look at every file before any is written.

    Args:
        check: raises LoratoolsError where the file cannot be taken, or its place is not free.
    Raises:
        LoratoolsError: the first file's error, whose text tells those of the others too.
    """
    errors: list[LoratoolsError] = []
    for item in items:
        try:
            check(item)
        except LoratoolsError as error:
            errors.append(error)
    if errors:
        first = errors[0]
        rows = [BatchRow(items[0], failure=str(error)) for error in errors]
        whole = f"{len(errors)} of {len(items)} files cannot be taken, so nothing was written: {_reasons(rows)}"
        first.args = (whole if len(items) > 1 else str(first), *first.args[1:])
        raise first


def run_batch(
    items: Sequence[BatchItem],
    columns: tuple[str, ...],
    work: Callable[[BatchItem], Done],
    on_progress: OnProgress | None = None,
) -> BatchReport:
    """Do one file after the other; one that fails is a row that says so, and the others go on.

    Args:
        on_progress: called with (done, all) after each file.
    """
    rows = []
    for number, item in enumerate(items, 1):
        try:
            rows.append(BatchRow(item, work(item)))
        except LoratoolsError as error:
            rows.append(BatchRow(item, failure=str(error)))
        if on_progress is not None:
            on_progress(number, len(items))
    return BatchReport(columns, tuple(rows))


def _reasons(rows: Sequence[BatchRow]) -> str:
    named = "; ".join(row.failure for row in rows[:_NAMED])
    return f"{named}; and {len(rows) - _NAMED} more" if len(rows) > _NAMED else named


def _clipped(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 20]}...{name[-17:]}"
