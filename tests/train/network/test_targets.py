"""Which modules are trained, at which rank and alpha."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.base.model import Base
from loratools.errors import BlockError, RecipeError, TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.config.network import NetworkConfig
from loratools.train.network.network import Network
from tests.train.network.networks import CONV, QUERY, TEXT, make_network
from tests.train.network.test_layers import _sd15_on_meta

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


def test_locon_trains_the_350_modules_that_sd_scripts_does() -> None:
    network = Network(_sd15_on_meta(), 8, 4, 0, options=NetworkConfig(conv_dim=2, conv_alpha=1))
    wide = {name for name, layer in network.layers.items() if len(layer.shape) == 4 and layer.shape[2] == 3}
    assert (len(network.layers), len(wide)) == (350, 50)
    assert {(layer.rank, layer.alpha) for name, layer in network.layers.items() if name in wide} == {(2, 1)}
    rest = [layer for name, layer in network.layers.items() if name not in wide]
    assert {(layer.rank, layer.alpha) for layer in rest} == {(8, 4)}
    assert sum("time_emb_proj" in name for name in network.layers) == 22


def test_sdxl_trains_794_modules_and_66_more_with_convolutions() -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=128,
            cross_attention_dim=2048,
            block_out_channels=(320, 640, 1280),
            attention_head_dim=(5, 10, 20),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            use_linear_projection=True,
            transformer_layers_per_block=(1, 2, 10),
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
    meta = torch.device("meta")
    base = Base(unet, None, (), (), {}, "sdxl", "", "sdxl", (1024, 1024), meta, torch.float32)
    assert len(Network(base, 1, 1, 0).layers) == 722
    assert len(Network(base, 1, 1, 0, options=NetworkConfig(conv_dim=1)).layers) == 722 + 66


def test_ranks_and_alphas_by_block(base: Base) -> None:
    network = make_network(
        base,
        4,
        None,
        conv_dim=3,
        block_dims={"IN": 8, "MID": 0, "IN01/attn1": 2, "BASE": 5},
        block_alphas="IN01=1,OUT03=6",
        conv_block_dims={"IN04": 7},
    )
    sizes = {name: (layer.rank, layer.alpha) for name, layer in network.layers.items()}
    assert sizes[QUERY] == (2, 1) and sizes[QUERY.replace("attn1", "attn2")] == (8, 1)
    assert sizes[QUERY.replace("down_blocks.0", "down_blocks.1")] == (8, 8)  # alpha as the rank
    assert not any(name.startswith("unet.mid_block.attentions") for name in sizes)
    assert sizes["unet.mid_block.resnets.0.conv1"] == (3, 3) and sizes[CONV] == (7, 7)
    assert sizes["unet.up_blocks.1.attentions.0.proj_in"] == (4, 6) and sizes[TEXT] == (5, 5)


def test_numbers_in_a_schemes_order_name_every_block(base: Base) -> None:
    network = make_network(base, block_dims=list(range(1, 18)))
    assert network.layers[TEXT].rank == 1 and network.layers[QUERY].rank == 2
    assert network.layers["unet.up_blocks.3.attentions.2.proj_out"].rank == 17
    only_rules = make_network(base, block_dims={"IN01/attn1": 9})
    assert only_rules.layers[QUERY].rank == 9 and only_rules.layers[TEXT].rank == 4


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"block_dims": {"IN99": 4}}, BlockError, "IN99"),
        ({"block_dims": [4, 4]}, BlockError, "2 numbers"),
        ({"block_dims": {"IN": 1.5}}, TrainingError, "1.5, which is no rank"),
        ({"block_lr": {"IN": -1}}, TrainingError, "cannot be negative"),
        ({"block_dims": {"*": 0}}, TrainingError, "no module that this LoRA"),
    ],
)
def test_blocks_that_make_no_network(base: Base, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_network(base, **options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conv_alpha": 1}, "conv_alpha is given without conv_dim"),
        ({"dora": True, "module_dropout": 0.1}, "module_dropout cannot be used with dora"),
        ({"dim_from_weights": True}, "needs network_weights"),
        ({"network_weights": "x", "dim_from_weights": True, "conv_dim": 4}, "leave one out"),
        ({"network_dropout": 1.0}, "network_dropout: it must be below 1"),
        ({"max_token_length": 100}, "75, 150 or 225"),
        ({"graph": "on", "rank_dropout": 0.1, "gradient_checkpointing": True}, "a graph cannot draw again"),
    ],
)
def test_settings_that_contradict_each_other(settings: Any, message: str, config: Config, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        config(tmp_path, **settings)
