"""Transformers that are declared by weights: every trainer's spelling is one file, and what is written reads back."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from loratools.adapter.algebra.rank import Exact, Fixed
from loratools.adapter.architectures import families
from loratools.adapter.architectures.block_transformer import fits
from loratools.adapter.architectures.names import resolve
from loratools.adapter.files.file import read
from loratools.adapter.files.key_layout import Style
from loratools.adapter.files.metadata import Provenance
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import full_scheme
from loratools.ops.analysis.analyze import analyze
from loratools.ops.convert import convert
from loratools.ops.merging.merge import merge_files, merge_in_memory, verify
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from loratools.ops.resize import resize_file
from loratools.ops.style_removal import SubtractMethod
from loratools.ops.subtract import subtract_files
from tests.families import DECLARED, error, header, network, opened, readable, spelled, trained, weights
from tests.loras import save

ROOT = Path(families.__file__).parent
T5 = "text_encoder.encoder.block.0"


def terms(text: str) -> list[Term]:
    return resolve_terms(parse_merge_string(text), presets=load_presets())


@pytest.mark.parametrize("family", DECLARED)
def test_every_spelling_is_one_file(tmp_path: Path, family: str) -> None:
    """The same modules and the same differences, so that A - A = 0 across spellings."""
    for spelling in readable(family):
        adapter, asked = opened(tmp_path, family, spelling, blocks=1)
        assert adapter.family == family and adapter.identity.model == family, spelling
        assert error(adapter, asked) < 1e-6, spelling
    first, _ = opened(tmp_path, family, "kohya", blocks=1)
    less = merge_in_memory(terms(f"{first.path}:1,{adapter.path}:-1"), rule=Exact(), dtype=torch.float32)
    assert max(float(delta.dense().norm()) for delta in less.values()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("family", DECLARED)
def test_every_spelling_of_the_whole_network(tmp_path: Path, family: str) -> None:
    """All blocks, and A - A = 0 of every pair with kohya's file."""
    first, asked = opened(tmp_path, family, "kohya", blocks=100)
    for spelling in readable(family):
        adapter, _ = opened(tmp_path, family, spelling, blocks=100)
        assert adapter.family == family and error(adapter, asked) < 1e-6, spelling
        less = merge_in_memory(terms(f"{first.path}:1,{adapter.path}:-1"), rule=Exact(), dtype=torch.float32)
        assert max(float(delta.dense().norm()) for delta in less.values()) < 1e-4, spelling


@pytest.mark.parametrize("family", DECLARED)
def test_a_file_of_mixed_spellings_is_one_file(tmp_path: Path, family: str) -> None:
    tensors: dict[str, torch.Tensor] = {}
    names = list(readable(family))
    files = {name: opened(tmp_path, family, name, blocks=1)[0] for name in names}
    for number, weight in enumerate(trained(family, blocks=1)):
        name = names[number % len(names)]
        stems = {files[name].stem(module) for module in weight.fused.names}
        own = spelled(family, name, blocks=1).tensors
        tensors |= {key: value for key, value in own.items() if key.split(".lora_")[0].removesuffix(".alpha") in stems}
    mixed = read(save(tmp_path / "mixed.safetensors", tensors, header(family)))
    assert error(mixed, spelled(family, "kohya", blocks=1).deltas) < 1e-6


@pytest.mark.parametrize("family", DECLARED)
def test_a_merge_across_spellings_is_the_sum_and_takes_a_vector(tmp_path: Path, family: str) -> None:
    container = network(family).containers[-1]
    prefix = f"transformer.{container.name}.1."
    block = next(block.name for block in full_scheme(family).blocks if f"{prefix[:-1]}" in block.prefixes)
    one, first = opened(tmp_path, family, "kohya")
    other, second = opened(tmp_path, family, "comfy", seed=1)
    out = tmp_path / "out.safetensors"
    merge_files(terms(f"{one.path}:0.7,{other.path}:-0.4:ALL=1,{block}=0.5"), out, dtype=torch.float32)
    asked = {name: 0.7 * first[name] - 0.4 * (0.5 if name.startswith(prefix) else 1.0) * second[name] for name in first}
    merged = read(out)
    assert merged.family == family and error(merged, asked) < 1e-6


@pytest.mark.parametrize("family", DECLARED)
def test_conversion_to_the_original_network_s_paths(tmp_path: Path, family: str) -> None:
    """Of factors that were trained apart: what is one matrix there holds them side by side."""
    asked = spelled(family, "diffusers", blocks=1, apart=True)
    source = save(tmp_path / "source.safetensors", asked.tensors, header(family))
    styles: dict[Style, str] = {"comfy": "diffusion_model.", "original": ""}
    for style, before in styles.items():
        there = convert(source, tmp_path / f"{style}.safetensors", style=style, dtype="fp32")
        assert error(read(there.path), asked.deltas) < 1e-6
        paths = {f"{before}{weight.originals[0]}" for weight in trained(family, blocks=1)}
        assert {key.rsplit(".lora_", 1)[0] for key in load_file(there.path)} == paths


@pytest.mark.parametrize("family", DECLARED)
def test_conversion_there_and_back_is_the_same(tmp_path: Path, family: str) -> None:
    source, asked = opened(tmp_path, family, "kohya", blocks=1)
    there = convert(source.path, tmp_path / "there.safetensors", style="diffusers", dtype="fp32")
    assert error(read(there.path), asked) < 1e-6
    back = convert(there.path, tmp_path / "back.safetensors", style="kohya", dtype="fp32")
    assert error(read(back.path), asked) < 1e-6
    assert all(key.startswith("lora_unet_") for key in load_file(back.path))
    assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in load_file(there.path))


