from __future__ import annotations

from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import Subset
from loratools.train.config.read import read_config
from loratools.train.sd_scripts.dataset_toml import DATASET_KEYS, OFF, SUBSET_KEYS, VALID
from loratools.train.sd_scripts.options import ACCEPTED, COMBINED, DEFAULTS, OPTIONS, RESTRICTED

OPTIONS_FILE = """
[model]
pretrained_model_name_or_path = "b.safetensors"
[data]
train_data_dir = "imgs"
resolution = "512,768"
enable_bucket = true
cache_latents_to_disk = true
shuffle_caption = true
[train]
output_name = "n"
max_train_epochs = 3
max_train_steps = 9
network_dim = 16
unet_lr = 1e-4
text_encoder_lr = [5e-5]
optimizer_type = "AdamW"
optimizer_args = ["weight_decay=0.1", "betas=(0.9, 0.99)"]
save_precision = "float"
network_module = "networks.lora"
xformers = true
full_bf16 = false
"""


def _read(tmp_path: Path, text: str, **overrides: object) -> TrainConfig:
    return _noted(tmp_path, text, **overrides)[0]


def _noted(tmp_path: Path, text: str, **overrides: object) -> tuple[TrainConfig, tuple[str, ...]]:
    path = tmp_path / "o.toml"
    path.write_text(text)
    return read_config(path, overrides)


