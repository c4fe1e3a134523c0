from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from loratools.adapter.architectures.names import kohya_name
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.train.network.network import LoraConv, LoraLinear, Network
from tests.loras import trained

EXPECTED = (Path(__file__).parent / "sd15_modules.txt").read_text().split()


def _sd15_on_meta() -> Base:
    """SD1.5's real module tree without its weights."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8, block_out_channels=(320, 640, 1280, 1280)
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                projection_dim=768,
            )
        )
    return Base(unet, None, (text,), (None,), {}, "sd1", "", "sd15", (512, 512), torch.device("meta"), torch.float32)


def _files_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in network.layers.items():
        stem, ones = kohya_name(name, "sd1"), (1,) * (len(layer.shape) - 2)
        shapes[f"{stem}.alpha"] = ()
        shapes[f"{stem}.lora_down.weight"] = (*layer.down.shape, *ones)
        shapes[f"{stem}.lora_up.weight"] = (*layer.up.shape, *ones)
    return shapes


def test_sd15_has_the_264_modules_that_sd_scripts_trains() -> None:
    network = Network(_sd15_on_meta(), 8, 4, 0)
    assert len(network.layers) == 264 == len(EXPECTED)
    assert sorted(kohya_name(name, "sd1") for name in network.layers) == EXPECTED
    unet = Network(_sd15_on_meta(), 8, 4, 0, text=False).layers
    assert len(unet) == 192 and sum(isinstance(layer, LoraConv) for layer in unet.values()) == 32
    assert len(Network(_sd15_on_meta(), 8, 4, 0, unet=False).layers) == 72


def test_there_is_a_key_for_each_factor_of_each_module() -> None:
    shapes = _files_shapes(Network(_sd15_on_meta(), 8, 4, 0))
    assert sorted({key.split(".")[0] for key in shapes}) == EXPECTED and len(shapes) == 792


def test_keys_and_shapes_are_those_of_a_file_that_sd_scripts_trained() -> None:
    with safe_open(trained("style-r8a4"), "pt") as file:
        theirs = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    assert _files_shapes(Network(_sd15_on_meta(), 8, 4, 0)) == theirs


def _frozen(kind: str) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    if kind == "linear":
        return torch.nn.Linear(6, 5).double().requires_grad_(False), torch.randn(3, 7, 6).double()
    module = torch.nn.Conv2d(6, 5, 1) if kind == "conv" else torch.nn.Conv2d(6, 5, 3, stride=2, padding=1)
    return module.double().requires_grad_(False), torch.randn(3, 6, 4, 4).double()


@pytest.mark.parametrize("kind", ["linear", "conv", "wide"])
def test_output_and_gradients_are_those_of_the_dense_weight(kind: str) -> None:
    """y and the gradients of x, up and down against autograd on W + alpha / rank * up @ down, in float64."""
    frozen, x = _frozen(kind)
    wrapper = (LoraLinear if kind == "linear" else LoraConv)(frozen, 3, 1.5, torch.Generator().manual_seed(1)).double()
    torch.nn.init.normal_(wrapper.up)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    up, down = (factor.detach().clone().requires_grad_() for factor in (wrapper.up, wrapper.down))
    weight: Any = frozen.weight + (0.5 * up @ down).reshape(frozen.weight.shape)
    dense = torch.func.functional_call(frozen, {"weight": weight, "bias": frozen.bias}, (x2,))
    y = wrapper(x1)
    torch.testing.assert_close(y, dense)
    y.square().sum().backward()
    dense.square().sum().backward()
    for mine, theirs in ((x1.grad, x2.grad), (wrapper.up.grad, up.grad), (wrapper.down.grad, down.grad)):
        torch.testing.assert_close(mine, theirs)
    assert wrapper.up.grad is not None and wrapper.up.grad.abs().sum() > 0


def test_starts_at_the_base_and_leaves_it_as_it_was(tiny: Path) -> None:
    base = load_base(str(tiny), device="cpu")
    before = copy.deepcopy(dict(base.unet.state_dict()))
    modules = [id(module) for module in base.unet.modules()]
    x, t, c = torch.randn(1, 4, 8, 8), torch.tensor([10]), torch.randn(1, 77, 16)
    plain = base.unet(x, t, encoder_hidden_states=c).sample
    network = Network(base, 4, 2, 0)
    with network.attached():
        attached = base.unet(x, t, encoder_hidden_states=c).sample
        assert torch.equal(attached, plain)  # up is zero
        attached.sum().backward()
    assert [id(module) for module in base.unet.modules()] == modules
    assert all(torch.equal(value, before[name]) for name, value in base.unet.state_dict().items())
    assert all(parameter.grad is None for parameter in base.unet.parameters())


def test_the_start_is_uniform_seeded_and_each_modules_own(tiny: Path) -> None:
    base = load_base(str(tiny), device="cpu")
    one, two, text = Network(base, 4, 2, 0), Network(base, 4, 2, 1), Network(base, 4, 2, 0, unet=False)
    name = "text_encoder.text_model.encoder.layers.0.mlp.fc2"
    down = one.layers[name].down.detach()
    assert torch.equal(down, text.layers[name].down) and not torch.equal(down, two.layers[name].down)
    bound = down.shape[1] ** -0.5
    assert down.abs().max() <= bound and abs(float(down.std()) - bound / 3**0.5) < 0.1 * bound
    assert not one.layers[name].up.any()
