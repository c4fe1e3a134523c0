"""The suite runs on several processes; each computes on one thread, as do the processes that tests start."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported; more threads than cores wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
