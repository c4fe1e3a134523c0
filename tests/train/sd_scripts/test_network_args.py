from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from loratools.errors import RecipeError
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import read_config
from loratools.train.network.targets import find_targets
from tests.train.network.test_layers import _sd15_on_meta

FILE = """
pretrained_model_name_or_path = "b.safetensors"
train_data_dir = "imgs"
max_train_epochs = 1
network_dim = 8
network_alpha = 4
unet_lr = 1e-4
text_encoder_lr = 5e-5
"""


def _read(tmp_path: Path, more: str) -> TrainConfig:
    return _noted(tmp_path, more)[0]


def _noted(tmp_path: Path, more: str) -> tuple[TrainConfig, tuple[str, ...]]:
    path = tmp_path / "o.toml"
    path.write_text(FILE + more)
    return read_config(path)


def _plan(config: TrainConfig) -> Any:
    from loratools.base.patching.patch import live_modules

    live = live_modules(_sd15_on_meta())
    return find_targets("sd1", live, config.dim, config.alpha, config, ["unet", "text_encoder"], None)


def test_options_of_the_network_keep_their_names(tmp_path: Path) -> None:
    config = _read(
        tmp_path,
        """
        network_args = ["conv_dim=2", "rank_dropout=0.1", "module_dropout=.2", "loraplus_unet_lr_ratio=16"]
        network_dropout = 0.3
        scale_weight_norms = 1.0
        max_token_length = 150
        weighted_captions = true
        base_weights = ["a b.safetensors", "c.safetensors"]
        base_weights_multiplier = [0.5]
        v2 = true
    """,
    )
    assert (config.conv_dim, config.conv_alpha) == (2, 1.0)  # its alpha is 1 where it is left out
    assert (config.network_dropout, config.rank_dropout, config.module_dropout) == (0.3, 0.1, 0.2)
    assert (config.scale_weight_norms, config.max_token_length, config.weighted_captions) == (1.0, 150, True)
    assert config.loraplus_unet_lr_ratio == 16 and config.loraplus_lr_ratio is None
    assert config.base_adapters == ('"a b.safetensors":0.5', "c.safetensors:1.0")
    off = _read(tmp_path, 'scale_weight_norms = 0\nnetwork_weights = ""')
    assert off.scale_weight_norms is None and off.network_weights is None


def test_lists_by_block_reach_the_blocks_that_they_do_there(tmp_path: Path) -> None:
    """25 numbers: 1 + 3i + j on the way down, 12 in the middle, 13 + 3i + j on the way up."""
    dims = ",".join(str(number) for number in range(1, 26))
    plan = _plan(_read(tmp_path, f'network_args = ["block_dims={dims}", "conv_dim=3"]'))
    for i in range(3):
        for j in range(2):
            assert plan[f"unet.down_blocks.{i}.attentions.{j}.proj_in"].rank == 1 + (1 + 3 * i + j)
            assert plan[f"unet.up_blocks.{i + 1}.attentions.{j}.proj_in"].rank == 1 + (13 + 3 * (i + 1) + j)
    assert plan["unet.mid_block.attentions.0.proj_in"].rank == 13
    assert plan["unet.down_blocks.0.downsamplers.0.conv"].rank == 3
    text = plan["text_encoder.text_model.encoder.layers.0.mlp.fc1"]
    assert (text.rank, text.alpha) == (8, 4) and plan["unet.mid_block.attentions.0.proj_in"].alpha == 4


