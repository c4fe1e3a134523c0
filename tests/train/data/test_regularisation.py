from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.errors import DatasetError
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.data.read import read_dataset
from loratools.train.trainer import train

Make = Callable[..., TrainConfig]


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> Make:
    def make(folders: list[dict[str, object]], **settings: object) -> TrainConfig:
        quick = {"epochs": 1, "batch_size": 2, "dim": 4, "device": "cpu", "name": "t", "out": str(tmp_path / "out")}
        return make_config({**quick, "base": str(tiny), "images": folders, **settings}, "test")

    return make


def _folders(pictures: Callable[..., Path], count: int) -> list[dict[str, object]]:
    return [
        {"folder": str(pictures("own", 4)), "repeats": 2},
        {"folder": str(pictures("prior", count)), "regularisation": True},
    ]


def test_they_are_as_many_as_the_others(pictures: Callable[..., Path], config: Make) -> None:
    data = read_dataset(config(_folders(pictures, 3), prior_loss_weight=0.5), (64, 64))
    samples = [sample for batch in data.epoch(1, 1, 2) for sample in batch]
    assert Counter(sample.item for sample in samples) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 3, 5: 3, 6: 2}
    assert data.weights(samples) == [0.5 if sample.item > 3 else 1.0 for sample in samples]
    assert data.samples_per_epoch == 16 and data.batches_per_epoch(2) == 8


def test_a_surplus_is_named(pictures: Callable[..., Path], config: Make) -> None:
    folders = _folders(pictures, 10)
    data = read_dataset(config(folders), (64, 64))
    assert any("2 of 10 regularisation images are not used" in note for note in data.notes)
    with pytest.raises(DatasetError, match="nothing to learn"):
        read_dataset(config(folders[1:]), (64, 64))


def test_the_weight_reaches_the_loss(pictures: Callable[..., Path], config: Make) -> None:
    folders = _folders(pictures, 3)
    losses = [
        train(config(folders, name=f"w{weight}", prior_loss_weight=weight), progress=False).losses[0]
        for weight in (1.0, 0.0)
    ]
    assert 0.2 * losses[0] < losses[1] < 0.8 * losses[0]
