from __future__ import annotations

from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.train.config import TrainConfig
from loratools.train.config_data import Subset
from loratools.train.dataset_toml import DATASET_KEYS, OFF, SUBSET_KEYS
from loratools.train.read_config import read_config
from loratools.train.sd_scripts import MOST_USED, OPTIONS, table

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
        ("full_bf16 = false", "full_bf16 = true", "'full_bf16' is not supported; remove it"),
        ("networks.lora", "networks.dylora", "network_module = networks.dylora.*plain LoRA"),
        ("max_train_epochs = 3", "", "max_train_steps = 9; set max_train_epochs"),
        ("xformers = true", 'vae = "v.pt"', "'vae = v.pt' is not supported: use a base"),
        ("xformers = true", 'resume = "state"', "pass --resume"),
        ("[5e-5]", "[5e-5, 1e-5]", "text_encoder_lr has 2 values"),
        ("[train]", '[train]\nresolution = "64,64"', "'resolution' is given in two sections"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _read(tmp_path, OPTIONS_FILE.replace(before, after))


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
    assert all(remedy for _, remedy in OFF.values()) and len(set(MOST_USED)) == 20


def test_the_table_in_the_manual_is_this_one() -> None:
    manual = Path(__file__).parents[2] / "docs" / "training.md"
    assert table() in manual.read_text(encoding="utf-8")
