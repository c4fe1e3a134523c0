"""Pictures of the class that the base draws itself before the first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.errors import DatasetError, TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import Prior
from loratools.train.data.read import read_dataset
from loratools.train.distributed import Ranks
from loratools.train.drawing.prior import common_beginning, prior_folder, prior_pictures, with_prior
from loratools.train.trainer import train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


def test_captions_without_the_trigger_are_drawn_once_and_shown_as_often(config: Config, pictures: Pictures) -> None:
    images = pictures(count=3)
    for number, path in enumerate(sorted(images.glob("*.txt"))):
        path.write_text(f"sks, red, smile{number}")
    settings = config(images, epochs=1, prior={"count": 4, "steps": 1}, prior_loss_weight=0.5)
    result = train(settings, progress=False)
    folder = prior_folder(settings)
    texts = {path.name: path.read_text().strip() for path in sorted(folder.glob("*.txt"))}
    assert list(texts.values()) == ["smile0", "smile1", "smile2", "smile0"]  # sks, red is what all begin with
    assert result.dry_run is not None and result.dry_run.samples_per_epoch == 6
    assert [share.regularisation for share in result.dry_run.folders] == [False, True]
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    (folder / "prior_0001.txt").unlink()  # as a kill in the middle of its picture leaves it
    again = with_prior(settings, Ranks(), "cpu")
    assert again.images[-1].regularisation and again.images[-1].folder == folder
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["prior_0001.png"]


def test_prompts_and_trigger(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=2))
    dataset = read_dataset(settings, (64, 64))

    def prompts(**given: object) -> list[str]:
        return [each.prompt for each in prior_pictures(settings, Prior.model_validate({"count": 2, **given}), dataset)]

    assert prompts(prompts="a girl") == ["a girl", "a girl"]
    assert prompts() == ["tag0", "tag1"]
    assert prompts(trigger="smile") == ["1girl, red hair, blue eyes, tag0", "1girl, red hair, blue eyes, tag1"]
    assert prompts(trigger="") == ["1girl, red hair, smile, blue eyes, tag0", "1girl, red hair, smile, blue eyes, tag1"]
    seeds = [each.seed for each in prior_pictures(settings, Prior(count=3), dataset)]
    assert len(set(seeds)) == 3
    with pytest.raises(TrainingError, match=r"nothing is left of the captions without the trigger .*prior.prompts"):
        prompts(trigger="1girl, red hair, smile, blue eyes, tag0, tag1")
    assert common_beginning([["a", "b"]]) == [] and common_beginning([["a", "b"], ["a", "c"]]) == ["a"]


def test_an_empty_folder_of_class_pictures_is_named(config: Config, pictures: Pictures, tmp_path: Path) -> None:
    empty = tmp_path / "class"
    empty.mkdir()
    settings = config([str(pictures(count=2)), {"folder": str(empty), "regularisation": True}], epochs=1)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"class"):
        train(settings, progress=False)
