"""Tuning: what a person would find by trying and looking, found by drawing and measuring: the block vector that repairs
a LoRA, with style and obedience kept, and the epoch of a run to take.

:func:`tune` searches a vector; :class:`TuneRequest` says what is wanted.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loratools.tune.problem.effort import FULL, QUICK, Effort
    from loratools.tune.problem.request import TuneRequest
    from loratools.tune.progress import TuneProgress
    from loratools.tune.report.result import TuneResult
    from loratools.tune.tuning import tune

__all__ = ["FULL", "QUICK", "Effort", "TuneProgress", "TuneRequest", "TuneResult", "tune"]
_MODULES = {  # imported when they are asked for, so that this package itself is light
    "Effort": "problem.effort",
    "FULL": "problem.effort",
    "QUICK": "problem.effort",
    "TuneProgress": "progress",
    "TuneRequest": "problem.request",
    "TuneResult": "report.result",
    "tune": "tuning",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
