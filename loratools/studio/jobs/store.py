"""The queue's table: SQLite in the studio's hidden folder, written by the server alone."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from loratools.errors import FileError
from loratools.studio.api.words import problem
from loratools.studio.jobs.record import COLUMNS, JobRecord

_VERSION = 1
_PATIENCE = 10.0  # seconds for another process that looks into the file


class JobStore:
    """Jobs by id; every change is on disk when a method returns.

    Raises:
        FileError: if the file is damaged, or of a later version of loratools.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._guard = file, threading.RLock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(file, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise FileError(f"the queue {file} cannot be read ({error}); move it away to begin a new one") from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA synchronous = NORMAL")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise FileError(f"the queue {self._file} was written by another version of loratools; use that one")
        columns = ", ".join(f"{name}{' PRIMARY KEY' if name == 'id' else ''}" for name in COLUMNS)
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS jobs ({columns})")
        there = {row["name"] for row in self._connection.execute("PRAGMA table_info(jobs)")}
        for name in (own for own in COLUMNS if own not in there):  # of an earlier version
            self._connection.execute(f"ALTER TABLE jobs ADD COLUMN {name}")
        self._connection.execute(f"PRAGMA user_version = {_VERSION}")

    def all(self) -> list[JobRecord]:
        """Every job, in the queue's order."""
        return self._select("1")

    def open(self) -> list[JobRecord]:
        """The jobs that wait or run, in the queue's order."""
        return self._select("state IN ('waiting', 'running', 'stopping')")

    def place(self, record: JobRecord) -> int:
        """How many jobs wait up to this one, itself included; 0 if it does not wait."""
        if record.state != "waiting":
            return 0
        asked = "SELECT COUNT(*) FROM jobs WHERE state = 'waiting' AND position <= ?"
        with self._guard:
            return int(self._connection.execute(asked, (record.position,)).fetchone()[0])

    def last_position(self) -> float:
        """The highest position; 0 without jobs."""
        with self._guard:
            return float(self._connection.execute("SELECT MAX(position) FROM jobs").fetchone()[0] or 0.0)

    def _select(self, condition: str) -> list[JobRecord]:
        with self._guard:
            rows = self._connection.execute(
                f"SELECT * FROM jobs WHERE {condition} ORDER BY position, created"
            ).fetchall()
        return [JobRecord.of_row(dict(row)) for row in rows]

    def get(self, job_id: str) -> JobRecord | None:
        """A job; None if there is none."""
        with self._guard:
            row = self._connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else JobRecord.of_row(dict(row))

    def put(self, record: JobRecord) -> None:
        """Add a job, or change it.

        Raises:
            StudioError: on a full disk.
            FileError: if the file cannot be written otherwise.
        """
        names, places = ", ".join(COLUMNS), ", ".join(f":{name}" for name in COLUMNS)
        try:
            with self._guard:
                self._connection.execute(f"INSERT OR REPLACE INTO jobs ({names}) VALUES ({places})", record.row())
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise problem("disk.full", status=500) from error
            raise FileError(f"the queue {self._file} cannot be written ({error}); free some space") from error

    def remove(self, job_id: str) -> None:
        """Forget a job."""
        with self._guard:
            self._connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def close(self) -> None:
        """Close the file."""
        with self._guard:
            self._connection.close()
