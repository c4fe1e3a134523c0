"""Torch's elastic launch of a job's processes on this machine: ``python -m loratools.launch.elastic N MODULE ...``.

It has a process of its own because torch's agent takes over the signals of the process that it runs in, while the one
that runs a recipe has several launches side by side, in threads.
"""

from __future__ import annotations

import logging
import signal
import sys
import uuid
from collections.abc import Sequence

from loratools.launch.job import JobFolder


def main(arguments: Sequence[str]) -> int:
    """Run ``python -m MODULE ...`` in N processes to their end, with RANK and the like set; returns the exit code.

    Where one fails, the others are ended, and which it was is written into the job's folder, which follows the module.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    count, *module = arguments
    if hasattr(signal, "SIGBREAK"):  # on Windows the processes get it too, and have something to save; wait for them
        signal.signal(signal.SIGBREAK, lambda number, frame: None)
    logging.disable()  # what went wrong is one sentence of the process that starts this one
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=int(count),
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        local_addr="127.0.0.1",
    )
    try:
        elastic_launch(config, sys.executable)("-m", *module)
    except ChildFailedError as error:
        JobFolder.of(module[1]).note_ended({rank: failure.exitcode for rank, failure in error.failures.items()})
        return 1
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before torch's agent handles it
        sys.exit(130)
