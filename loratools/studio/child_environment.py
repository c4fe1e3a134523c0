"""The environment of the server's own Python processes: this very package, and no module of the opened folders.

Jobs run in an opened folder. Python would look there first for whatever is imported, so that a downloaded folder with a
``json.py`` in it would run as soon as a job begins; ``PYTHONSAFEPATH`` keeps it from that, in their children too.
"""

from __future__ import annotations

import os
from pathlib import Path

import loratools


def child_environment(**more: str) -> dict[str, str]:
    """``os.environ`` with ``more``; folders of ``PYTHONPATH`` that are named from the current one stay those."""
    package = Path(loratools.__file__).parents[1]
    given = [own for own in os.environ.get("PYTHONPATH", "").split(os.pathsep) if own]
    paths = [str(package), *(str(Path(own).absolute()) for own in given)]
    own = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1", "PYTHONSAFEPATH": "1"}
    return {**os.environ, **own, **more}
