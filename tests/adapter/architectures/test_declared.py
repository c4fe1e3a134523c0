"""Transformers that are declared by weights: every trainer's spelling is one file, and what is written reads back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from loratools.adapter.algebra.rank import Exact
from loratools.adapter.architectures.block_transformer import BlockTransformer, PlacedWeight, fits, placed, stored_shape
from loratools.adapter.architectures.family import FAMILIES
from loratools.adapter.architectures.names import module_tree, other_tree
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.key_layout import Style
from loratools.blocks.presets import load_presets
from loratools.ops.convert import convert
from loratools.ops.merging.merge import merge_files, merge_in_memory
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from tests.loras import save

DECLARED = [name for name, family in FAMILIES.items() if isinstance(family.network, BlockTransformer)]
NARROW = {"W": 24, "F": 40, "H": 4, "C": 20, "O": 8, "P": 12, "A": 16}
# how writers spell a stem: namespace, which network's path, dots or underscores, ends of the factors
SPELLINGS = {
    "kohya": ("lora_unet_", "original", True, ("lora_down.weight", "lora_up.weight")),
    "musubi": ("lora_unet_", "diffusers", True, ("lora_down.weight", "lora_up.weight")),
    "comfy": ("diffusion_model.", "original", False, ("lora_A.weight", "lora_B.weight")),
    "ai-toolkit": ("diffusion_model.", "diffusers", False, ("lora_A.weight", "lora_B.weight")),
    "bare": ("", "original", False, ("lora_A.default.weight", "lora_B.default.weight")),
    "diffusers": ("transformer.", "diffusers", False, ("lora_A.weight", "lora_B.weight")),
    "peft": ("base_model.model.", "diffusers", False, ("lora_A", "lora_B")),
    "lycoris": ("lycoris_", "diffusers", True, ("lora_down.weight", "lora_up.weight")),
    "onetrainer": ("lora_transformer_", "diffusers", True, ("lora_down.weight", "lora_up.weight")),
}


def network(family: str) -> BlockTransformer:
    net = FAMILIES[family].network
    assert isinstance(net, BlockTransformer)
    return net


def trained(family: str, blocks: int = 2) -> list[PlacedWeight]:
    """What plain LoRA training changes, of the first blocks of each container."""
    return [
        weight
        for weight in placed(network(family))
        if weight.weight.trained and not weight.outer and int(_number(weight.originals[0])) < blocks
    ]


def _number(path: str) -> str:
    return next(part for part in path.split(".") if part.isdigit())


def spelled(family: str, spelling: str, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A file's tensors in one spelling, and the difference of every canonical module, dense in float64.

    Every spelling has the same differences: those of the original network's weights, which Diffusers' names cut.
    """
    space, path_of, flat, (down, up) = SPELLINGS[spelling]
    tensors: dict[str, Tensor] = {}
    asked: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    for weight in trained(family):
        rows, columns = stored_shape(weight.weight, NARROW)
        lora_down = torch.randn(2, columns, generator=generator)
        lora_up = torch.randn(rows, 2, generator=generator)
        shares = weight.weight.shares or (1,) * len(weight.fused.names)
        cuts = list(lora_up.split([rows * share // sum(shares) for share in shares]))
        asked |= {name: part.double() @ lora_down.double() for name, part in zip(weight.fused.names, cuts, strict=True)}
        if path_of == "original":
            stems = {weight.originals[0]: lora_up}
        else:
            paths = (name.removeprefix("transformer.") for name in weight.fused.names)
            stems = dict(zip(paths, cuts, strict=True))
        for path, part in stems.items():
            own = path.startswith("text_conditioner.") and not flat  # a component of its own
            stem = path if own else f"{space}{path.replace('.', '_') if flat else path}"
            tensors |= {f"{stem}.{down}": lora_down.clone(), f"{stem}.{up}": part.clone()}
    return tensors, asked


def readable(family: str) -> Iterator[str]:
    for spelling in SPELLINGS:
        adapter = family == "anima" and spelling in ("musubi", "lycoris", "onetrainer", "peft", "ai-toolkit")
        if not adapter:  # Anima's trainers use the original paths; its adapter has no flat path of its own in Diffusers
            yield spelling


CASES = [(family, spelling) for family in DECLARED for spelling in readable(family)]


def header(family: str) -> dict[str, str]:
    return {"modelspec.architecture": FAMILIES[family].architecture}


def opened(path: Path, family: str, spelling: str, seed: int = 0) -> tuple[Adapter, dict[str, Tensor]]:
    tensors, asked = spelled(family, spelling, seed)
    return read(save(path / f"{spelling}-{seed}.safetensors", tensors, header(family))), asked


def error(given: Any, asked: dict[str, Tensor]) -> float:
    """The greatest relative error of the modules, which must be the same."""
    assert set(given) == set(asked)
    norms = {name: float(delta.norm()) for name, delta in asked.items()}
    return max(
        float((given[name].dense(torch.float64).reshape(asked[name].shape) - asked[name]).norm()) / norms[name]
        for name in asked
    )


@pytest.mark.parametrize(("family", "spelling"), CASES)
def test_every_spelling_reads_as_the_same_modules(tmp_path: Path, family: str, spelling: str) -> None:
    adapter, asked = opened(tmp_path, family, spelling)
    assert adapter.family == family and adapter.identity.model == family
    assert error(adapter, asked) < 1e-6


@pytest.mark.parametrize(("family", "spelling"), CASES)
def test_a_file_in_one_spelling_less_the_same_in_another_is_nothing(tmp_path: Path, family: str, spelling: str) -> None:
    one, _ = opened(tmp_path, family, "kohya")
    other, _ = opened(tmp_path, family, spelling)
    merged = merge_in_memory(terms(f"{one.path}:1,{other.path}:-1"), rule=Exact(), dtype=torch.float32)
    assert max(float(delta.dense().norm()) for delta in merged.values()) < 1e-4


@pytest.mark.parametrize("family", DECLARED)
def test_a_merge_across_spellings_is_the_sum_and_takes_a_vector(tmp_path: Path, family: str) -> None:
    container = network(family).containers[-1]
    block, prefix = f"{container.block or container.name}.01", f"transformer.{container.name}.1."
    one, first = opened(tmp_path, family, "kohya")
    other, second = opened(tmp_path, family, "comfy", seed=1)
    merge_files(
        terms(f"{one.path}:0.7,{other.path}:-0.4:'ALL=1,{block}=0.5'".replace("'", "")),
        tmp_path / "out.safetensors",
        dtype=torch.float32,
    )
    asked = {name: 0.7 * first[name] - 0.4 * (0.5 if name.startswith(prefix) else 1.0) * second[name] for name in first}
    merged = read(tmp_path / "out.safetensors")
    assert merged.family == family and error(merged, asked) < 1e-6


def terms(text: str) -> list[Term]:
    return resolve_terms(parse_merge_string(text), presets=load_presets())


@pytest.mark.parametrize("style", ["comfy", "original"])
@pytest.mark.parametrize("family", DECLARED)
def test_conversion_to_the_original_network_s_paths(tmp_path: Path, family: str, style: Style) -> None:
    source, asked = opened(tmp_path, family, "diffusers")
    there = convert(source.path, tmp_path / "there.safetensors", style=style, dtype="fp32")
    assert error(read(there.path), asked) < 1e-6
    before = "diffusion_model." if style == "comfy" else ""
    paths = {f"{before}{weight.originals[0]}" for weight in trained(family)}
    assert {key.rsplit(".lora_", 1)[0] for key in load_file(there.path)} == paths


@pytest.mark.parametrize("family", DECLARED)
def test_conversion_there_and_back_is_the_same(tmp_path: Path, family: str) -> None:
    source, asked = opened(tmp_path, family, "kohya")
    there = convert(source.path, tmp_path / "there.safetensors", style="diffusers", dtype="fp32")
    assert error(read(there.path), asked) < 1e-6
    back = convert(there.path, tmp_path / "back.safetensors", style="kohya", dtype="fp32")
    assert error(read(back.path), asked) < 1e-6
    assert all(key.startswith("lora_unet_") for key in load_file(back.path))
    assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in load_file(there.path))


def test_shapes_tell_a_network_of_another_width() -> None:
    weight = next(weight for weight in placed(network("z-image")) if len(weight.fused.names) == 3)
    of_it = [(weight.weight, weight.fused, (3 * 3840, 3840))]
    assert fits(of_it, network("z-image").sizes)
    assert not fits([(weight.weight, weight.fused, (3 * 2304, 2304))], network("z-image").sizes)  # Lumina 2's width
    assert not fits([(weight.weight, weight.fused, (3840, 2304))], network("z-image").sizes)
    assert fits([(weight.weight, weight.fused, (24, 8))], network("z-image").sizes)  # a test model's


# --- against the live models -----------------------------------------------------------------------------------------

CLASSES = {
    "z-image": ("ZImageTransformer2DModel", {}),
    "flux2": ("Flux2Transformer2DModel", {}),
    "qwen-image": ("QwenImageTransformer2DModel", {}),
    "wan": ("WanTransformer3DModel", {"image_dim": 1280, "added_kv_proj_dim": 5120}),
    "anima": ("CosmosTransformer3DModel", {"num_attention_heads": 16, "num_layers": 28, "in_channels": 16}),
    "cosmos-predict2": ("CosmosTransformer3DModel", {"num_attention_heads": 40, "num_layers": 36, "in_channels": 17}),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", DECLARED)
def test_the_declaration_is_the_live_model(family: str) -> None:
    """Every matrix and norm of Diffusers' own class, at its published size, is declared, with its shape."""
    import diffusers
    from accelerate import init_empty_weights

    name, config = CLASSES[family]
    with init_empty_weights():
        model = getattr(diffusers, name)(**config)
    alone = ("pad_token", "scale_shift_table", "pos_emb_")  # parameters that no layer owns
    live = {
        f"transformer.{name.removesuffix('.weight')}": tuple(parameter.shape)
        for name, parameter in model.named_parameters()
        if not name.endswith("bias") and not any(word in name for word in alone)
    }
    sizes = network(family).sizes[0]
    declared: dict[str, tuple[int, ...]] = {}
    for weight in placed(network(family)):
        shape = stored_shape(weight.weight, sizes)
        shares = weight.weight.shares or (1,) * len(weight.fused.names)
        for part, share in zip(weight.fused.names, shares, strict=True):
            declared[part] = (shape[0] * share // sum(shares), *shape[1:])
    own = {name: shape for name, shape in declared.items() if name.startswith("transformer.")}
    assert own == live
    assert set(declared) == {
        m.name for m in (*module_tree(family), *other_tree(family)) if not m.name.startswith("text_encoder")
    }
