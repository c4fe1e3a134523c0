"""``loratools train`` as a person calls it, up to where training starts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from loratools.cli.training.train import _GROUPS, command
from loratools.errors import TrainingError
from loratools.train import trainer
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.optim.lr_schedule import warmup_steps


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pics"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (128, 128), (number * 90, 20, 60)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("a, b")
    return folder


def test_a_dry_run_says_what_will_happen(pictures: Path) -> None:
    args = ["--base", "pocket", "--images", str(pictures), "--set", "repeats=3", "--set", "epochs=5", "--dry-run",
            "--device", "cpu", "--preset", "style-004"]  # fmt: skip
    result = CliRunner().invoke(command, args)
    assert result.exit_code == 0, result.output
    for part in (
        "images x repeats: 2 images, 6 samples",
        "6 samples x 5 epochs",
        "buckets: 128x128 (6)",
        "memory: about",
        "time: about",
        "warning: 6 samples an epoch are few",
        "a (2), b (2)",
    ):
        assert part in result.output


def test_two_files_that_belong_together_are_one_run(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures.parent)
    Path("t.toml").write_text('pretrained_model_name_or_path = "pocket"\nnetwork_dim = 8\nmax_train_epochs = 2\n')
    Path("d.toml").write_text('[[datasets]]\nresolution = 128\n[[datasets.subsets]]\nimage_dir = "pics"\n')
    for words in (["t.toml", "d.toml"], ["d.toml", "t.toml"], ["t.toml", "--set", "dataset_config=d.toml"]):
        result = CliRunner().invoke(command, [*words, "--dry-run", "--device", "cpu"])
        assert result.exit_code == 0, result.output
        assert "2 samples x 2 epochs" in result.output and result.output.count("\nsteps: ") == 1
    result = CliRunner().invoke(command, ["d.toml", "--base", "pocket", "--dry-run", "--device", "cpu"])
    assert "2 samples x 10 epochs" in result.output


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=3", "did you mean 'epochs'"),
        ("epochs", "write KEY=VALUE"),
        ("epochs=a", "epochs: it must be a whole number"),
    ],
)
def test_set_names_mistakes(pictures: Path, setting: str, message: str) -> None:
    result = CliRunner().invoke(command, ["--base", "b", "--images", str(pictures), "--set", setting, "--dry-run"])
    assert result.exit_code != 0
    assert re.search(message, f"{result.output}{result.exception}")


def test_the_help_has_every_option_under_a_heading() -> None:
    text = CliRunner().invoke(command, ["--help"]).output
    positions = [text.index(f"{heading}:") for heading in (*_GROUPS, "Other")]
    assert positions == sorted(positions)
    assert all(name in text for names in _GROUPS.values() for name in names) and "--resume" in text
    for key in TrainConfig.model_fields:  # an option, or named at the end
        assert key in text or key.replace("_", "-") in text, key


def test_a_queue_whose_runs_would_replace_each_other_does_not_begin(pictures: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"base: pocket\nimages: {pictures}\nout: {tmp_path}/runs\n")
    result = CliRunner().invoke(command, [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")])
    assert result.exit_code == 2 and "are both called 'pics'" in result.output and "one would" in result.output
    assert not (tmp_path / "runs").exists()


def test_a_run_that_does_not_fit_lets_the_queue_go_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says what to lower; torch's own error is no LoratoolsError."""
    tried: list[str] = []

    def full(run: trainer.Trainer, *_: object) -> None:
        tried.append(run._parts.config.name)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.Trainer, "run", full)
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"base: pocket\nimages: {pictures}\nout: {tmp_path}\nname: {name}\n")
    result = CliRunner().invoke(command, [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml"), "--device", "cpu"])
    assert tried == ["one", "two"] and isinstance(result.exception, TrainingError)
    assert "error: one: one does not fit the memory of cpu; lower batch_size" in result.output


@pytest.mark.parametrize(
    ("given", "warm", "stop"), [("100%", 8, 8), ("50%", 4, 4), ("0.25", 2, 2), ("1", 1, 1), ("3", 3, 3)]
)
def test_steps_and_shares(given: str, warm: int, stop: int) -> None:
    config = make_config({"base": "x", "images": "y", "lr_warmup": given, "stop_text_encoder_training": given}, "test")
    assert warmup_steps(float(config.lr_warmup), 8) == warm and config.text_stops_at(8) == stop
