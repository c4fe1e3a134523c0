"""The files of one job: what its processes are to run, and what came of it.

``job.json`` says what to call; each process claims its rank by ``N.started`` and writes ``N.failed.json`` if it fails;
the first one's ``result.json`` is the job's result. Processes that stay for another job write ``N.done`` at its end.
``ended.json`` is the launcher's own word on processes that died.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loratools import errors
from loratools.errors import LaunchError, LoratoolsError, PeerError
from loratools.files import write_text
from loratools.launch.rank import Rank

_PATIENCE = 20.0  # seconds in which a file that another host wrote has to be seen here
_POLL = 0.1  # seconds between two looks at it


@dataclass(frozen=True)
class Job:
    """A function for every process of a launch to call.

    Attributes:
        target: ``package.module:function`` of ours; it is given the arguments by name, and returns JSON values.
        arguments: JSON values.
        folder: the current folder of all processes.
        lock: the file that the process which started the job holds a lock on for as long as it lives.
    """

    target: str
    arguments: Mapping[str, Any]
    folder: str
    lock: str


@dataclass(frozen=True)
class Failure:
    """How one process failed: the name of its error's class, what it says, and when."""

    rank: int
    world: int
    kind: str
    message: str
    at: float

    def error(self) -> LoratoolsError:
        """The error, of its own class where it is one of ours, which names the process if there are several."""
        made = getattr(errors, self.kind, LaunchError)
        text = f"{Rank(self.rank, self.world)}: {self.message}" if self.world > 1 else self.message
        return made(text) if issubclass(made, LoratoolsError) else LaunchError(text)


class JobFolder:
    """The folder of one job.

    Args:
        launch: the folder that its launcher was given, where it runs more than this job in the same processes.
    """

    def __init__(self, path: Path, launch: Path | None = None) -> None:
        self.path, self._launch = path, launch or path

    @staticmethod
    def of(text: str) -> JobFolder:
        """The folder that a process was given."""
        return JobFolder(Path(text))

    def write(self, job: Job) -> None:
        """Make the folder, with the job in it."""
        self._write("job.json", asdict(job))

    def job(self) -> Job:
        """The job to run.

        Raises:
            LaunchError: if it cannot be seen from here.
        """
        values = self._wait_for("job.json")
        if values is None:
            raise LaunchError(
                f"there is no job in {self.path} on this machine; all processes need the same folders, on one disk"
            )
        return Job(**values)

    def has_job(self) -> bool:
        """Whether there is something to run."""
        return self._read("job.json") is not None

    def start(self, rank: Rank) -> None:
        """Claim the rank for this process.

        Raises:
            LaunchError: if another process has had it.
        """
        try:
            with open(self.path / f"{rank.rank}.started", "x", encoding="utf-8") as stream:
                json.dump({"world": rank.world, "pid": os.getpid()}, stream)
        except FileExistsError:
            raise LaunchError(
                f"{rank} was started twice; use a launcher that sets RANK and WORLD_SIZE, such as torchrun or "
                "accelerate launch, and lets none start again"
            ) from None

    def begun(self) -> bool:
        """Whether any process has begun with it."""
        return any(self.path.glob("*.started"))

    def end(self, rank: Rank) -> None:
        """Write down that this process has done its part of the job and waits for the next."""
        self._write(f"{rank.rank}.done", {})

    def is_done(self, world: int) -> bool:
        """Whether all processes have done their part."""
        return all((self.path / f"{rank}.done").exists() for rank in range(world))

    def finish(self, result: Any) -> None:
        """Write the job's result, as its first process."""
        self._write("result.json", {"result": result})

    def fail(self, rank: Rank, kind: str, message: str) -> None:
        """Write down how this process failed."""
        self._write(f"{rank.rank}.failed.json", asdict(Failure(rank.rank, rank.world, kind, message, time.time())))

    def note_stopped(self, rank: Rank) -> None:
        """Write down that this process was asked to stop, by Ctrl-C or by a file."""
        self._write(f"{rank.rank}.stopped", {})

    def note_ended(self, codes: Mapping[int, int]) -> None:
        """Write down the exit codes of processes that died before the launcher ended the others."""
        self._write("ended.json", {str(rank): code for rank, code in codes.items()})

    def result(self, code: int) -> Any:
        """What the job's first process returned.

        Args:
            code: the launcher's exit code.
        Raises:
            LoratoolsError: of the process that failed first; LaunchError for one that is gone without a word.
            KeyboardInterrupt: if none failed and one was asked to stop.
        """
        values = self._wait_for("result.json") if code == 0 else self._read("result.json")
        if values is None:
            failed = any(failure.kind != PeerError.__name__ for failure in self.failures())
            if not failed and any(self.path.glob("*.stopped")):
                raise KeyboardInterrupt
            raise self.error(code, remedy="; run the same again to go on from what is done") or LaunchError(
                f"the launcher ended with exit code {code} and the job is not done; what it says stands above"
            )
        return values["result"]

    def error(self, code: int = 1, remedy: str = "") -> LoratoolsError | None:
        """The error of the process that failed first; None where nothing is known of one.

        Args:
            code: the launcher's exit code.
            remedy: what to do about a process that is gone.
        """
        failures = sorted(self.failures(), key=lambda failure: failure.at)
        causes = [failure for failure in failures if failure.kind != PeerError.__name__]
        if causes:
            return causes[0].error()
        known = {failure.rank for failure in failures}
        gone = [(rank, code) for rank, code in self._ended().items() if rank not in known]
        if not gone and code < 0 and self._world(0) == 1:
            gone = [(0, code)]
        if gone:
            return LaunchError(_gone(Rank(gone[0][0], self._world(gone[0][0])), gone[0][1]) + remedy)
        return failures[0].error() if failures else None

    def failures(self) -> list[Failure]:
        """Of every process that wrote one down."""
        read = (self._read(path.name) for path in self.path.glob("*.failed.json"))
        return [Failure(**values) for values in read if values is not None]

    def others_could_finish(self) -> bool:
        """Whether what failed is not the job itself: a process died, or one failed that is not the first."""
        causes = [failure for failure in self.failures() if failure.kind != PeerError.__name__]
        return not any(failure.rank == 0 for failure in causes)

    def _ended(self) -> dict[int, int]:
        return {int(rank): int(code) for rank, code in (self._read("ended.json", self._launch) or {}).items()}

    def _world(self, rank: int) -> int:
        """How many processes there are, as the process ``rank`` knew it; 0 if it never started."""
        return int((self._read(f"{rank}.started") or {}).get("world", 0))

    def _wait_for(self, name: str) -> dict[str, Any] | None:
        begun = time.monotonic()
        while (values := self._read(name)) is None and time.monotonic() - begun < _PATIENCE:
            time.sleep(_POLL)
        return values

    def _read(self, name: str, folder: Path | None = None) -> dict[str, Any] | None:
        try:
            values = json.loads(((folder or self.path) / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or not seen from here yet
            return None
        return values if isinstance(values, dict) else None

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        write_text(self.path / name, json.dumps(values, default=str))


def _gone(rank: Rank, code: int) -> str:
    how = f"exit code {code}"
    if code < 0:
        how = signal.Signals(-code).name if -code in {int(one) for one in signal.Signals} else f"signal {-code}"
    who = str(rank) if rank.world > 1 else "the process of this step"
    lack = ", perhaps for lack of memory" if code == -9 else ""
    return f"{who} is gone ({how}){lack}"
