"""Files in Diffusers' style, loaded by Diffusers' own loader: what it adds to the weights equals what we say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.architectures.names import module_tree
from loratools.adapter.files.file import Adapter, read, write
from loratools.ops.convert import convert
from tests.adapter.architectures.test_trees import flux, sd3
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
    deltas = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and module.lora_A:
            deltas[f"{prefix}.{name}"] = module.get_delta_weight(next(iter(module.lora_A)))
    return deltas


def check(adapter: Adapter, loaded: Mapping[str, Tensor]) -> float:
    assert set(loaded) == set(adapter)
    gaps = {n: loaded[n].detach().double().reshape(adapter.shapes[n]) - adapter[n].dense() for n in adapter}
    return max(float(gap.norm()) / adapter[name].norm() for name, gap in gaps.items())


@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_diffusers_loads_transformers_exactly(tmp_path: Path, family: str) -> None:
    model = flux() if family == "flux" else sd3()
    deltas = random_lora(model, "transformer", family)
    path = write(deltas, tmp_path / "a.safetensors", family=family, dtype=torch.float32, style="diffusers").path
    assert check(read(path), added(model, load_file(path), "transformer")) < 1e-6
    back = read(convert(path, tmp_path / "b.safetensors", style="kohya").path)
    assert max(float((back[n].dense() - d.dense()).norm()) / d.norm() for n, d in deltas.items()) < 1e-5


def test_diffusers_loads_a_unet_exactly(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        block_out_channels=(4, 4, 4, 4), attention_head_dim=2, norm_num_groups=2, cross_attention_dim=4
    )
    deltas = random_lora(model, "unet", "sd1")
    path = write(deltas, tmp_path / "a.safetensors", family="sd1", dtype=torch.float32, style="diffusers").path
    assert check(read(path), added(model, load_file(path), "unet")) < 1e-6


LYCORIS: list[tuple[str, dict[str, object]]] = [
    ("LoConModule", {}),
    ("LoConModule", {"use_tucker": True}),
    ("LohaModule", {}),
    ("LohaModule", {"use_tucker": True}),
    ("LokrModule", {}),
    ("LokrModule", {"decompose_both": True, "lora_dim": 1}),
    ("LokrModule", {"lora_dim": 1000}),
    ("LokrModule", {"use_tucker": True}),
    ("LokrModule", {"decompose_both": True, "lora_dim": 1, "use_tucker": True}),
    ("LokrModule", {"use_scalar": True}),
    ("FullModule", {}),
]
LINEAR = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.mid_block.resnets.0.conv1"


def trained(kind: str, conv: bool, options: Mapping[str, object]) -> Any:
    """One LyCORIS module on a tiny layer, with random parameters."""
    modules = pytest.importorskip("lycoris.modules")
    torch.manual_seed(3)
    layer: nn.Module = nn.Conv2d(8, 12, 3, padding=1) if conv else nn.Linear(8, 12)
    factor = {"factor": 4} if kind == "LokrModule" else {}
    module = getattr(modules, kind)("stem", layer, 1.0, **{"lora_dim": 2, "alpha": 1.5, **factor, **options})
    if kind == "FullModule":
        module.apply_to()  # from then on it holds whole weights, and stores their differences
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def stored(module: Any, conv: bool, place: Path) -> Path:
    stem = f"lora_unet_{(CONV if conv else LINEAR).removeprefix('unet.').replace('.', '_')}"
    tensors = {f"{stem}.{k}": v.detach().clone().contiguous() for k, v in module.custom_state_dict().items()}
    return save(place, tensors)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize(("kind", "options"), LYCORIS)
def test_what_lycoris_makes_reads_as_it_runs(
    tmp_path: Path, kind: str, options: Mapping[str, object], conv: bool
) -> None:
    """Against what its forward pass adds; ``get_diff_weight`` of its LoHa and LoKr scales by alpha / rank once more."""
    module = trained(kind, conv, options)
    adapter, name = read(stored(module, conv, tmp_path / "a.safetensors")), CONV if conv else LINEAR
    with torch.no_grad():
        module.eval()
        if kind in ("LohaModule", "LokrModule"):
            asked = (module.get_weight(module.shape) * module.scalar).double()
        else:
            asked = module.get_diff_weight(1.0)[0].double()
    assert float((adapter[name].dense().reshape(asked.shape) - asked).norm() / asked.norm()) < 1e-6
    assert (f"{name}.bias" in adapter) == (kind == "FullModule")


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("on_out", [False, True])
@pytest.mark.parametrize("kind", ["LoConModule", "LohaModule", "LokrModule"])
def test_lycoris_dora_reads_as_it_runs(tmp_path: Path, kind: str, on_out: bool, conv: bool) -> None:
    module, name = trained(kind, conv, {"weight_decompose": True, "wd_on_out": on_out}), CONV if conv else LINEAR
    base = module.org_module[0].weight.detach()
    adapter = read(stored(module, conv, tmp_path / "a.safetensors"), base={f"{name}.weight": base})
    with torch.no_grad():
        plain = module.make_weight() * module.scale if kind == "LoConModule" else module.get_weight(module.shape)
        scaled = plain if kind == "LoConModule" else plain * module.scalar
        asked = (module.apply_weight_decompose(base + scaled.reshape(base.shape), 1) - base).double()
    assert float((adapter[name].dense() - asked).norm() / asked.norm()) < 2e-6


def test_diffusers_loads_a_text_encoder_exactly(tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=20
    )
    model = CLIPTextModel(config)
    generator = torch.Generator().manual_seed(0)
    names = [m.name for m in module_tree("sd1", 2) if m.text]
    shapes = {"fc1": (16, 8), "fc2": (8, 16)}
    deltas = {}
    for index, name in enumerate(names):
        shape, rank = shapes.get(name.rpartition(".")[2], (8, 8)), 1 + index % 3
        deltas[name] = LowRank(
            torch.randn(shape[0], rank, generator=generator), torch.randn(rank, shape[1], generator=generator), shape
        )
    path = write(deltas, tmp_path / "a.safetensors", family="sd1", dtype=torch.float32, style="diffusers").path
    StableDiffusionPipeline.load_lora_into_text_encoder(load_file(path), None, model, prefix="text_encoder")
    loaded = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            canonical = name if name.startswith("text_model.") else f"text_model.{name}"
            loaded[f"text_encoder.{canonical}"] = module.get_delta_weight(next(iter(module.lora_A)))
    assert check(read(path), loaded) < 1e-6


def test_diffusers_own_converter_reads_our_fused_flux_as_we_do(tmp_path: Path) -> None:
    """kohya's spelling at Flux's true width, which the converter takes for granted; it drops the last layer's alpha."""
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers

    width, generator = 3072, torch.Generator().manual_seed(0)
    names = {
        f"transformer_blocks.0.attn.{part}": (width, width)
        for part in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0")
    }
    names |= {f"single_transformer_blocks.0.attn.{part}": (width, width) for part in ("to_q", "to_k", "to_v")}
    names["single_transformer_blocks.0.proj_mlp"] = (4 * width, width)
    deltas = {}
    for index, (name, shape) in enumerate(names.items()):
        rank = 1 + index % 2
        deltas[f"transformer.{name}"] = LowRank(
            torch.randn(shape[0], rank, generator=generator), torch.randn(rank, shape[1], generator=generator), shape
        )
    path = write(deltas, tmp_path / "a.safetensors", family="flux", dtype=torch.float32).path
    converted = _convert_kohya_flux_lora_to_diffusers(load_file(path))
    for name, delta in deltas.items():
        down, up = converted[f"{name}.lora_A.weight"], converted[f"{name}.lora_B.weight"]
        gap = LowRank(torch.cat([up, -delta.up], 1), torch.cat([down, delta.down]), delta.shape)
        assert gap.norm() / delta.norm() < 1e-6, name