def test_an_option_file_is_read_with_sd_scripts_defaults(tmp_path: Path) -> None:
    config = _read(tmp_path, OPTIONS_FILE)
    assert (config.base, config.name, config.epochs, config.dim, config.alpha) == ("b.safetensors", "n", 3, 16, 1)
    assert (config.resolution, config.buckets, config.cache_latents, config.dtype) == ((512, 768), True, "disk", "fp32")
    assert config.learned_rates() == (1e-4, 5e-5) and config.lr_scheduler == "constant"
    assert config.optimizer_args == {"weight_decay": 0.1, "betas": (0.9, 0.99)} and config.shuffle_tags
    assert _read(tmp_path, OPTIONS_FILE, preset="style-004").alpha == 32  # a preset fills what the file leaves out
    assert _read(tmp_path, OPTIONS_FILE, dim=8).dim == 8


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("network_dim", "network_dims", "'network_dims' is not supported.*'network_dim'"),
        (
            "full_bf16 = false",
            "full_bf16 = true",
            "'full_bf16 = True' is not supported: leave it out; the base is kept",
        ),
        ("networks.lora", "networks.dylora", "network_module = networks.dylora.*lycoris.kohya"),
        ("xformers = true", 'log_with = "wandb"', "'log_with = wandb' is not supported: leave it out"),
        ("xformers = true", 'resume = "state"', "`loratools train --resume` finds"),
        ("xformers = true", 'lr_warmup_steps = "abc"', r"o\.toml: lr_warmup \(lr_warmup_steps\): abc: give steps"),
        ("[5e-5]", "[5e-5, 1e-5]", "text_encoder_lr has 2 values; here both .* one, such as text_encoder_lr = 5e-05"),
        ("[train]", '[train]\nresolution = "64,64"', "'resolution' is given in two sections, as 512,768 and 64,64"),
        (
            "full_bf16 = false",
            "full_bf16 = true\nfoo = 1\nresume = 'x'",
            "'full_bf16.*option 'foo' is.*'resume = x' is",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _read(tmp_path, OPTIONS_FILE.replace(before, after))


# as kohya_ss' GUI writes one
GUI_FILE = """
bucket_reso_steps = 64
cache_latents = true
caption_extension = ".txt"
clip_skip = 1
dynamo_backend = "no"
enable_bucket = true
epoch = 10
gradient_accumulation_steps = 1
huber_c = 0.1
huber_scale = 1
huber_schedule = "snr"
learning_rate = 0.0001
logging_dir = "log"
loss_type = "l2"
lr_scheduler = "cosine"
lr_scheduler_args = []
lr_scheduler_num_cycles = 1
lr_scheduler_power = 1
lr_warmup_steps = 160
max_bucket_reso = 2048
max_data_loader_n_workers = 0
max_grad_norm = 1
max_token_length = 75
max_train_steps = 1600
min_bucket_reso = 256
mixed_precision = "bf16"
network_alpha = 1
network_args = []
network_dim = 8
network_module = "networks.lora"
noise_offset_random_strength = true
noise_offset_type = "Original"
optimizer_args = []
optimizer_type = "AdamW8bit"
output_dir = "out"
output_name = "ink"
pretrained_model_name_or_path = "b.safetensors"
prior_loss_weight = 1
resolution = "512,512"
sample_prompts = "out/prompt.txt"
sample_sampler = "euler_a"
save_every_n_epochs = 2
save_model_as = "safetensors"
save_precision = "bf16"
text_encoder_lr = [5e-5, 5e-5]
train_batch_size = 1
train_data_dir = "imgs"
unet_lr = 0.0001
wandb_run_name = "ink"
xformers = true
"""
NO_BOARD = "logging_dir needs a package that is not installed"


@pytest.mark.parametrize("installed", [False, True])
def test_a_file_of_kohyas_gui_is_read_with_a_note(
    tmp_path: Path, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    config, (gui, *others) = _noted(tmp_path, GUI_FILE)
    assert (config.max_steps, config.save_every_epochs, config.name, config.noise_offset) == (1600, 2, "ink", 0)
    assert config.learned_rates() == (1e-4, 5e-5) and not config.noise_offset_random_strength
    assert "epoch, noise_offset_type of a GUI's own have no effect, as in sd-scripts" in gui
    assert config.tensorboard == (Path("log") if installed else False)
    assert [NO_BOARD in note for note in others] == ([] if installed else [True])


def test_a_file_of_akegarasus_gui_is_read(tmp_path: Path) -> None:
    text = OPTIONS_FILE.replace(
        "[train]",
        '[train]\nresolution = "512,768"\nlr_restart_cycles = 3\n'
        'lr_scheduler = "cosine_with_restarts"\nsave_last_n_epochs = 499',
    )
    config, notes = _noted(tmp_path, text.replace("[5e-5]", "[]"))
    assert (config.lr_cycles, config.resolution, config.te_lr, notes) == (3, (512, 768), None, ())


@pytest.mark.parametrize(("steps", "settings"), [(0, (None, None)), (100, (100, None)), (-1, (None, 0))])
def test_the_end_of_the_text_encoders_training(
    tmp_path: Path, steps: int, settings: tuple[int | None, int | None]
) -> None:
    text = OPTIONS_FILE.replace("[5e-5]", "[]") + f"stop_text_encoder_training = {steps}\n"
    config, notes = _noted(tmp_path, text)
    assert (config.stop_text_encoder_training, config.te_lr) == settings
    assert len(notes) == (steps != 0)


def test_buckets_without_bounds_are_from_256_to_1024(tmp_path: Path) -> None:
    for more in ({}, {"preset": "style-004"}):
        config = _read(tmp_path, OPTIONS_FILE, **more)
        assert (config.buckets, config.bucket_min, config.bucket_max) == (True, 256, 1024)
    config = _read(tmp_path, OPTIONS_FILE + "min_bucket_reso = 320\n")
    assert (config.bucket_min, config.bucket_max) == (320, 1024)
    text = '[[datasets]]\nenable_bucket = true\n[[datasets.subsets]]\nimage_dir = "a"\n'
    config = _read(tmp_path, text, base="b")
    assert (config.data_sets()[0].bucket_min, config.data_sets()[0].bucket_max) == (256, 1024)


def test_a_dataset_config_is_found_beside_the_options(tmp_path: Path) -> None:
    text = '[[datasets]]\nresolution = 640\n[[datasets.subsets]]\nimage_dir = "a"\nkeep_tokens_separator = "|||"\n'
    (tmp_path / "d.toml").write_text(text + "token_warmup_step = 0.5\nenable_wildcard = true\n")
    config = _read(tmp_path, OPTIONS_FILE.replace('train_data_dir = "imgs"', 'dataset_config = "d.toml"'))
    folder = config.images[0]
    assert config.resolution == (640, 640) and str(folder.folder) == "a"
    assert (folder.keep_tokens_separator, folder.token_warmup, folder.wildcards) == ("|||", 0.5, True)


def test_every_translation_names_a_setting() -> None:
    assert set(OPTIONS.values()) | set(DATASET_KEYS.values()) <= set(TrainConfig.model_fields)
    assert set(SUBSET_KEYS.values()) <= set(Subset.model_fields)
    assert all(remedy for _, remedy in OFF.values())


def test_the_tables_in_the_manual_are_these() -> None:
    manual_text = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    options = [(name, f"`{ours}`") for name, ours in list(OPTIONS.items())[:20]]  # the first are the most used
    refused = [(name, remedy) for name, (_, remedy) in OFF.items()]
    for heading, rows in (("| sd-scripts | loratools |", options), ("| key | instead |", refused)):
        assert "\n".join([heading, "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows)]) in manual_text


# every option of their trainers of LoRAs for SD1, SD2 and SDXL, and every key of their dataset config by level
THEIR_OPTIONS = (Path(__file__).parent / "sd_scripts_options.txt").read_text().split()
THEIR_KEYS = {
    "dataset": (
        "batch_size bucket_no_upscale bucket_reso_steps enable_bucket max_bucket_reso min_bucket_reso "
        "validation_seed validation_split resolution network_multiplier resize_interpolation"
    ),
    "subset": (
        "color_aug face_crop_aug_range flip_aug num_repeats random_crop shuffle_caption keep_tokens "
        "keep_tokens_separator secondary_separator caption_separator enable_wildcard token_warmup_min "
        "token_warmup_step caption_prefix caption_suffix custom_attributes resize_interpolation "
        "caption_dropout_every_n_epochs caption_dropout_rate caption_tag_dropout_rate caption_extension "
        "class_tokens cache_info"
    ),
    "only subset": "is_reg alpha_mask metadata_file conditioning_data_dir",
}


def test_every_option_of_theirs_is_in_one_table() -> None:
    tables = [set(OPTIONS), COMBINED, ACCEPTED, set(RESTRICTED)]
    counts = {name: sum(name in table for table in tables) for name in THEIR_OPTIONS}
    assert len(counts) == 196 and {name for name, count in counts.items() if count != 1} == set()
    assert set().union(*tables) - set(THEIR_OPTIONS) == set()


@pytest.mark.parametrize("name", RESTRICTED)
def test_a_refused_option_says_what_to_use_instead_and_may_be_switched_off(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=f"'{name} = wanted' is not supported: .*") as caught:
        _read(tmp_path, f'{name} = "wanted"\n' + _without(name))
    assert len(str(caught.value).partition("supported: ")[2]) > 10
    for off in ("false", '""', *(f'"{value}"' for value in RESTRICTED[name][0] if isinstance(value, str))):
        assert _read(tmp_path, f"{name} = {off}\n" + _without(name)).epochs == 3


def _without(name: str) -> str:
    return "\n".join(line for line in OPTIONS_FILE.splitlines() if line.partition(" ")[0] != name and line[:1] != "[")


VALUES = {
    "resolution": "64",
    "face_crop_aug_range": "[1.0, 2.0]",
    "custom_attributes": "{a = 1}",
    "token_warmup_step": "0.5",
    "validation_split": "0.1",
    "caption_dropout_rate": "0.1",
    "network_multiplier": "0.5",
    "caption_tag_dropout_rate": "0.1",
    "resize_interpolation": '"lanczos"',
}
_TEXT = ("separator", "prefix", "suffix", "extension", "tokens", "file", "dir")


@pytest.mark.parametrize("level", THEIR_KEYS)
def test_every_key_of_a_dataset_config_is_read_or_refused_by_name(tmp_path: Path, level: str) -> None:
    assert {key for keys in THEIR_KEYS.values() for key in keys.split()} | {"image_dir"} == VALID
    for key in THEIR_KEYS[level].split():
        number = key.startswith(("batch", "keep_tokens", "num", "token_w", "bucket_reso", "m", "caption_dropout_every"))
        text = key.endswith(_TEXT) and key != "keep_tokens"
        value = VALUES.get(key) or ('"x"' if text else "64" if number or "seed" in key else "true")
        places = {"dataset": ("general", "dataset"), "subset": ("general", "dataset", "subset")}.get(level, ("subset",))
        for place in places:
            if key in OFF:
                with pytest.raises(RecipeError, match=f"'{key}' in .* is not supported: .*"):
                    _dataset(tmp_path, place, f"{key} = {value}")
            else:
                config = _dataset(tmp_path, place, f"{key} = {value}")
                ours = DATASET_KEYS.get(key) or SUBSET_KEYS.get(key) or key
                setting = getattr(config.subsets()[0], ours, None) if key in SUBSET_KEYS else getattr(config, ours)
                assert setting not in (None, False), (key, place)


def _dataset(tmp_path: Path, place: str, line: str) -> TrainConfig:
    lines = {name: line if name == place else "" for name in ("general", "dataset", "subset")}
    crop = "" if line.startswith(("random_crop", "color_aug")) else "\n"
    text = f"""[general]\n{lines["general"]}\n[[datasets]]\n{lines["dataset"]}
[[datasets.subsets]]\nimage_dir = "a"\n{lines["subset"]}\n"""
    path = tmp_path / "d.toml"
    path.write_text(text)
    return read_config(path, {"base": "b", **({} if crop else {"cache_latents": False})})[0]


def test_options_that_are_translated_together(tmp_path: Path) -> None:
    def read(text: str) -> TrainConfig:
        return _read(tmp_path, text + "\n" + _without("-"))

    own, prior = read('reg_data_dir = "reg"\nconditioning_data_dir = "masks"').images
    assert (str(own.folder), str(own.mask_folder), str(prior.folder)) == ("imgs", "masks", "reg")
    assert prior.regularisation and not own.regularisation
    assert read("use_lion_optimizer = true").optimizer == "Lion"
    assert read('metadata_title = "Ink"\nmetadata_tags = "style"').modelspec == {"title": "Ink", "tags": "style"}
    config = read("max_token_length = 150\nscale_weight_norms = 0\nmax_timestep = 0\ntraining_comment = ''")
    steps = OPTIONS_FILE.replace("max_train_epochs = 3", "")
    assert _read(tmp_path, steps).max_steps == 9 and _read(tmp_path, steps, epochs=4).max_steps is None
    assert _read(tmp_path, steps.replace("max_train_steps = 9", "")).max_steps == 1600
    assert _read(tmp_path, OPTIONS_FILE).max_steps is None  # as there, epochs come before steps
    assert (config.max_token_length, config.scale_weight_norms, config.max_timestep) == (150, None, None)
    assert set(DEFAULTS) <= set(TrainConfig.model_fields)
