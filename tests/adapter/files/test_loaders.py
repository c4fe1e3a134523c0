"""Files in both styles, loaded by the diffusers and PEFT that are installed: what they add is what was asked.

Older ones, sd-scripts and the WebUIs' maps are measured by ``benchmarks.loaders``, with the same readers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.loader_readers.cases import CLIP, MODELS, Content, Sizes, write_case
from benchmarks.loader_readers.diffusers_reader import applied, pipeline, read
from benchmarks.loader_readers.measure import Asked, Case, Pair, Reading
from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.files.file import read as read_ours
from loratools.adapter.files.file import write
from loratools.ops.convert import convert
from tests.adapter.architectures.test_trees import sd3

FLUX = {**MODELS["flux"]["transformer"], "attention_head_dim": 8, "num_attention_heads": 1, "axes_dims_rope": (2, 2, 4)}
TINY: dict[str, Sizes] = {
    "sd1": MODELS["sd1"],
    "sdxl": {**MODELS["sdxl"], "unet": {**MODELS["sdxl"]["unet"], "transformer_layers_per_block": (1, 1, 2)}},
    "flux": {"transformer": {**FLUX, "num_layers": 2, "num_single_layers": 2}, "text_encoder": CLIP},
}
CONTENTS = [
    Content("one rank", mixed=False),
    Content("mixed", mixed=True, text=False),
    Content("mixed, text", mixed=True),
    Content("mixed, LoCon", mixed=True, conv=True),
]
CASES = [
    (family, writing, content)
    for family in TINY
    for writing in ("diffusers", "kohya")
    for content in CONTENTS
    if family != "flux" or (not content.conv and writing == "diffusers")  # kohya's Flux: at its true width, below
]


def loaded(folder: Path, family: str, writing: str, content: Content) -> tuple[Case, Reading]:
    case = Case(**write_case(folder, family, content, writing, TINY[family]))
    return case, read(case, TINY[family])


def furthest(reading: Reading) -> float:
    """The largest relative error of any module that was asked for or changed."""
    assert len(reading.modules) == reading.asked > 0
    return max(max(abs(ratio - 1), residual) for ratio, residual in reading.modules.values())


@pytest.mark.parametrize(("family", "writing", "content"), CASES)
def test_diffusers_applies_what_was_asked(tmp_path: Path, family: str, writing: str, content: Content) -> None:
    case, reading = loaded(tmp_path, family, writing, content)
    assert furthest(reading) < 1e-6
    components = {name.partition(".")[0] for name in reading.modules}
    assert components == (set(TINY[family]) if content.text else {"transformer" if family == "flux" else "unet"})
    ours, asked = read_ours(case.path), Asked(case.canonical)
    assert max(asked.compare(name, ours[name].dense())[1] for name in asked.shapes) < 1e-6


@pytest.mark.parametrize(("kind", "factor"), [("a scale", 1.01), ("a sign", -1.0), ("nothing", 0.0)])
def test_a_wrong_file_is_caught(tmp_path: Path, kind: str, factor: float) -> None:
    """The control: one module of many is written wrong."""
    case = Case(**write_case(tmp_path, "sd1", CONTENTS[2], "diffusers", TINY["sd1"]))
    tensors = load_file(case.path)
    key = next(key for key in tensors if key.endswith("attn2.to_v.lora_B.weight"))
    save_file({**tensors, key: tensors[key] * factor}, case.path)
    reading = read(case, TINY["sd1"])
    wrong = [name for name, (ratio, _) in reading.modules.items() if abs(ratio - 1) > 1e-3]
    assert wrong == [key.removesuffix(".lora_B.weight")] and abs(reading.modules[wrong[0]][0] - factor) < 1e-4, kind


def test_a_module_left_out_or_added_is_caught(tmp_path: Path) -> None:
    case = Case(**write_case(tmp_path, "sd1", CONTENTS[2], "diffusers", TINY["sd1"]))
    tensors = load_file(case.path)
    stem = next(key for key in tensors if key.endswith("ff.net.2.lora_B.weight")).removesuffix(".lora_B.weight")
    save_file({key: tensor for key, tensor in tensors.items() if not key.startswith(stem)}, case.path)
    reading = read(case, TINY["sd1"])
    assert len(reading.modules) == reading.asked - 1 and stem not in reading.modules
    asked = load_file(case.canonical)
    save_file(tensors, case.path)
    save_file({key: tensor for key, tensor in asked.items() if not key.startswith(stem)}, case.canonical)
    assert read(case, TINY["sd1"]).modules[stem][0] == float("inf")


@pytest.mark.parametrize("family", TINY)
def test_each_component_has_one_rank(tmp_path: Path, family: str) -> None:
    """diffusers before 0.40 takes one module's rank for the alpha of all."""
    content = CONTENTS[2]
    case = Case(**write_case(tmp_path, family, content, "diffusers", TINY[family]))
    ranks: dict[str, set[int]] = {}
    for key, tensor in load_file(case.path).items():
        if key.endswith("lora_B.weight"):
            ranks.setdefault(key.partition(".")[0], set()).add(tensor.shape[1])
    assert set(ranks) == set(TINY[family]) and all(len(some) == 1 for some in ranks.values())
    asked = Asked(case.canonical)
    own = {name: asked.rank(name) for name in asked.shapes}
    for component, (rank,) in ranks.items():
        below = {value for name, value in own.items() if name.startswith(f"{component}.")}
        assert len(below) > 1 and max(below) == rank


