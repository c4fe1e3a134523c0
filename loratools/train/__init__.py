"""Training: a base and folders of captioned images in, one LoRA file an epoch out.

``read_config`` makes a ``TrainConfig`` of a file and settings, and ``train`` trains it. What a run would do is said by
``trainer.dry_run``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loratools.train.config.config import TrainConfig
    from loratools.train.config.read import read_config
    from loratools.train.trainer import RunResult, train

__all__ = ["RunResult", "TrainConfig", "read_config", "train"]
_MODULES = {  # imported when they are asked for, so that this package itself is light
    "RunResult": "trainer",
    "TrainConfig": "config.config",
    "read_config": "config.read",
    "train": "trainer",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
