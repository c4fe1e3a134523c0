"""The environment in which a benchmark starts this checkout's own programs."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def own_environment(**more: str) -> dict[str, str]:
    """This process's variables and ``more``; this checkout is imported before all that PYTHONPATH names already."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **more}