def test_components_keep_ranks_of_their_own(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    names = {
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 6,
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k": 2,
        "text_encoder.text_model.encoder.layers.0.mlp.fc1": 3,
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": 1,
    }
    deltas = {
        name: LowRank(torch.randn(8, rank, generator=generator), torch.randn(rank, 8, generator=generator), (8, 8))
        for name, rank in names.items()
    }
    source = write(deltas, tmp_path / "a.safetensors", family="sd1", dtype=torch.float32).path
    made = convert(source, tmp_path / "b.safetensors", style="diffusers")
    there = read_ours(made.path)
    assert [there.ranks[name] for name in names] == [6, 6, 3, 3]
    assert made.padded == 2 and made.rank == 6 and "2 of them padded with zeros to one rank (at most 6)" in made.text()
    assert max(float((there[n].dense() - d.dense()).norm()) / d.norm() for n, d in deltas.items()) < 1e-6
    again = convert(source, tmp_path / "c.safetensors", style="kohya")
    assert again.padded == 0 and "padded" not in again.text()
    assert [read_ours(again.path).ranks[name] for name in names] == list(names.values())


# --- the other direction ---------------------------------------------------------------------------------------------


def trained(model: nn.Module, targets: str, **patterns: Any) -> dict[str, Tensor]:
    """Give a model an adapter whose ranks and alphas differ, with random factors; its state as PEFT names it."""
    from peft import LoraConfig, get_peft_model_state_dict

    config = LoraConfig(r=4, lora_alpha=2, target_modules=targets, **patterns)
    try:
        model.add_adapter(config)  # type: ignore[operator]
    except ValueError as error:
        if "version of PEFT" not in str(error):
            raise
        pytest.skip(f"this transformers and this PEFT do not fit one another: {error}")
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            nn.init.normal_(parameter)
    state: dict[str, Tensor] = get_peft_model_state_dict(model)
    return state


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("patterns", [{}, {"rank_pattern": {"attn.*.to_k": 3}, "alpha_pattern": {"attn.*.to_q": 8}}])
def test_what_diffusers_saves_reads_as_it_applies(
    tmp_path: Path, family: str, patterns: Mapping[str, Mapping[str, int]]
) -> None:
    made, part = pipeline(family, TINY[family]), "transformer" if family == "flux" else "unet"
    layers = {part: trained(getattr(made, part), r".*((attn|attn1)\.to_(q|k|v)|resnets\.0\.conv1)", **patterns)}
    texts = [name for name in TINY[family] if name.startswith("text")]
    layers |= {name: trained(getattr(made, name), r".*\.(q_proj|fc1)") for name in texts}
    settings = {
        f"{name}_lora_adapter_metadata": getattr(made, name).peft_config["default"].to_dict() for name in layers
    }
    suffix = {name: f"{name}_lora_layers" for name in layers}
    made.save_lora_weights(tmp_path, **{suffix[name]: state for name, state in layers.items()}, **settings)
    ours = read_ours(tmp_path / "pytorch_lora_weights.safetensors")
    asked = tmp_path / "asked"
    save_file({key: tensor for name in ours for key, tensor in parts(name, ours[name]).items()}, asked)
    pairs: dict[str, Pair] = {}
    for name in layers:
        pairs |= applied(name, getattr(made, name), Asked(str(asked)))
    assert set(pairs) == set(ours) and furthest(Reading(len(ours), pairs)) < 1e-6


def parts(name: str, delta: Any) -> dict[str, Tensor]:
    """A difference that we read, as :class:`Asked` takes it."""
    return {
        f"{name}.up": delta.up.double().contiguous(),
        f"{name}.down": delta.down.double().contiguous(),
        f"{name}.shape": torch.tensor(delta.shape),
    }


# --- what a whole pipeline would make too large ----------------------------------------------------------------------


def test_diffusers_loads_sd3_exactly(tmp_path: Path) -> None:
    model, generator = sd3(4), torch.Generator().manual_seed(0)
    deltas = {}
    for index, (name, module) in enumerate(model.named_modules()):
        if isinstance(module, nn.Linear) and ".attn" in name:
            (out, width), rank = module.weight.shape, 1 + index % 3
            up, down = torch.randn(out, rank, generator=generator), torch.randn(rank, width, generator=generator)
            deltas[f"transformer.{name}"] = LowRank(up, down, (out, width))
    path = write(deltas, tmp_path / "a.safetensors", family="sd3", dtype=torch.float32, style="diffusers").path
    model.load_lora_adapter(load_file(path), prefix="transformer")  # type: ignore[operator]
    asked = tmp_path / "asked"
    save_file({key: tensor for name, delta in deltas.items() for key, tensor in parts(name, delta).items()}, asked)
    pairs = applied("transformer", model, Asked(str(asked)))
    assert furthest(Reading(len(deltas), pairs)) < 1e-6
    back = read_ours(convert(path, tmp_path / "b.safetensors", style="kohya").path)
    assert max(float((back[n].dense() - d.dense()).norm()) / d.norm() for n, d in deltas.items()) < 1e-5


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
