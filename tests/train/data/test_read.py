from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loratools.train.config.read import make_config
from loratools.train.data.read import read_dataset, samples_per_epoch


@pytest.mark.parametrize(
    "images",
    [
        ["img"],
        ["img/10_ink", "own"],
        [{"folder": "img", "plain_name": True}, "own"],
        [{"folder": "own", "repeats": 3, "validation_split": 0.4}, {"folder": "img/10_ink", "held_out": True}],
        [{"folder": "own", "repeats": 2}, {"folder": "img/2_prior", "regularisation": True}],
    ],
)
def test_the_pictures_of_an_epoch_are_counted_by_names_as_by_reading(
    pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, images: list[Any]
) -> None:
    for folder, count in (("img", 1), ("img/10_ink", 3), ("img/2_prior", 2), ("own", 5)):
        root = pictures(folder, count)
    monkeypatch.chdir(root.parent)
    config = make_config({"base": "b", "images": images, "repeats": 4}, "test")
    assert samples_per_epoch(config) == read_dataset(config, (64, 64)).samples_per_epoch


def test_pictures_that_are_still_to_be_drawn_are_counted(tmp_path: Path) -> None:
    config = make_config({"base": "b", "images": [str(tmp_path / "draw")], "repeats": 2}, "test")
    assert samples_per_epoch(config, {tmp_path / "draw": 6}) == 12
