"""Files of trainers of whole models: Akegarasu's sd-dreambooth TOML, kohya_ss' DreamBooth JSON, sd-scripts' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratools.errors import RecipeError
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import read_config

AKIBA = """
model_train_type = "sd-dreambooth"
pretrained_model_name_or_path = "./sd-models/model.ckpt"
train_data_dir = "./train/aki"
reg_data_dir = ""
prior_loss_weight = 1
resolution = "512,512"
enable_bucket = true
min_bucket_reso = 256
max_bucket_reso = 1280
bucket_reso_steps = 64
output_name = "aki"
output_dir = "./output"
save_model_as = "safetensors"
save_precision = "float"
save_every_n_epochs = 40
max_train_epochs = 200
train_batch_size = 1
stop_text_encoder_training = 24640
no_token_padding = true
learning_rate = 1e-6
learning_rate_te = 5e-7
lr_scheduler = "constant"
optimizer_type = "AdamW8bit"
mixed_precision = "fp16"
keep_tokens = 3
shuffle_caption = true
caption_extension = ".txt"
clip_skip = 2
xformers = true
cache_latents = true
seed = 1337
"""


def read(tmp_path: Path, text: str, name: str = "o.toml", **over: Any) -> tuple[TrainConfig, tuple[str, ...]]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_config(tmp_path / name, over)


def test_akibas_dreambooth_is_a_full_training_noted_key_by_key(tmp_path: Path) -> None:
    config, notes = read(tmp_path, AKIBA)
    assert config.is_full and config.learned_rates() == (1e-6, 5e-7) and config.lr_scheduler == "constant"
    assert (config.epochs, config.save_every_epochs, config.dtype, config.bucket_max) == (200, 40, "fp32", 1280)
    assert config.stop_text_encoder_training == 24640 and config.optimizer == "AdamW8bit" and config.keep_tokens == 3
    assert (config.seed, config.clip_skip, config.save) == (1337, 2, "checkpoint")
    shown = "\n".join(notes)
    assert "no_token_padding has no effect, as in sd-scripts" in shown
    assert "stop_text_encoder_training = 24640: the run goes on to its end" in shown
    assert "model_train_type" not in shown and "trains a LoRA's text encoder to the end" not in shown
    assert read(tmp_path, AKIBA.replace("24640", "-1"))[0].learned_rates() == (1e-6, 0)


def test_kohyas_dreambooth_tab_has_a_percentage_which_is_a_share_here(tmp_path: Path) -> None:
    """kohya_ss#2695: the tab hands 10 per cent on as step 10."""
    fields = {
        "pretrained_model_name_or_path": "m.safetensors",
        "train_data_dir": "img",
        "reg_data_dir": "reg",
        "prior_loss_weight": 0.7,
        "output_name": "db",
        "output_dir": "out",
        "max_resolution": "512,512",
        "epoch": 3,
        "train_batch_size": 2,
        "learning_rate": 1e-6,
        "learning_rate_te": 5e-7,
        "learning_rate_te1": 1e-5,
        "lr_scheduler": "constant",
        "lr_warmup": 0,
        "optimizer": "AdamW",
        "mixed_precision": "bf16",
        "save_precision": "fp16",
        "stop_text_encoder_training": 40,
        "full_bf16": True,
        "no_token_padding": False,
        "save_every_n_epochs": 1,
        "model_list": "custom",
        "additional_parameters": "",
        "sdxl": False,
        "num_cpu_threads_per_process": 2,
        "save_model_as": "diffusers",
        "caption_extension": ".txt",
    }
    del fields["learning_rate_te1"]
    config, notes = read(tmp_path, json.dumps(fields), "db.json")
    assert config.is_full and config.stop_text_encoder_training == 0.4 and config.epochs == 3
    assert config.weights == "bf16" and config.save_end == "diffusers" and config.prior_loss_weight == 0.7
    assert [subset.regularisation for subset in config.images] == [False, True]
    assert any("full_bf16: the weights are bf16 here and rounded at random" in note for note in notes)
    xl, _ = read(
        tmp_path, json.dumps({**fields, "sdxl": True, "learning_rate_te1": 0, "learning_rate_te2": 1e-7}), "x.json"
    )
    assert xl.component_rates() == {"unet": 1e-6, "text_encoder": 0, "text_encoder_2": 1e-7}


def test_sdxl_train_py_without_its_text_encoders(tmp_path: Path) -> None:
    numbers = ",".join(["1e-6"] * 22 + ["0"])
    text = (
        'pretrained_model_name_or_path = "b"\ntrain_data_dir = "i"\nlearning_rate = 2e-6\nfused_backward_pass = true\n'
        f'optimizer_type = "Adafactor"\nblock_lr = "{numbers}"\nmax_grad_norm = 0.0\nmixed_precision = "bf16"\n'
        'optimizer_args = ["scale_parameter=False", "relative_step=False", "warmup_init=False"]\n'
    )
    config, _ = read(tmp_path, text)
    assert config.is_full and config.learned_rates() == (2e-6, 0) and config.fused_backward_pass == "on"
    assert config.block_lr is not None and config.block_lr.split(",")[0::22] == ["0.5", "0"]


