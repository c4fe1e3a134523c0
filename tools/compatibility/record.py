"""What came of a run: kept as JSON beside this file, one record for each Python and each end of the ranges."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

RUNS = Path(__file__).parent / "runs.json"


@dataclass(frozen=True)
class Record:
    """One run.

    Args:
        python: such as ``3.13.0``.
        resolution: ``lowest`` or ``newest`` version of every package that pyproject.toml names.
        system: such as ``Linux x86_64``.
        commit: of the tree, with a ``+`` where it had changes.
        date: of the day, ``2026-11-30``.
        versions: of the packages that pyproject.toml names, as they were installed.
        modules: how many of the package's modules were imported.
        passed, skipped: tests.
        failed: names of tests and modules that failed.
        seconds: of the tests.
    """

    python: str
    resolution: str
    system: str
    commit: str
    date: str
    versions: dict[str, str]
    modules: int
    passed: int
    skipped: int
    failed: tuple[str, ...]
    seconds: float

    @property
    def name(self) -> str:
        """What tells it from other runs: ``3.13 lowest``."""
        return f"{'.'.join(self.python.split('.')[:2])} {self.resolution}"


def read(path: Path = RUNS) -> dict[str, Record]:
    """The records by name."""
    if not path.is_file():
        return {}
    made = [Record(**(own | {"failed": tuple(own["failed"])})) for own in json.loads(path.read_text(encoding="utf-8"))]
    return {record.name: record for record in made}


def keep(record: Record, path: Path = RUNS) -> None:
    """Put a record in the place of the earlier one of its name."""
    records = read(path) | {record.name: record}
    text = json.dumps([asdict(records[name]) for name in sorted(records)], indent=1, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")
