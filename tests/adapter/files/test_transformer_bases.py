"""Checkpoints of declared transformers: by the original network's names, by Diffusers', and stored as scaled fp8."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from loratools.adapter.algebra.rank import Exact
from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.adapter.files.file import read
from loratools.blocks.presets import load_presets
from loratools.errors import BaseModelError, FormatError, NeedsBaseError
from loratools.ops.extract import extract_files
from loratools.ops.merging.combine import combine
from loratools.ops.merging.merge import into_provenance
from loratools.ops.merging.merge_into import merge_into
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from tests.families import Asked, error, header, network, opened, sizes, spelled, weights
from tests.loras import save

FAMILIES = ("z-image", "lumina-2", "hunyuan-video", "wan", "chroma")


def terms(text: str, base: object = None) -> list[Term]:
    return resolve_terms(parse_merge_string(text), presets=load_presets(), base=base)  # type: ignore[arg-type]


def into(folder: Path, base: Path, asked: list[Term]) -> Path:
    """The base with a sum added to it."""
    return merge_into(
        combine(asked), base, folder / "out.safetensors", provenance=into_provenance(asked, base, "a test")
    ).path


def original(family: str, blocks: int = 1) -> dict[str, Tensor]:
    """A narrow checkpoint of the original network's first blocks, as ComfyUI names its tensors."""
    from loratools.adapter.architectures.block_transformer import stored_shape

    generator = torch.Generator().manual_seed(5)
    return {
        f"model.diffusion_model.{weight.originals[0]}.weight": torch.randn(
            stored_shape(weight.weight, sizes(family)), generator=generator
        )
        for weight in weights(family)
        if weight.stored and not weight.weight.component and (weight.outer or _number(weight.originals[0]) < blocks)
    }


