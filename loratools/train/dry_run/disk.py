"""What a run leaves on the disk, and whether there is room for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from loratools.train.config.config import TrainConfig
from loratools.train.output.run_folder import staying

_MIB = 2**20


def files_left(config: TrainConfig, steps: int) -> int:
    """How many LoRA files a run of ``steps`` steps leaves: of its epochs, or every ``save_every_epochs`` and the last,
    and of every ``save_every_steps``.
    """
    of_epochs = len(staying(range(1, config.epochs + 1), config.save_every_epochs, config.save_last_n))
    of_steps = steps // config.save_every_steps if config.save_every_steps else 0
    return of_epochs + min(of_steps, config.save_last_n or of_steps)


def bytes_wanted(config: TrainConfig, steps: int, file_bytes: int, parameters: int) -> int:
    """The most that a run takes: its files, one more before the oldest goes, and the next state beside the last.

    A state holds the factors, two moments and an average of them, in float32; optimisers with less are over-estimated.
    """
    state = parameters * 4 * (4 if config.ema else 3)
    return (files_left(config, steps) + 1) * file_bytes + 2 * state


def too_little(out: Path, wanted: int) -> Iterator[str]:
    """A sentence if the disk of the folder ``out``, which need not exist yet, has less than ``wanted`` bytes left."""
    place = next((folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir()), None)
    free = shutil.disk_usage(place).free if place is not None else wanted
    if free < wanted:
        yield (
            f"{out} has {free / _MIB:.0f} MiB left, and the run takes up to {wanted / _MIB:.0f} MiB; free some space, "
            "or set save_last_n"
        )
