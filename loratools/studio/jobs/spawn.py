"""Start a job's process so that it outlives the server, on every system."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from loratools.progress import PROGRESS_FILE
from loratools.studio.child_environment import child_environment
from loratools.studio.jobs.job_folder import JobFolder

PROCESS = "loratools.cli.studio.job"  # the module that a job's process runs


def spawn(folder: JobFolder, cwd: Path) -> subprocess.Popen[bytes]:
    """Start the process of the job in ``folder``; what it prints is appended to its log.

    Raises:
        OSError: if the system starts no more processes, or ``cwd`` is gone.
    """
    own = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", PROGRESS_FILE: str(folder.progress)}
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    with open(folder.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", PROCESS, str(folder.path)],
            cwd=cwd,
            env=child_environment(**own),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=sys.platform != "win32",
            creationflags=flags,
        )
