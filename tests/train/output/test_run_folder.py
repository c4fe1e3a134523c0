"""Which files of a run stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from loratools.adapter.files.metadata import KEY, Provenance
from loratools.train.config.config import TrainConfig
from loratools.train.output.diffusers_folder import MARK
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


def test_a_new_run_of_the_name_clears_its_own_end_and_no_one_elses(tmp_path: Path) -> None:
    folder, half = RunFolder(tmp_path, "style"), tmp_path / ".style-last.abc.part" / "new"
    half.mkdir(parents=True)
    file, made = folder.end(folder=False), folder.end(folder=True)
    save_file({"a": torch.zeros(1)}, file, metadata={KEY: Provenance({}, "merge:x").to_json()})
    made.mkdir()
    (made / MARK).write_text(json.dumps({"owner": "train:other"}))
    folder.sweep()
    folder.clear()
    assert file.exists() and made.exists() and not half.exists()
    save_file({"a": torch.zeros(1)}, file, metadata={KEY: Provenance({}, folder.owner).to_json()})
    (made / MARK).write_text(json.dumps({"owner": folder.owner}))
    folder.clear()
    assert not file.exists() and not made.exists()
