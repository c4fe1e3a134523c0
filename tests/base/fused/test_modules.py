"""Fused forwards: what diffusers' own modules compute, and no trace once they are removed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from loratools.base.fused.group_norm import triton_works
from loratools.base.fused.modules import FusedModules
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.sampling.sample import decode, plain_unet
from tests.base.tiny_xl import save_tiny_xl


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def model(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    path = folder if request.param == "sd1" else save_tiny_xl(tmp_path_factory.mktemp("xl") / "tiny")
    base = load_base(path, device="cpu")
    for part in (
        base.unet,
        base.vae,
    ):  # weights of a mapped file may be unaligned, and then are summed in another order
        for parameter in part.parameters():
            parameter.data = parameter.data.clone()
    return base


def _predict(base: Base) -> Tensor:
    torch.manual_seed(0)
    width = base.unet.config.cross_attention_dim
    x, hidden = torch.randn(3, 4, 8, 8), torch.randn(3, 77, width)
    added = None
    if base.family == "sdxl":
        added = {"text_embeds": torch.randn(3, 16), "time_ids": torch.full((3, 6), 64.0)}
    return plain_unet(base)(x, torch.tensor(321), hidden, added)


@torch.no_grad()
def test_the_unet_predicts_the_same(model: Base) -> None:
    before = _predict(model)
    with FusedModules([model.unet]).applied():
        during = _predict(model)
        names = {type(module).__name__ for module in model.unet.modules() if "forward" in vars(module)}
    assert "ResnetBlock2D" in names and "GroupNorm" in names
    torch.testing.assert_close(during, before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(_predict(model), before, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_decoder_makes_the_same_picture(model: Base) -> None:
    latents = torch.randn(2, 4, 8, 8)
    before = decode(model, latents)
    with FusedModules([model.vae.decoder]).applied():
        torch.testing.assert_close(decode(model, latents), before, rtol=1e-4, atol=1e-4)


def test_only_the_layout_of_weights_stays(model: Base) -> None:
    weights = {name: (value, value.clone()) for name, value in model.unet.named_parameters()}
    fused = FusedModules([model.unet])
    with fused.applied():
        assert model.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        at = model.unet.conv_in.weight.data_ptr()
    with fused.applied(), FusedModules([model.unet]).applied():
        assert model.unet.conv_in.weight.data_ptr() == at  # what a graph reads
    for name, value in model.unet.named_parameters():
        assert value is weights[name][0] and torch.equal(value, weights[name][1])
    assert not [module for module in model.unet.modules() if "forward" in vars(module)]


def test_blocks_of_another_structure_stay_as_they_are(model: Base) -> None:
    block = next(m for m in model.unet.modules() if type(m).__name__ == "ResnetBlock2D")
    block.output_scale_factor = 2.0
    with FusedModules([model.unet]).applied():
        assert "forward" not in vars(block)
    block.output_scale_factor = 1.0


def test_no_kernel_of_tritons_runs_on_a_cpu() -> None:
    assert not triton_works(torch.device("cpu"))
