"""Pictures of the class that the base draws itself before the first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.errors import DatasetError, HeldError, TrainingError
from loratools.files import locked
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import Prior
from loratools.train.data.read import read_dataset
from loratools.train.distributed import Ranks
from loratools.train.drawing.generate import drawn_by, load_drawer
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
    drawn = {path: path.stat().st_mtime_ns for path in folder.glob("*")}
    other = settings.model_copy(update={"seed": 2, "resume": True})
    with pytest.raises(TrainingError, match=r"cannot resume: .*t-prior was drawn by another base, seed, caption"):
        train(other, progress=False)
    with locked(folder), pytest.raises(HeldError):
        with_prior(settings, Ranks(), "cpu")
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*")} == drawn


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"optimizer": "Adma"}, "no optimizer 'Adma'"), ({"clip_skip": 9}, r"above the .* layers")],
)
def test_what_ends_the_run_is_said_before_anything_is_drawn(
    settings: dict[str, object], message: str, config: Config, pictures: Pictures
) -> None:
    asked = config(pictures(count=2), prior={"count": 2, "steps": 1}, **settings)
    with pytest.raises(TrainingError, match=message):
        train(asked, progress=False)
    assert not prior_folder(asked).exists()


def test_class_pictures_are_drawn_as_the_run_sees_its_base(
    config: Config, pictures: Pictures, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own VAE, predicting what it says, and without asking the hub where it may not."""
    images = pictures(count=2)
    plain, own = config(images), config(images, prediction="v_prediction", vae=str(tiny), offline=True)
    base = load_drawer(own, "cpu")
    assert base.prediction == "v_prediction" and base.vae_digest and drawn_by(own)[:1] == drawn_by(plain)
    asked = []
    monkeypatch.setattr("loratools.base.base_path._download", lambda name, offline: asked.append(offline) or tiny)
    drawn_by(config(images, base="no/model", offline=True))
    assert asked == [True]


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