@pytest.mark.parametrize("key", ["full_fp16 = true", "fp8_base = true"])
def test_what_no_full_training_has_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(Exception, match=key.partition(" ")[0]):
        read(tmp_path, AKIBA + key + "\n")


def test_rates_are_those_that_the_files_own_trainer_would_use(tmp_path: Path) -> None:
    """train_db.py's text encoder has the UNet's rate where none is given; sdxl_train.py's have none by themselves."""
    plain = AKIBA.replace("learning_rate = 1e-6", "learning_rate = 3e-6")
    assert read(tmp_path, plain)[0].learned_rates() == (3e-6, 5e-7)
    assert read(tmp_path, plain.replace("learning_rate_te = 5e-7", ""))[0].learned_rates() == (3e-6, 3e-6)
    none = plain.replace("learning_rate_te = 5e-7", "").replace("learning_rate = 3e-6", "")
    assert read(tmp_path, none)[0].learned_rates() == (2e-6, 2e-6)
    xl = plain.replace("sd-dreambooth", "sdxl-finetune").replace("learning_rate_te = 5e-7", "learning_rate_te1 = 5e-7")
    config, notes = read(tmp_path, xl)
    assert config.learned_rates() == (3e-6, 0)
    assert any("have no effect without train_text_encoder, as in sd-scripts" in note for note in notes)
    both = read(tmp_path, f"{xl}\ntrain_text_encoder = true\n")[0]
    assert both.component_rates() == {"unet": 3e-6, "text_encoder": 5e-7, "text_encoder_2": 3e-6}
    of_sd1 = plain + "learning_rate_te1 = 1e-5\nlearning_rate_te2 = 1e-5\n"  # a GUI's fields for the other family
    assert read(tmp_path, of_sd1)[0].learned_rates() == (3e-6, 5e-7)


def test_fine_tune_py_trains_its_text_encoder_only_where_it_is_asked_to(tmp_path: Path) -> None:
    """kohya_ss' tab of fine-tuning, and sd-scripts' fine_tune.py of SD1, have the switch that train_db.py lacks."""
    own = 'pretrained_model_name_or_path = "b"\ntrain_data_dir = "i"\nlearning_rate = 1e-6\n'
    plain = f"{own}learning_rate_te = 5e-7\n"
    assert read(tmp_path, plain)[0].learned_rates() == (1e-6, 5e-7)
    assert read(tmp_path, f"{plain}train_text_encoder = true\n")[0].learned_rates() == (1e-6, 5e-7)
    off, notes = read(tmp_path, f"{plain}train_text_encoder = false\n")
    assert off.learned_rates() == (1e-6, 0)
    assert any("learning_rate_te has no effect without train_text_encoder" in note for note in notes)
    assert read(tmp_path, f'{plain}in_json = "m.json"\n')[0].learned_rates() == (1e-6, 0)
    tab = {
        "pretrained_model_name_or_path": "b",
        "train_data_dir": "i",
        "learning_rate": 1e-6,
        "max_resolution": "512,512",
        "model_list": "custom",
        "num_cpu_threads_per_process": 2,
        "train_text_encoder": False,
        "sdxl_checkbox": False,
    }
    assert read(tmp_path, json.dumps(tab), "t.json")[0].learned_rates() == (1e-6, 0)
    on = json.dumps({**tab, "train_text_encoder": True, "learning_rate_te": 2e-7})
    assert read(tmp_path, on, "t.json")[0].learned_rates() == (1e-6, 2e-7)


def test_what_is_not_kept_of_a_file_is_noted_and_what_is_no_number_is_named(tmp_path: Path) -> None:
    _, notes = read(tmp_path, AKIBA.replace('save_model_as = "safetensors"', 'save_model_as = "ckpt"'))
    assert any("save_model_as = ckpt: files are .safetensors here" in note for note in notes)
    for line, said in (
        ('learning_rate_te = "abc"', "learning_rate_te = abc is no number"),
        ('block_lr = "1,x"', "block_lr = x is no number"),
        ('stop_text_encoder_training = "abc"', "stop_text_encoder_training = abc is no number"),
        ('max_token_length = "abc"', "'max_token_length = abc' cannot be read"),
        ("dataset_config = [1]", "is no file's name"),
        ("optimizer_args = 3", "'optimizer_args = 3' cannot be read"),
    ):
        key = line.partition(" ")[0]
        kept = [own for own in AKIBA.splitlines() if own.partition(" ")[0] != key]
        with pytest.raises(RecipeError, match=said):
            read(tmp_path, "\n".join([*kept, line]))