def _number(path: str) -> int:
    return next((int(part) for part in path.split(".") if part.isdigit()), 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merge_into_the_original_network_adds_to_every_row(tmp_path: Path, family: str) -> None:
    """Rows of q, k and v, in equal and unequal parts, in one matrix of the checkpoint."""
    before = original(family)
    base = save(tmp_path / "base.safetensors", before)
    assert open_checkpoint(base).family == family
    lora = spelled(family, "diffusers", blocks=1, apart=True)
    file = save(tmp_path / "lora.safetensors", lora.tensors, header(family))
    into(tmp_path, base, terms(f"{file}:0.5", open_checkpoint(base)))
    after = load_file(tmp_path / "out.safetensors")
    for weight in weights(family):
        key = f"model.diffusion_model.{weight.originals[0]}.weight"
        if key not in before or weight.norm or weight.fused.names[0] not in lora.deltas:
            continue
        wanted = before[key].double() + 0.5 * torch.cat([lora.deltas[name] for name in weight.fused.names])
        assert torch.allclose(after[key].double(), wanted, atol=1e-5)
    assert after.keys() == before.keys()


def test_halves_that_change_places_are_written_where_they_stand(tmp_path: Path) -> None:
    before = original("hunyuan-video")
    base = save(tmp_path / "base.safetensors", before)
    key, name = "model.diffusion_model.final_layer.adaLN_modulation.1", "transformer.norm_out.linear"
    rows, columns = before[f"{key}.weight"].shape
    up, down = torch.randn(rows, 1), torch.randn(1, columns)
    tensors = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    file = save(tmp_path / "lora.safetensors", tensors, header("hunyuan-video"))
    into(tmp_path, base, terms(f"{file}:1"))
    added = load_file(tmp_path / "out.safetensors")[f"{key}.weight"] - before[f"{key}.weight"]
    swapped = torch.cat([(up @ down)[rows // 2 :], (up @ down)[: rows // 2]])
    assert torch.allclose(added, swapped, atol=1e-5)


def test_a_difference_of_two_original_checkpoints_is_a_lora(tmp_path: Path) -> None:
    before, lora = original("lumina-2"), spelled("lumina-2", "comfy", blocks=1)
    after = dict(before)
    for weight in weights("lumina-2"):
        key = f"model.diffusion_model.{weight.originals[0]}.weight"
        if weight.fused.names[0] in lora.deltas:
            after[key] = before[key] + torch.cat([lora.deltas[name] for name in weight.fused.names]).float()
    paths = [save(tmp_path / f"{name}.safetensors", one) for name, one in (("a", before), ("b", after))]
    extract_files(paths[0], paths[1], tmp_path / "out.safetensors", rule=Exact(), dtype=torch.float32)
    found = read(tmp_path / "out.safetensors")
    assert found.family == "lumina-2" and error(found, lora.deltas) < 1e-4


def test_a_lora_on_another_family_s_base_is_refused(tmp_path: Path) -> None:
    base = save(tmp_path / "wan.safetensors", original("wan"))
    lora, _ = opened(tmp_path, "z-image", "kohya", blocks=1)
    with pytest.raises(BaseModelError, match="is wan and the LoRA is for z-image"):
        into(tmp_path, base, terms(f"{lora.path}:1"))


def fp8(tensors: dict[str, Tensor], scale: float = 0.25) -> dict[str, Tensor]:
    """The same weights as ComfyUI stores them scaled."""
    stored: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if value.dim() == 2:
            stored[key] = (value / scale).to(torch.float8_e4m3fn)
            stored[key.replace(".weight", ".scale_weight")] = torch.tensor(scale)
        else:
            stored[key] = value
    return stored


def test_a_base_of_scaled_fp8_is_read_by_its_scales_and_not_written_into(tmp_path: Path) -> None:
    plain = original("z-image")
    base = save(tmp_path / "fp8.safetensors", fp8(plain))
    checkpoint = open_checkpoint(base)
    weight = checkpoint["transformer.layers.0.attention.to_k.weight"]
    wanted = plain["model.diffusion_model.layers.0.attention.qkv.weight"].chunk(3)[1]
    assert weight.dtype == torch.float32 and (weight - wanted).abs().max() < 0.07 * wanted.abs().max()
    lora, _ = opened(tmp_path, "z-image", "kohya", blocks=1)
    with pytest.raises(BaseModelError, match=r"fp8 numbers with scales.*bf16 or fp16"):
        into(tmp_path, base, terms(f"{lora.path}:1"))


def test_a_lora_of_scaled_fp8_is_refused_and_a_plain_one_is_read(tmp_path: Path) -> None:
    asked = spelled("z-image", "comfy", blocks=1)
    low = {key: value.to(torch.float8_e4m3fn) for key, value in asked.tensors.items()}
    deltas = _dense(low)
    plain = read(save(tmp_path / "plain.safetensors", low, header("z-image")))
    layer = "transformer.layers.0.feed_forward.w1"
    assert torch.allclose(plain[layer].dense().double(), deltas["diffusion_model.layers.0.feed_forward.w1"], atol=1e-5)
    scaled = low | {"diffusion_model.layers.0.attention.qkv.lora_A.scale_weight": torch.tensor(2.0)}
    for allow in (False, True):
        with pytest.raises(FormatError, match=r"fp8 numbers with scales.*export it again"):
            read(save(tmp_path / "scaled.safetensors", scaled), allow_unknown=allow)


def _dense(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    stems = {key.split(".lora_")[0] for key in tensors}
    return {s: tensors[f"{s}.lora_B.weight"].double() @ tensors[f"{s}.lora_A.weight"].double() for s in stems}


# --- weights that take the place of the base's, and layers that are made wider ---------------------------------------


def test_a_weight_that_replaces_the_base_s_is_its_difference(tmp_path: Path) -> None:
    base = save(tmp_path / "base.safetensors", original("z-image"))
    before = open_checkpoint(base)
    asked = spelled("z-image", "comfy", blocks=1)
    norm, matrix = torch.randn(4), torch.randn(96, 256)
    more = {
        "diffusion_model.layers.0.attention.q_norm.set_weight": norm,
        "diffusion_model.noise_refiner.0.adaLN_modulation.0.set_weight": matrix,
    }
    own = {key: value for key, value in asked.tensors.items() if "noise_refiner.0.adaLN" not in key}
    file = save(tmp_path / "lora.safetensors", own | more, header("z-image"))
    with pytest.raises(NeedsBaseError, match=r"replaces 2 of the base's own weights \(set_weight\)"):
        read(file)
    found = read(file, before)
    assert torch.equal(
        found["transformer.layers.0.attention.norm_q.weight"].dense(torch.float32),
        norm - before["transformer.layers.0.attention.norm_q.weight"],
    )
    name = "transformer.noise_refiner.0.adaLN_modulation.0"
    assert torch.allclose(found[name].dense(torch.float32), matrix - before[f"{name}.weight"])


def test_a_layer_that_is_made_wider_is_refused_by_name(tmp_path: Path) -> None:
    asked = spelled("z-image", "comfy", blocks=1)
    wide = {"diffusion_model.x_embedder.reshape_weight": torch.tensor([24, 128])}
    file = save(tmp_path / "control.safetensors", asked.tensors | wide, header("z-image"))
    with pytest.raises(FormatError, match=r"makes a layer of the base wider.*`drop=diffusion_model.x_embedder\.\*`"):
        read(file)
    assert error(read(file, drop=("diffusion_model.x_embedder.*",)), asked.deltas) < 1e-6


# --- files in parts ---------------------------------------------------------------------------------------------------


def test_a_file_with_blocks_missing_adds_what_it_has(tmp_path: Path) -> None:
    whole, part = spelled("wan", "kohya", blocks=3), spelled("wan", "comfy", seed=1, blocks=3)
    kept = Asked({key: value for key, value in part.tensors.items() if ".1." not in key}, part.factors)
    paths = [
        save(tmp_path / f"{name}.safetensors", one.tensors, header("wan")) for name, one in (("a", whole), ("b", kept))
    ]
    from loratools.ops.merging.merge import merge_in_memory

    merged = merge_in_memory(terms(f"{paths[0]}:1,{paths[1]}:2"), rule=Exact(), dtype=torch.float32)
    lost = f"transformer.{network('wan').containers[0].name}.1."
    asked = {
        name: delta + (0 if name.startswith(lost) else 2) * part.deltas[name] for name, delta in whole.deltas.items()
    }
    assert error(merged, asked) < 1e-6


def test_two_halves_of_a_model_are_told(tmp_path: Path) -> None:
    from loratools.ops.merging.merge import merge_files, plan

    tensors = spelled("wan", "kohya", blocks=1).tensors
    for name in ("style_high_noise", "style_low_noise", "other-HighNoise", "plain"):
        save(tmp_path / f"{name}.safetensors", tensors, header("wan"))
    here = tmp_path
    (warning,) = plan(terms(f"{here}/style_high_noise:1,{here}/style_low_noise:1")).warnings
    assert "noise" in warning and "high in style_high_noise" in warning and "low in style_low_noise" in warning
    same = merge_files(
        terms(f"{here}/style_high_noise:1,{here}/other-HighNoise:1"), here / "sum.safetensors", dtype=torch.float32
    )
    assert not same.warnings and read(same.path).metadata["loratools_noise"] == "high"
    assert plan(terms(f"{here}/sum:1,{here}/style_low_noise:1")).warnings
    assert not plan(terms(f"{here}/style_high_noise:1,{here}/plain:1")).warnings


def test_a_diffusers_folder_of_a_transformer_is_told_apart_and_not_merged_into(tmp_path: Path) -> None:
    folder = tmp_path / "model/transformer"
    folder.mkdir(parents=True)
    before = open_checkpoint(save(tmp_path / "base.safetensors", original("z-image")))
    save(
        folder / "diffusion_pytorch_model.safetensors",
        {name.removeprefix("transformer."): before[name].contiguous() for name in before},
    )
    assert open_checkpoint(tmp_path / "model").family == "z-image"
    lora, asked = opened(tmp_path, "z-image", "kohya", blocks=1)
    with pytest.raises(BaseModelError, match=r"a folder becomes one file.*one \.safetensors file"):
        into(tmp_path, tmp_path / "model", terms(f"{lora.path}:1"))
    single = folder / "diffusion_pytorch_model.safetensors"
    out = load_file(into(tmp_path, single, terms(f"{lora.path}:1")))
    name = "layers.0.attention.to_k"
    change = out[f"{name}.weight"] - before[f"transformer.{name}.weight"]
    assert torch.allclose(change.double(), asked[f"transformer.{name}"], atol=1e-5)
