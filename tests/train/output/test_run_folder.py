"""Which files of a run stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.train.config.config import TrainConfig
from loratools.train.output.run_folder import RunFolder, staying

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


@pytest.mark.parametrize(
    ("every", "keep", "left"),
    [
        (None, None, (1, 2, 3, 4, 5)),
        (2, None, (2, 4, 5)),
        (None, 2, (4, 5)),
        (2, 2, (4, 5)),
        (5, 9, (5,)),
        (9, 1, (5,)),
    ],
)
def test_which_epochs_stay_is_known_before_the_first(
    tmp_path: Path, every: int | None, keep: int | None, left: tuple[int, ...]
) -> None:
    folder = RunFolder(tmp_path, "style")
    for number in range(1, 6):
        folder.epoch(number).touch()
        folder.prune(every, keep)
    assert [int(path.stem[-1]) for path in folder.epochs()] == list(left) == list(staying(range(1, 6), every, keep))
