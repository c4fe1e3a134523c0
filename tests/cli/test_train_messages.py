"""What `loratools train` answers to a wrong word: each with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from loratools.cli.app import LazyGroup
from loratools.cli.training.train import command
from loratools.train.config.config import TrainConfig
from loratools.train.sd_scripts.flags import our_spelling
from loratools.train.sd_scripts.options import ACCEPTED, COMBINED, OPTIONS, RESTRICTED

SETTINGS = {name: field.annotation is bool for name, field in TrainConfig.model_fields.items()}
FLAGS = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """``loratools train`` with these words, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(LazyGroup("loratools"), ["train", *words])


def test_a_folder_a_base_or_a_picture_is_no_config(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "ink").mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model_index.json").write_text("{}")
    for word, message in {
        "ink": "ink is a folder and no CONFIG; if it holds the pictures, write --images ink",
        "base": "base is no CONFIG; if it is the base model, write --base base",
        "x.safetensors": "if it is the base model, write --base x.safetensors",
        "ink/0.jfif": "is a picture and no CONFIG; write --images and the folder that it lies in",
    }.items():
        result = run(word)
        assert result.exit_code == 2 and message in result.output


def test_all_of_sd_scripts_flags_are_answered_at_once(run: Callable[..., Result]) -> None:
    words = "--pretrained_model_name_or_path x --train_data_dir=y --network_dim 8 --xformers --unet_lr 1 --epoch 2"
    result = run(*words.split(), "--shuffle_caption", "--zzzzzz")
    assert result.exit_code == 2
    assert (
        "no such option: --pretrained_model_name_or_path (write --base), --train_data_dir (write --images), "
        "--network_dim (write --dim), --xformers (leave it out; it is so anyway, or has no meaning here), --unet_lr "
        "(write --unet-lr), --epoch (did you mean '--epochs'?), --shuffle_caption (write --shuffle-tags), --zzzzzz;"
    ) in result.output


@pytest.mark.parametrize("name", sorted({*OPTIONS, *COMBINED, *ACCEPTED, *RESTRICTED}))
def test_every_option_of_sd_scripts_has_an_answer_that_is_there(name: str) -> None:
    spelling = our_spelling(f"--{name}", FLAGS, SETTINGS)
    assert spelling
    if spelling.startswith("write --"):
        assert spelling.split()[1] in FLAGS
        assert "--set" not in spelling or spelling.partition("--set ")[2].partition("=")[0] in SETTINGS


def test_a_base_that_is_nowhere_says_where_it_was_looked_for(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "ink").mkdir()
    (tmp_path / "modl.safetensors").touch()
    Image.new("RGB", (64, 64)).save(tmp_path / "ink/0.png")
    (tmp_path / "configs/a.yaml").write_text("base: model.safetensors\nimages: ink\n")
    options = 'train_data_dir = "ink"\nnetwork_module = "networks.lora"\n'
    (tmp_path / "configs/a.toml").write_text(f'pretrained_model_name_or_path = "model.safetensors"\n{options}')
    looked = f"there is no base model 'model.safetensors' (looked for in {tmp_path}"
    for name in ("a.yaml", "a.toml"):
        result = run(f"configs/{name}")
        assert result.exit_code == 1
        assert f"{looked} and beside configs/{name}) (did you mean 'modl.safetensors'?)" in result.output
    result = run("--images", "ink", "--base", "model.safetensors")
    assert f"{looked}) (did you mean" in result.output
    result = run("--images", "ink", "--base", "/no/such/model.ckpt")
    assert "there is no base model '/no/such/model.ckpt'; give" in result.output