def test_rates_by_block_and_their_curves(tmp_path: Path) -> None:
    zeros = ",".join("0" for _ in range(6)) + ",1,1,1,1,1,.5"
    plan = _plan(_read(tmp_path, f'network_args = ["down_lr_weight={zeros}", "up_lr_weight=sine+.25"]'))
    assert "unet.down_blocks.0.attentions.0.proj_in" not in plan  # IN01 has a rate of 0
    assert plan["unet.down_blocks.2.attentions.0.proj_in"].rate == 1  # IN07
    assert plan["unet.mid_block.attentions.0.proj_in"].rate == 1
    for i, j in ((1, 0), (3, 2)):
        wanted = math.sin(math.pi / 2 * (3 * i + j) / 11) + 0.25
        assert plan[f"unet.up_blocks.{i}.attentions.{j}.proj_in"].rate == pytest.approx(wanted)
    nine = ",".join(["1"] * 9)
    xl = _read(tmp_path, f'network_args = ["down_lr_weight={nine}", "mid_lr_weight=1,.5,1", "up_lr_weight={nine}"]')
    assert (
        xl.block_lr is not None and "M00=0.5" in xl.block_lr and "OUT08=1" in xl.block_lr and "IN09" not in xl.block_lr
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('["conv_dims=3"]', "'conv_dims', which .* 'conv_dim'"),
        ('["conv_dim"]', "no NAME=VALUE"),
        ('["conv_alpha=x"]', "'x' in conv_alpha .* is no number"),
        ('["block_dims=1,2"]', "2 numbers; it takes 25"),
        ('["up_lr_weight=sine"]', "do not tell whether they are for SD1 or SDXL"),
        ('["up_lr_weight=sinus", "block_dims=' + ",".join(["4"] * 25) + '"]', "no curve 'sinus'.*'sine'"),
        ('["conv_dim=1", "block_dims=' + ",".join(map(str, range(23))) + '"]', "the middle block, which is one here"),
    ],
)
def test_arguments_that_cannot_be_read(arguments: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        _read(tmp_path, f"network_args = {arguments}")


@pytest.mark.parametrize("kind", ["lora", "locon", "loha", "lokr"])
def test_lycoris_becomes_our_own_network(kind: str, tmp_path: Path) -> None:
    text = 'network_module = "lycoris.kohya"\n'
    common = '"bypass_mode=False", "dora_wd=False", "use_tucker=False", "module_dropout=0.1", "rank_dropout=0"'
    config, notes = _noted(tmp_path, f'{text}network_args = ["algo={kind}", "conv_dim=4", "factor=8", {common}]')
    assert config.network_type == {"locon": "lora"}.get(kind, kind)
    assert (config.dim, config.alpha, config.conv_dim, config.conv_alpha) == (8, 4, 4, 4)
    assert (config.module_dropout, config.lokr_factor) == (0.1, 8 if kind == "lokr" else -1)
    assert len(notes) == 1 and "conv_in" in notes[0]
    without, notes = _noted(tmp_path, f'{text}network_args = ["algo={kind}", "preset=attn-mlp"]')
    assert without.conv_dim is None and "proj_in" in notes[0]
    if kind == "lora":  # LyCORIS' defaults
        plain = _read(tmp_path, text + 'base_weights = "style.safetensors"')
        assert (plain.network_type, plain.conv_dim, plain.conv_alpha) == ("lora", 8, 4)
        assert plain.base_adapters == ("style.safetensors:1.0",)
        more = _read(tmp_path, text + 'network_args = ["dora_wd=True", "dropout=0.2", "wd_on_output=True"]')
        assert more.dora and more.network_dropout == 0.2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("algo=ia3", "the LyCORIS algorithm 'ia3' is not supported; there are lora, locon, loha, lokr"),
        ("preset=attn-only", "the LyCORIS preset 'attn-only' is not supported.*; use full or attn-mlp"),
        ("use_tucker=True", "'use_tucker=True' in network_args is not supported: leave it out"),
        ("wd_on_output=False", "'wd_on_output=False' in network_args"),
        ("block_dims=1", "network_args has 'block_dims', which lycoris.kohya here does not take"),
        ("conv_dim=x", "'x' in conv_dim of network_args is no number"),
    ],
)
def test_what_lycoris_has_and_we_have_not_is_named(argument: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        _read(tmp_path, f'network_module = "lycoris.kohya"\nnetwork_args = ["{argument}"]')
