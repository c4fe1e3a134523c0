"""A VAE of its own: every form that it is shared in, in the place of the base's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file

from loratools.base.load import load_base
from loratools.base.vae import load_vae
from loratools.base.vae_path import find_vae, vae_digest
from loratools.errors import BaseModelError
from tests.base.compvis import to_compvis, write_single_file
from tests.tiny import save_tiny_base


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("bases")
    return save_tiny_base(root / "one"), save_tiny_base(root / "other", seed=5)


def _checkpoint(base: Path, out: Path) -> Path:
    return write_single_file(base, out / "whole.safetensors")


def _bare(base: Path, out: Path) -> Path:
    """A VAE's own file, as the WebUI has them: no prefix, pickled, with what a trainer left in it."""
    names = to_compvis({}, load_file(base / "vae/diffusion_pytorch_model.safetensors"), {})
    state = {name.removeprefix("first_stage_model."): value for name, value in names.items()}
    torch.save({"state_dict": {**state, "loss.logvar": torch.zeros(1)}}, out / "bare.vae.pt")
    return out / "bare.vae.pt"


def _diffusers_file(base: Path, out: Path) -> Path:
    save_file(load_file(base / "vae/diffusion_pytorch_model.safetensors"), out / "d.safetensors")
    return out / "d.safetensors"


@pytest.mark.parametrize("form", [lambda b, o: b, lambda b, o: b / "vae", _checkpoint, _bare, _diffusers_file])
def test_every_form_is_read(form: Callable[[Path, Path], Path], bases: tuple[Path, Path], tmp_path: Path) -> None:
    like = load_base(str(bases[0]), device="cpu", dtype="bf16").vae
    path, random = form(bases[1], tmp_path), torch.get_rng_state()
    vae = load_vae(path, like)
    assert torch.equal(random, torch.get_rng_state()), "a training's random numbers are the caller's"
    wanted = AutoencoderKL.from_pretrained(bases[1] / "vae").to(torch.bfloat16).state_dict()
    assert not vae.training and not any(weight.requires_grad for weight in vae.parameters())
    assert {name: value.flatten().tolist() for name, value in vae.state_dict().items()} == {
        name: value.flatten().tolist() for name, value in wanted.items()
    }
    assert any(not torch.equal(value, like.state_dict()[name]) for name, value in vae.state_dict().items())


def test_what_is_no_vae_of_the_family_is_named(bases: tuple[Path, Path], tmp_path: Path) -> None:
    like = load_base(str(bases[0]), device="cpu").vae
    save_file({"lora.up": torch.zeros(2)}, tmp_path / "lora.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(_diffusers_file(bases[0], tmp_path).read_bytes()[:900])
    wide = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    wide.save_pretrained(tmp_path / "wide")
    for name, message in (
        ("nowhere", "there is no VAE"),
        ("lora.safetensors", "holds no VAE"),
        ("cut.safetensors", "not a complete"),
        ("wide", "has 2 levels, the base's"),
    ):
        with pytest.raises(BaseModelError, match=message):
            load_vae(tmp_path / name, like)


def test_a_hub_id_is_its_own_vae_or_that_of_a_whole_base(
    bases: tuple[Path, Path], hub: Callable[[str, Path], Path]
) -> None:
    like = load_base(str(bases[0]), device="cpu").vae
    own, whole = hub("owner/vae", bases[1] / "vae"), hub("owner/base", bases[1])
    assert find_vae("owner/vae") == own and find_vae(Path("owner/base"), offline=True) == whole / "vae"
    wanted = AutoencoderKL.from_pretrained(bases[1] / "vae").state_dict()
    for name in ("owner/vae", "owner/base"):
        assert all(torch.equal(value, wanted[key]) for key, value in load_vae(name, like).state_dict().items())


def test_a_vae_counts_by_what_loading_reads(
    bases: tuple[Path, Path], tmp_path: Path, hub: Callable[[str, Path], Path]
) -> None:
    first = vae_digest(hub("owner/vae", bases[1] / "vae"))
    assert first == vae_digest(find_vae(bases[1])) != vae_digest(find_vae(bases[0]))
    shutil.copytree(bases[1] / "vae", tmp_path / "mine")
    for name in ("README.md", "diffusion_pytorch_model.bin"):  # what a download may or may not have brought along
        (tmp_path / "mine" / name).touch()
    assert vae_digest(find_vae(tmp_path / "mine")) == first


@pytest.mark.parametrize(
    ("offline", "message"),
    [(True, "'owner/vae' is not whole in the .*offline=True"), (False, r"cannot get the VAE 'owner/vae' .*Error\)")],
)
def test_a_vae_that_the_hub_does_not_give_is_one_sentence(
    offline: bool, message: str, hub: Callable[[str, Path], Path]
) -> None:
    with pytest.raises(BaseModelError, match=message) as caught:
        find_vae("owner/vae", offline=offline)
    assert "\n" not in str(caught.value)
    with pytest.raises(BaseModelError, match=r"there is no VAE 'vae\.ckpt'; .* or a hub id"):
        find_vae("vae.ckpt")


def test_offline_names_the_cache() -> None:
    with pytest.raises(BaseModelError, match="and is not whole in the Hugging Face cache"):
        load_base("nobody/nothing", device="cpu", offline=True)
