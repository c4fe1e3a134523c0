"""Base models by canonical parameter name, in every container."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from loratools.adapter.architectures.compvis import views_of
from loratools.adapter.architectures.names import FAMILIES, module_tree
from loratools.adapter.files.checkpoint import open_checkpoint
from loratools.errors import BaseModelError, FileError, FormatError, LoratoolsError
from tests.base.compvis import write_single_file
from tests.tiny import save_tiny_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


def test_a_single_file_a_pickle_and_a_folder_hold_the_same_tensors(folder: Path, tmp_path: Path) -> None:
    single = write_single_file(folder, tmp_path / "one.safetensors")
    torch.save({"state_dict": load_file(single), "step": 3}, tmp_path / "one.ckpt")
    whole = open_checkpoint(folder)
    assert whole.family == "sd1"
    assert "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight" in whole
    assert "text_encoder.text_model.encoder.layers.0.mlp.fc1.bias" in whole
    unet = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    assert {f"unet.{key}" for key in unet} <= set(whole)
    for path in (single, tmp_path / "one.ckpt"):
        other = open_checkpoint(path)
        assert other.family == "sd1"
        assert set(other) == set(whole)
        for name in whole:
            assert other.shapes[name] == tuple(other[name].shape)
            assert torch.equal(other[name].reshape(whole[name].shape), whole[name]), name


def test_all_parts_of_a_variant_are_read(tmp_path: Path) -> None:
    """What a download of ``variant="fp16"`` leaves: parts of one variant, and perhaps another's."""
    (tmp_path / "transformer").mkdir()
    for number in (1, 2):
        for variant in ("fp16", "non_ema"):
            name = f"diffusion_pytorch_model.{variant}-{number:05d}-of-00002.safetensors"
            save_file({f"{variant}.{number}.weight": torch.zeros(2)}, tmp_path / "transformer" / name)
    assert set(open_checkpoint(tmp_path)) == {"transformer.fp16.1.weight", "transformer.fp16.2.weight"}


def test_every_module_of_every_family_has_an_original_name() -> None:
    from loratools.adapter.architectures.compvis import _unet_names

    for family in FAMILIES:
        table = _unet_names(family)
        for module in module_tree(family):
            component, _, path = module.name.partition(".")
            if component == "unet":
                known = [original for original, name in table.items() if f"{path}.".startswith(f"{name}.")]
                best = max(known, key=lambda original: len(table[original]))
                key = f"model.diffusion_model.{best}{path.removeprefix(table[best])}.weight"
                assert [part.name for part in views_of(key, family)] == [f"{module.name}.weight"]


def open_clip(layers: int, width: int = 6) -> dict[str, Tensor]:
    """OpenCLIP's text tower under its own names."""
    torch.manual_seed(0)
    tower = {
        "token_embedding.weight": torch.randn(9, width),
        "text_projection": torch.randn(width, 4),
        "positional_embedding": torch.randn(7, width),
        "ln_final.weight": torch.randn(width),
        "logit_scale": torch.tensor(1.0),
    }
    for layer in range(layers):
        stem = f"transformer.resblocks.{layer}."
        tower |= {
            f"{stem}attn.in_proj_weight": torch.randn(3 * width, width),
            f"{stem}attn.in_proj_bias": torch.randn(3 * width),
            f"{stem}mlp.c_fc.weight": torch.randn(8, width),
            f"{stem}attn.out_proj.weight": torch.randn(width, width),
        }
    return tower


@pytest.mark.parametrize(
    ("family", "prefix", "component"),
    [("sd2", "cond_stage_model.model.", "text_encoder"), ("sdxl", "conditioner.embedders.1.model.", "text_encoder_2")],
)
def test_fused_projections_are_split(tmp_path: Path, family: str, prefix: str, component: str) -> None:
    tower = open_clip(2)
    file = {f"{prefix}{key}": value for key, value in tower.items()}
    file["model.diffusion_model.input_blocks.4.1.proj_in.weight"] = torch.randn(4, 4)
    file["first_stage_model.x"] = torch.randn(2)
    save_file(file, tmp_path / "b.safetensors", {"modelspec.title": "b"})
    checkpoint = open_checkpoint(tmp_path / "b.safetensors")
    assert (checkpoint.family, checkpoint.metadata) == (family, {"modelspec.title": "b"})
    fused = tower["transformer.resblocks.1.attn.in_proj_weight"]
    for third, letter in enumerate("qkv"):
        name = f"{component}.text_model.encoder.layers.1.self_attn.{letter}_proj.weight"
        assert torch.equal(checkpoint[name], fused[6 * third : 6 * third + 6])
        assert checkpoint.shapes[name] == (6, 6)
        assert checkpoint.locations[name].view.third == third
    assert torch.equal(checkpoint[f"{component}.text_projection.weight"], tower["text_projection"].T)
    assert checkpoint.shapes[f"{component}.text_projection.weight"] == (4, 6)
    assert torch.equal(
        checkpoint["unet.down_blocks.1.attentions.0.proj_in.weight"],
        file["model.diffusion_model.input_blocks.4.1.proj_in.weight"],
    )
    assert not any("first_stage" in name or "logit" in name for name in checkpoint)


def test_other_trees_keep_their_names(folder: Path, tmp_path: Path) -> None:
    save_file({"some.layer.weight": torch.ones(2, 3)}, tmp_path / "own.safetensors")
    own = open_checkpoint(tmp_path / "own.safetensors")
    assert (own.family, list(own)) == (None, ["some.layer.weight"])
    unet = open_checkpoint(folder / "unet/diffusion_pytorch_model.safetensors")
    assert unet.family == "sd1"
    assert all(name.startswith("unet.") for name in unet)


def test_what_is_no_base_is_named(tmp_path: Path) -> None:
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 3)}, tmp_path / "lora.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 40)
    torch.save({"state_dict": {"x": Path("x")}}, tmp_path / "code.ckpt")
    for name, kind, message in (
        ("lora.safetensors", BaseModelError, "is a LoRA"),
        ("empty", BaseModelError, r"no Diffusers folder.*model_index\.json"),
        ("cut.ckpt", BaseModelError, "cut off"),
        ("code.ckpt", BaseModelError, "could run code"),
        ("cut.safetensors", FormatError, "not a safetensors file|truncated"),
        ("none.safetensors", FileError, "does not exist"),
        ("none.ckpt", FileError, "does not exist"),
    ):
        with pytest.raises(kind, match=message):
            open_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html><title>Sign in</title>", r"is a web page \('Sign in'\)"),
        (b'{"message": "log in first"}', "is JSON, .*'log in first'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git-LFS pointer"),
    ],
)
@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
def test_what_is_no_model_is_called_what_it_is(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoratoolsError, match=message):
        open_checkpoint(tmp_path / name)