def test_shapes_tell_a_network_of_another_width() -> None:
    weight = next(weight for weight in weights("z-image") if len(weight.fused.names) == 3)
    of_it = [(weight.weight, weight.fused, (3 * 3840, 3840))]
    assert fits(of_it, network("z-image").sizes)
    assert not fits([(weight.weight, weight.fused, (3 * 2304, 2304))], network("z-image").sizes)  # Lumina 2's width
    assert not fits([(weight.weight, weight.fused, (3840, 2304))], network("z-image").sizes)
    assert fits([(weight.weight, weight.fused, (24, 8))], network("z-image").sizes)  # a test model's


@pytest.mark.parametrize("family", ["lumina-2", "hunyuan-video", "krea-2"])
def test_operations_work_on_declared_families(tmp_path: Path, family: str) -> None:
    """Files of two spellings; Lumina's rows are cut unevenly, HunyuanVideo's modules are four in one matrix."""
    one, first = opened(tmp_path, family, "kohya", blocks=1)
    other, second = opened(tmp_path, family, "ai-toolkit", seed=1, blocks=1)
    out = tmp_path / "out.safetensors"
    text = f"{one.path}:0.7,{other.path}:-0.4"
    merge_files(terms(text), out)
    assert verify(out, terms(text)).error < 1e-3
    subtract_files(
        terms(f"{one.path}:1"),
        terms(f"{other.path}:1"),
        tmp_path / "less.safetensors",
        method=SubtractMethod(),
        dtype=torch.float32,
    )
    assert error(read(tmp_path / "less.safetensors"), {name: first[name] - second[name] for name in first}) < 1e-5
    resize_file(read(out), tmp_path / "small.safetensors", rule=Fixed(2))
    small = read(tmp_path / "small.safetensors")
    assert (
        small.family == family and min(small.ranks.values()) == 2
    )  # more where modules of one matrix lie side by side
    assert analyze(one.path, other.path).json()
    assert Provenance.from_metadata(read(out).metadata) is not None


def test_a_fused_matrix_of_lycoris_is_cut_as_its_modules_are(tmp_path: Path) -> None:
    """Krea 2's query, key and value in one LoKr, 4 : 1 : 1 in height."""
    first, second = torch.randn(6, 2), torch.randn(6, 12)
    stem = "lycoris_transformer_blocks_0_attn_to_qkv"
    factors = {f"{stem}.lokr_w1": first, f"{stem}.lokr_w2": second, f"{stem}.alpha": torch.ones(())}
    found = read(save(tmp_path / "a.safetensors", factors))
    whole = torch.kron(first.double(), second.double())
    names = [f"transformer.transformer_blocks.0.attn.to_{part}" for part in "qkv"]
    assert found.family == "krea-2" and set(found) == set(names)
    assert torch.allclose(torch.cat([found[name].dense().double() for name in names]), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "stem", "names"),
    [
        ("lumina-2", "lora_te_layers_3_self_attn_q_proj", ["text_encoder.layers.3.self_attn.q_proj"]),
        (
            "lumina-2",
            "text_encoders.gemma2_2b.transformer.model.layers.3.mlp.up_proj",
            ["text_encoder.layers.3.mlp.up_proj"],
        ),
        ("hidream-i1", "lora_te4_layers_0_mlp_gate_proj", ["text_encoder_4.layers.0.mlp.gate_proj"]),
        (
            "chroma",
            "lora_te3_encoder_block_0_layer_0_SelfAttention_q",
            ["text_encoder.encoder.block.0.layer.0.SelfAttention.q"],
        ),
        ("hunyuan-video-1.5", "lora_unet_double_blocks_0_img_attn_q", ["transformer.transformer_blocks.0.attn.to_q"]),
        (
            "hunyuan-video",
            "transformer.double_blocks.0.img_mlp.fc1",
            ["transformer.transformer_blocks.0.ff.net.0.proj"],
        ),
        ("ideogram-4", "conditional_transformer.layers.0.attention.to_q", ["transformer.layers.0.attention.to_q"]),
        ("anima", "net.llm_adapter.blocks.0.self_attn.q_proj", ["text_conditioner.blocks.0.self_attn.q_proj"]),
        ("wan", "lora_unet__blocks_0_cross_attn_k", ["transformer.blocks.0.attn2.to_k"]),
        ("pixart", "base_model.model.transformer_blocks.0.attn1.to_q", ["transformer.transformer_blocks.0.attn1.to_q"]),
        ("ltx-2", "text_embedding_projection.aggregate_embed", ["connectors.text_proj_in"]),
        (
            "qwen-image-2.1",
            "diffusion_model.transformer_blocks.0.img_mlp.gate_up",
            [f"transformer.transformer_blocks.0.img_mlp.{part}" for part in ("gate_layer", "proj")],
        ),
    ],
)
def test_spellings_of_text_encoders_and_other_cuts(family: str, stem: str, names: list[str]) -> None:
    held = resolve(stem, family)
    assert held is not None and list(held.names) == names


@pytest.mark.parametrize(
    "module", sorted((ROOT / "image").glob("[a-z]*.py")) + sorted((ROOT / "video").glob("[a-z]*.py"))
)
def test_a_family_is_one_short_file(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert "FAMILY = Family(" in text and len(text.splitlines()) < 150
