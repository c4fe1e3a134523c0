"""Files in Diffusers' style, loaded by Diffusers' own loader: what it adds to the weights equals what we say."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from loratools.adapter.file import Adapter, read, write
from loratools.adapter.lowrank import LowRank
from loratools.adapter.names import module_tree
from loratools.ops.convert import convert
from tests.adapter.test_trees import flux, sd3
from tests.loras import save


def random_lora(model: nn.Module, prefix: str, family: str) -> dict[str, LowRank]:
    """A difference of a rank of its own for every module of a live model that LoRA changes."""
    generator = torch.Generator().manual_seed(0)
    known = {m.name for m in module_tree(family) if m.attention}
    deltas = {}
    for index, (name, module) in enumerate(model.named_modules()):
        if f"{prefix}.{name}" in known and isinstance(module, nn.Linear | nn.Conv2d):
            shape, rank = tuple(module.weight.shape), 1 + index % 3
            up = torch.randn(shape[0], rank, generator=generator)
            down = torch.randn(rank, module.weight[0].numel(), generator=generator)
            deltas[f"{prefix}.{name}"] = LowRank(up, down, shape)
    return deltas


def added(model: nn.Module, layers: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What Diffusers' loader adds to each weight: PEFT's own product of every layer."""
    model.load_lora_adapter(dict(layers), prefix=prefix)  # type: ignore[operator]
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and module.lora_A:
            found[f"{prefix}.{name}"] = module.get_delta_weight(next(iter(module.lora_A)))
    return found


def check(adapter: Adapter, loaded: Mapping[str, Tensor]) -> float:
    assert set(loaded) == set(adapter)
    return max(float((loaded[n].double().reshape(adapter.shapes[n]) - adapter[n].dense()).norm()) / adapter[n].norm()
               for n in adapter)  # fmt: skip


@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_diffusers_loads_transformers_exactly(tmp_path: Path, family: str) -> None:
    model = flux() if family == "flux" else sd3()
    deltas = random_lora(model, "transformer", family)
    path = write(deltas, tmp_path / "a.safetensors", family=family, dtype=torch.float32, style="diffusers").path
    assert check(read(path), added(model, load_file(path), "transformer")) < 1e-6
    back = convert(path, tmp_path / "b.safetensors", style="kohya")
    assert max(float((read(back.path)[n].dense() - d.dense()).norm()) / d.norm() for n, d in deltas.items()) < 1e-5


def test_diffusers_loads_a_unet_exactly(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(block_out_channels=(4, 4, 4, 4), attention_head_dim=2, norm_num_groups=2,
                                 cross_attention_dim=4)  # fmt: skip
    deltas = random_lora(model, "unet", "sd1")
    path = write(deltas, tmp_path / "a.safetensors", family="sd1", dtype=torch.float32, style="diffusers").path
    assert check(read(path), added(model, load_file(path), "unet")) < 1e-6


def lycoris_module(kind: str, conv: bool) -> nn.Module:
    """One trained LyCORIS module on a tiny layer."""
    modules = pytest.importorskip("lycoris.modules")
    layer: nn.Module = nn.Conv2d(8, 12, 3, padding=1) if conv else nn.Linear(8, 12)
    options: dict[str, object] = {"lora_dim": 2, "alpha": 1.5, "use_tucker": kind.endswith("_tucker")}
    base = kind.split("_")[0]
    made = {"loha": modules.LohaModule, "lokr": modules.LokrModule, "locon": modules.LoConModule}[base]
    if kind == "lokr_both":
        options |= {"decompose_both": True, "lora_dim": 1}
    if kind.endswith("_full"):
        options["lora_dim"] = 1000
    torch.manual_seed(3)
    module = made("stem", layer, 1.0, factor=4, **options) if base == "lokr" else made("stem", layer, 1.0, **options)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


LYCORIS = ["locon", "loha", "lokr", "lokr_both", "lokr_full", "locon_tucker", "loha_tucker", "lokr_tucker"]


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("kind", LYCORIS)
def test_what_lycoris_makes_reads_as_it_says(tmp_path: Path, kind: str, conv: bool) -> None:
    if kind.endswith("_tucker") and not conv:
        pytest.skip("Tucker factors are of convolutions")
    module = lycoris_module(kind, conv)
    stem = ("lora_unet_mid_block_resnets_0_conv1" if conv
            else "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q")  # fmt: skip
    tensors = {
        f"{stem}.{key}": value.detach().clone().contiguous() for key, value in module.custom_state_dict().items()
    }  # type: ignore[operator]
    adapter = read(save(tmp_path / "a.safetensors", tensors))
    (name,) = adapter
    asked = module.get_diff_weight(1.0)[0].detach().double()  # type: ignore[operator]
    assert float((adapter[name].dense().reshape(asked.shape) - asked).norm() / asked.norm()) < 1e-6
