"""LoRAs for a model that no table knows: one module under two spellings is one, and other models' are refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.adapter.files.file import read
from loratools.errors import BaseModelError, FormatError
from loratools.ops.analysis.analyze import analyze
from loratools.ops.analysis.suggest import suggest
from loratools.ops.merging.combine import combine
from loratools.ops.merging.merge import into_provenance, merge_files, verify
from loratools.ops.merging.merge_into import merge_into
from loratools.ops.merging.plan import plan
from loratools.ops.merging.terms import Term
from loratools.ops.style_removal import SubtractMethod
from loratools.ops.subtract import subtract_files

ATTENTION = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")
FEED = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
DOTTED = ("diffusion_model.", "transformer.", "", "base_model.model.", "transformer.base_model.model.", "module.")
FLAT = ("lora_unet_", "lora_unet__", "lycoris_")
SIZE = 12


def pair(path: str, out: int = SIZE) -> tuple[Tensor, Tensor]:
    """The same random factors for a path whenever they are asked for."""
    random = torch.Generator().manual_seed(sum(map(ord, path)) + out)
    return torch.randn(2, SIZE, generator=random), torch.randn(out, 2, generator=random)


def spelled(prefix: str, path: str) -> str:
    return prefix + (path.replace(".", "_") if prefix in FLAT else path)


def save(folder: Path, name: str, prefix: str, paths: Sequence[str]) -> Path:
    """A LoRA in kohya's suffixes for flat prefixes and PEFT's for dotted ones."""
    tensors = {}
    ends = ("lora_down.weight", "lora_up.weight") if prefix in FLAT else ("lora_A.weight", "lora_B.weight")
    for path in paths:
        for end, factor in zip(ends, pair(path, 3 * SIZE if "qkv" in path else SIZE), strict=True):
            tensors[f"{spelled(prefix, path)}.{end}"] = factor.clone()
    save_file(tensors, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def layers(parts: Sequence[str], count: int = 2, container: str = "stages") -> list[str]:
    return [f"{container}.{i}.{part}" for i in range(count) for part in parts]


def terms(*files: Path, weights: Sequence[float] = (1, -1, 1)) -> list[Term]:
    return [Term(read(path), weight, label=path.stem) for path, weight in zip(files, weights, strict=False)]


def stems(path: Path) -> set[str]:
    return {key.rsplit(".lora_", 1)[0].removesuffix(".alpha") for key in load_file(path)}


@pytest.mark.parametrize("one", [*DOTTED, *FLAT])
@pytest.mark.parametrize("other", ["diffusion_model.", "lora_unet_"])
def test_a_minus_a_is_zero_in_any_two_spellings(tmp_path: Path, one: str, other: str) -> None:
    paths = layers(ATTENTION)
    files = save(tmp_path, "a", one, paths), save(tmp_path, "b", other, paths)
    combined = combine(terms(*files))
    assert all(combined[name].norm() < 1e-6 for name in combined) and len(combined) == len(paths)
    report = merge_files(terms(*files), tmp_path / "zero.safetensors", dtype=torch.float32)
    assert stems(report.path) == {spelled(one, path) for path in paths}  # one spelling: the first term's
    differ = (
        ["b.safetensors and a.safetensors spell .* a file of the result spells them as a.safetensors"]
        if one != other
        else []
    )
    assert len(report.warnings) == len(differ) == len(plan(terms(*files)).warnings)
    assert all(re.search(pattern, text) for pattern, text in zip(differ, report.warnings, strict=True))
    assert all(block.modules == 4 for block in plan(terms(*files)).rows)
    assert verify(files[1], terms(files[0])).error < 1e-6
    both = analyze(*files).total
    assert both is not None and both.modules == len(paths) and both.cosine == pytest.approx(1)


def test_modules_that_only_another_spelling_has_are_written_in_the_first_ones(tmp_path: Path) -> None:
    flat = save(tmp_path, "flat", "lora_unet_", layers(ATTENTION))
    dotted = save(tmp_path, "dotted", "diffusion_model.", layers((*ATTENTION, *FEED)))
    other = save(tmp_path, "other", "transformer.", layers((*ATTENTION, *FEED)))
    for first, second, prefix in ((flat, dotted, "lora_unet_"), (other, dotted, "transformer.")):
        made = merge_files(terms(first, second), tmp_path / "m.safetensors", force=True)
        assert stems(made.path) == {spelled(prefix, path) for path in layers((*ATTENTION, *FEED))}
        assert verify(made.path, terms(second, first, weights=(-1, 1))).error < 1e-3


def test_underscores_become_the_dots_of_the_same_module_in_other_blocks_or_are_refused(tmp_path: Path) -> None:
    dotted = save(tmp_path, "dotted", "diffusion_model.", layers(ATTENTION, 2))
    longer = save(tmp_path, "longer", "lora_unet_", layers(ATTENTION, 3))
    made = merge_files(terms(dotted, longer), tmp_path / "m.safetensors")
    assert stems(made.path) == {f"diffusion_model.{path}" for path in layers(ATTENTION, 3)}
    wider = save(tmp_path, "wider", "lora_unet_", layers((*ATTENTION, *FEED)))
    with pytest.raises(FormatError, match=r"dotted.safetensors spells .* with dots .* name wider.safetensors first"):
        combine(terms(dotted, wider))
    assert len(combine(terms(wider, dotted))) == len(layers((*ATTENTION, *FEED)))


def test_text_encoders_keep_their_spelling_and_are_matched(tmp_path: Path) -> None:
    text = [f"layers.{i}.self_attn.q_proj" for i in range(2)]
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    network = load_file(save(tmp_path, "n", "lora_unet_", layers(ATTENTION)))
    for path, prefix in ((one, "lora_te_"), (other, "text_encoders.qwen3_06b.transformer.model.")):
        factors = {
            f"{prefix}{name.replace('.', '_') if prefix.startswith('lora') else name}.{end}": factor
            for name in text
            for end, factor in zip(("lora_down.weight", "lora_up.weight"), pair(name), strict=True)
        }
        save_file(network | factors, path)
    combined = combine(terms(one, other))
    assert all(combined[name].norm() < 1e-6 for name in combined) and len(combined) == 10
    assert sum(name.startswith("lora_te_") for name in combined) == 2


def test_a_style_is_subtracted_across_spellings(tmp_path: Path) -> None:
    style = save(tmp_path, "style", "diffusion_model.", layers(ATTENTION))
    base = save(tmp_path, "base", "lora_unet_", layers(ATTENTION))
    for mode in ("direct", "matched", "project"):
        report = subtract_files(terms(style), terms(base), None, method=SubtractMethod(mode, 0.99, "both", 1.0, 9.0))
        assert report.total.cosine == pytest.approx(1) and report.total.removed == pytest.approx(1)
    assert all(block.cosine == pytest.approx(1) for block in suggest(style, base).blocks.values())


# --- other models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ((*ATTENTION, *FEED), ("attention.qkv", "attention.out", *FEED), "attention.qkv .* attention.to_q"),
        (("attention.to_q", *FEED), ("attention.qkv", *FEED), "attention.qkv .* attention.to_q"),
        (("attn.q_proj", *FEED), ("attn.qkv_proj", *FEED), "attn.qkv_proj .* attn.q_proj"),
        (("img_attn_q", *FEED), ("img_attn.qkv", *FEED), "img_attn.qkv .* img_attn_q"),
        (("attn.add_q_proj", *FEED), ("attn.to_added_qkv", *FEED), "to_added_qkv .* add_q_proj"),
        (("cross_attn.k_linear", *FEED), ("cross_attn.kv_linear", *FEED), "kv_linear .* k_linear"),
        (("mlp.gate_proj", *FEED), ("mlp.gate_up_proj", *FEED), "gate_up_proj .* gate_proj"),
        (("attn.to_q", "attn.to_out.0", *FEED), ("attn.to_q", "attn.out", *FEED), "to_out.0 .* attn.out"),
        (("attn.wq", "attn.gate", *FEED), ("attn.wq", "attn.to_gate", *FEED), "attn.gate .* attn.to_gate"),
        (("self_attn.q", *FEED), ("self_attn.q_proj", *FEED), "self_attn.q .* self_attn.q_proj"),
    ],
)
@pytest.mark.parametrize("prefix", ["diffusion_model.", "lora_unet_"])
def test_one_layer_that_is_fused_or_named_otherwise_is_refused(
    tmp_path: Path, one: tuple[str, ...], other: tuple[str, ...], message: str, prefix: str
) -> None:
    first = save(tmp_path, "one", "diffusion_model.", layers(one))
    second = save(tmp_path, "other", prefix, layers(other))
    for ask in (
        lambda: combine(terms(first, second)),
        lambda: combine(terms(second, first)),
        lambda: verify(first, terms(second)),
        lambda: analyze(first, second),
    ):
        with pytest.raises(FormatError, match="spell one model's modules differently"):
            ask()
    if prefix == "diffusion_model.":
        with pytest.raises(FormatError, match=message.replace(" .* ", ".*")):
            combine(terms(first, second))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("mlp.proj", "mlp.gate", "attn.to_q"), ("mlp.out", "mlp.gate", "attn.to_q")),  # two layers, no attention
        (("attn.to_q", "attn.norm_q"), ("attn.to_q", "attn.q_norm")),
        (("cross_attn.k", "cross_attn.v"), ("cross_attn.k", "cross_attn.k_img", "cross_attn.v")),
        (("attn.qkv", "attn.to_q"), ("attn.qkv", "attn.proj")),  # both have the fused one
        (ATTENTION, (*ATTENTION, *FEED)),
    ],
)
def test_what_one_model_may_have_in_two_files_is_merged(
    tmp_path: Path, one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    files = save(tmp_path, "one", "diffusion_model.", layers(one)), save(tmp_path, "b", "lora_unet_", layers(other))
    combine(terms(*reversed(files)))


def test_files_that_share_a_few_names_by_accident_are_refused(tmp_path: Path) -> None:
    qwen = layers(("attn.to_q", "attn.to_k", "img_mlp.net.0.proj", "img_mlp.net.2"), 9, "transformer_blocks")
    flux2 = layers(("attn.to_q", "attn.to_k", "ff.linear_in", "ff.linear_out"), 2, "transformer_blocks")
    flux2 += layers(("attn.to_qkv_mlp_proj",), 4, "single_transformer_blocks")
    outer = ["x_embedder", *layers(ATTENTION)], ["x_embedder", *layers(("self_attn.q",), 4, "blocks")]
    for one, other in ((qwen, flux2), outer):
        files = save(tmp_path, "a", "transformer.", one), save(tmp_path, "b", "transformer.", other)
        with pytest.raises(FormatError, match=r"have only \d of \d+ modules in common: they are for different models"):
            combine(terms(*files))


def test_a_shared_text_encoder_does_not_make_one_model(tmp_path: Path) -> None:
    text = load_file(save(tmp_path, "t", "lora_te1_text_model.encoder.", layers(("mlp.fc1",), 12)))
    files = []
    for name, paths in (("a", layers(ATTENTION)), ("b", layers(("self_attn.q",), 2, "blocks"))):
        path = save(tmp_path, name, "lora_unet_", paths)
        save_file(load_file(path) | text, path)
        files.append(path)
    with pytest.raises(FormatError, match="have no module in common"):
        combine(terms(*files))


@pytest.mark.parametrize(
    ("prefix", "one", "other"),
    [
        ("diffusion_model.", "layers.0.q", "blocks.0.q"),
        ("lora_unet_", "mid_block.attentions.0.proj_in", "mid_block.attentions.0.proj_out"),
    ],
)
def test_comparing_files_without_a_common_module_is_an_error(tmp_path: Path, prefix: str, one: str, other: str) -> None:
    files = save(tmp_path, "a", prefix, [one]), save(tmp_path, "b", prefix, [other])
    for ask in (lambda: verify(files[0], terms(files[1])), lambda: analyze(*files), lambda: suggest(*files)):
        with pytest.raises(FormatError, match="no module in common"):
            ask()


# --- bases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", ["diffusion_model.", "lora_unet_", ""])
@pytest.mark.parametrize("base", ["", "model.diffusion_model.", "diffusion_model.", "transformer.", "model."])
def test_a_base_is_matched_by_path(tmp_path: Path, lora: str, base: str) -> None:
    paths = layers(("attn.to_gate",))
    weights = {f"{base}{path}.weight": torch.randn(SIZE, SIZE) for path in paths}
    save_file(weights, tmp_path / "base.safetensors")
    adapter = read(save(tmp_path, "a", lora, paths))
    out = tmp_path / "o.safetensors"
    added = combine([Term(adapter, 1.0, label="a")])
    report = merge_into(added, tmp_path / "base.safetensors", out, provenance=into_provenance(added.terms, out, "t"))
    assert report.modules == 2
    for key, weight in load_file(out).items():
        down, up = pair(key.removeprefix(base).removesuffix(".weight"))
        assert torch.allclose(weight, weights[key] + up @ down, atol=1e-5)
    dora = load_file(adapter.path) | {f"{spelled(lora, path)}.dora_scale": torch.rand(SIZE, 1) for path in paths}
    save_file(dora, tmp_path / "dora.safetensors")
    decomposed = read(tmp_path / "dora.safetensors", open_checkpoint(tmp_path / "base.safetensors"))
    assert all(decomposed[name].norm() > 0 for name in decomposed)


def test_a_base_that_has_a_module_twice_or_not_is_refused(tmp_path: Path) -> None:
    adapter = read(save(tmp_path, "a", "lora_unet_", ["layers.0.q"]))
    added = combine([Term(adapter, 1.0, label="a")])
    both = "two parameters that may be 'lora_unet_layers_0_q.weight': 'model.diffusion_model.layers.0.q.weight' and"
    for name, keys, message in (
        ("twice", ("model.diffusion_model.layers.0.q", "transformer.layers.0.q"), both),
        ("other", ("l.0.q",), r"lacks 1 modules .* was trained on \(this one names them as in l.0.q\)"),
    ):
        save_file({f"{key}.weight": torch.randn(SIZE, SIZE) for key in keys}, tmp_path / f"{name}.safetensors")
        made = into_provenance(added.terms, tmp_path / f"{name}.safetensors", "t")
        with pytest.raises(BaseModelError, match=message):
            merge_into(added, tmp_path / f"{name}.safetensors", tmp_path / "o.safetensors", provenance=made)


def test_a_suggested_vector_names_its_blocks(tmp_path: Path) -> None:
    files = (save(tmp_path, name, prefix, layers(ATTENTION)) for name, prefix in (("a", "lora_unet_"), ("b", "")))
    text = suggest(*files).text().splitlines()
    assert text[-1] == "GP2 that removes the base's part and no more: stages.00=1,stages.01=1"
