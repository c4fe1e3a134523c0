"""A job's process without torch: it counts to the number in its command, and does what it is asked.

``python -m tests.studio.obedient_job FOLDER`` with the argv ``["count", "30"]``, ``["fail"]`` or ``["vanish"]``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from loratools.studio.jobs.job_folder import JobFolder


def main() -> int:
    folder = JobFolder(Path(sys.argv[1]))
    with folder.alive():
        folder.begin()
        argv = folder.command().argv
        print("runs", *argv, flush=True)
        if argv[0] == "vanish":
            os._exit(9)
        code = 1 if argv[0] == "fail" else count(folder, int(argv[1]))
        if argv[0] == "fail":
            print("error: it was meant to fail", flush=True)
        folder.end(code, folder.last_error() if code else "")
    return code


def count(folder: JobFolder, total: int) -> int:
    for done in range(total):
        stop, after_epoch = folder.asked()
        if stop or (after_epoch and done % 5 == 4):
            return 130
        folder.progress.write_text(json.dumps({"done": done, "total": total, "unit": "step", "what": "counting"}))
        print("step", done, flush=True)
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
