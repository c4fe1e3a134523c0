"""Look-alikes of Flux.1 as files: every kind of pair tells its shape, and no header claims more than is known."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from loratools.adapter.architectures.header_words import MODEL, UNCERTAIN
from loratools.adapter.files.file import read
from loratools.ops.convert import convert
from loratools.ops.resize import resize_file
from tests.loras import save

W = 16


def lora(out: int, columns: int) -> dict[str, Tensor]:
    return {"lora_down.weight": torch.randn(2, columns), "lora_up.weight": torch.randn(out, 2)}


def lokr(out: int, columns: int) -> dict[str, Tensor]:
    return {"lokr_w1": torch.randn(out // 4, 1), "lokr_w2_a": torch.randn(4, 2), "lokr_w2_b": torch.randn(2, columns)}


def loha(out: int, columns: int) -> dict[str, Tensor]:
    return {
        f"hada_w{side}_{part}": torch.randn(*((out, 2) if part == "a" else (2, columns)))
        for side in "12"
        for part in "ab"
    }


def full(out: int, columns: int) -> dict[str, Tensor]:
    return {"diff": torch.randn(out, columns)}


KINDS = [lora, lokr, loha, full]


def file(path: Path, kind: object, modules: Mapping[str, tuple[int, int]], **words: str) -> Path:
    tensors = {}
    for stem, (rows, columns) in modules.items():
        pair = kind(rows * W, columns * W)  # type: ignore[operator]
        tensors |= {f"{stem}.{suffix}": tensor for suffix, tensor in pair.items()}
    return save(path, tensors, words)


def header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as opened:
        return dict(opened.metadata())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("stem", "flux1", "flux2"),
    [
        ("lycoris_single_blocks_0_linear1", (7, 1), (9, 1)),
        ("single_blocks.0.linear2", (1, 5), (1, 4)),
        ("lora_unet_double_blocks_0_img_mlp_0", (4, 1), (6, 1)),
        ("diffusion_model.double_blocks.0.txt_mlp.2", (1, 4), (1, 3)),
    ],
)
def test_every_kind_of_pair_tells_flux_2(
    tmp_path: Path, kind: object, stem: str, flux1: tuple[int, int], flux2: tuple[int, int]
) -> None:
    one, two = (
        file(tmp_path / "1.safetensors", kind, {stem: flux1}),
        file(tmp_path / "2.safetensors", kind, {stem: flux2}),
    )
    assert read(one).family == "flux"
    assert (read(two).family, read(two).identity.model) == ("flux2", "flux2")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_pair_tells_the_width_of_the_prompt(tmp_path: Path, kind: object) -> None:
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    for width, family in ((768, "sd1"), (1024, "sd2"), (2048, "sdxl")):
        assert read(file(tmp_path / "a.safetensors", kind, {stem: (1, width // W)})).family == family


def test_an_uncertain_file_never_gets_a_header_of_flux_1(tmp_path: Path) -> None:
    source = file(tmp_path / "a.safetensors", lora, {"lora_unet_double_blocks_0_img_attn_proj": (1, 1)})
    there = convert(source, tmp_path / "b.safetensors", style="diffusers").path
    back = convert(there, tmp_path / "c.safetensors", style="kohya").path
    small = resize_file(read(source), tmp_path / "d.safetensors").stored.path
    for path in (there, back, small):
        assert header(path)[MODEL] == UNCERTAIN
        assert not {"modelspec.architecture", "ss_base_model_version", "ss_v2"} & set(header(path))
        assert list(read(path)) == list(read(source)) and read(path).identity.uncertain


@pytest.mark.parametrize("word", ["modelspec.architecture", "ss_base_model_version"])
def test_chroma_stays_chroma_whichever_word_said_so(tmp_path: Path, word: str) -> None:
    modules = {"lora_unet_double_blocks_0_img_attn_proj": (1, 1)}
    source = file(tmp_path / "a.safetensors", lora, modules, **{word: "chroma"})
    written = convert(source, tmp_path / "b.safetensors", style="kohya")
    assert written.family == "chroma" and header(written.path)[word] == "chroma"
    assert not any("flux" in text for key, text in header(written.path).items() if key != "loratools")
    assert read(written.path).identity.model == "chroma"


def test_flux_1_keeps_its_header(tmp_path: Path) -> None:
    modules = {"lora_unet_double_blocks_0_img_mlp_0": (4, 1)}
    stated = file(tmp_path / "a.safetensors", lora, modules, ss_base_model_version="flux1")
    modulated = file(tmp_path / "b.safetensors", lora, modules | {"lora_unet_double_blocks_0_img_mod_lin": (6, 1)})
    for source in (stated, modulated):
        texts = header(convert(source, tmp_path / "c.safetensors", style="kohya", force=True).path)
        assert (texts["modelspec.architecture"], texts["ss_base_model_version"]) == ("flux-1-dev/lora", "flux1")
        assert MODEL not in texts


def test_a_wrong_word_is_not_carried_on(tmp_path: Path) -> None:
    words = {"ss_base_model_version": "flux1", "modelspec.architecture": "flux-1-dev/lora", "ss_epoch": "3"}
    source = file(tmp_path / "a.safetensors", lora, {"double_blocks.0.img_mlp.0": (6, 1)}, **words)
    texts = header(resize_file(read(source), tmp_path / "b.safetensors").stored.path)
    assert not {"modelspec.architecture", "ss_base_model_version"} & set(texts) and texts["ss_epoch"] == "3"


def test_the_architecture_is_of_the_variant_that_the_header_states(tmp_path: Path) -> None:
    cross = {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (1, 1)}
    feed = {"lora_unet_double_blocks_0_img_mlp_0": (4, 1)}
    for modules, words, architecture in (
        (cross, {"ss_base_model_version": "sd_v2_v"}, "stable-diffusion-v2-768-v/lora"),
        (cross, {"ss_base_model_version": "sd_v2"}, "stable-diffusion-v2-512/lora"),
        (feed, {"ss_base_model_version": "flux1", "ss_sd_model_name": "flux1-schnell.safetensors"}, None),
        (feed, {"ss_base_model_version": "flux1", "ss_sd_model_name": "flux1-dev.safetensors"}, "flux-1-dev/lora"),
    ):
        source = file(tmp_path / "a.safetensors", lora, modules, **words)
        texts = header(convert(source, tmp_path / "b.safetensors", style="kohya", force=True).path)
        assert texts.get("modelspec.architecture") == architecture
