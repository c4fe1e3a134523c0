"""A launcher for tests: ``python fake.py HOW [-m MODULE FOLDER]`` starts no process but acts as if it had."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

from loratools.launch.job import JobFolder
from loratools.launch.rank import Rank

how, _, module, folder = sys.argv[1:]
job = JobFolder(Path(folder))


def worker(rank: int, world: int) -> int:
    """Run the job's process ``rank`` in this one."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    sys.argv = [module, folder]
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


match how:
    case "two":
        sys.exit(worker(0, 2) or worker(1, 2))
    case "no-rank":  # as `srun python` does: each thinks that it is alone
        sys.exit(worker(0, 1) or worker(0, 1))
    case "other-fails":
        job.start(Rank(1, 2))
        job.fail(Rank(1, 2), "TrainingError", "the device is full")
        sys.exit(1)
    case "other-fails-late":
        worker(0, 2)
        job.fail(Rank(1, 2), "TrainingError", "the device is full")
        sys.exit(1)
    case "first-fails":
        job.fail(Rank(1, 2), "PeerError", "another process of this run stopped")
        time.sleep(0.01)
        job.fail(Rank(0, 2), "TrainingError", "diverged")
        sys.exit(1)
    case "other-dies":
        job.start(Rank(0, 2))
        job.start(Rank(1, 2))
        job.fail(Rank(0, 2), "PeerError", "another process of this run stopped")
        job.note_ended({0: 1, 1: -9})
        sys.exit(1)
    case "silent":
        sys.exit(7)
    case "waits":  # until it is asked to stop, which it writes down
        Path(json.loads((Path(folder) / "job.json").read_text())["arguments"]["word"]).write_text("started")

        def stop(number: int, _: object) -> None:
            Path(json.loads((Path(folder) / "job.json").read_text())["arguments"]["word"]).write_text(str(number))
            sys.exit(130)

        signal.signal(signal.SIGINT, stop)
        time.sleep(60)
