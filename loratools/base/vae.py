"""Another VAE in the place of the base's own: a Diffusers folder, a single file as for the WebUI, or a hub id."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.architectures.vae_names import VAE, is_vae_attention, original_vae_names
from loratools.adapter.files.checkpoint import read_pickle
from loratools.base import single_file
from loratools.base.model import Base
from loratools.base.quiet import quiet
from loratools.base.to_device import upload
from loratools.base.vae_path import find_vae, vae_digest, vae_files
from loratools.errors import BaseModelError

_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


def load_vae(name: str | Path, like: Any, *, offline: bool = False) -> Any:
    """The VAE ``name`` for inference (eval mode, no gradients), on the device and in the dtype of ``like``.

    Args:
        name, offline: as for :func:`loratools.base.vae_path.find_vae`; a single file has CompVis' key names or
            Diffusers'.
        like: the VAE that it replaces.
    Raises:
        BaseModelError: if it cannot be found or read, or has latents of another shape than ``like``.
    """
    path = find_vae(name, offline=offline)
    with quiet():
        vae = _from_folder(path) if path.is_dir() else _from_file(path, like)
    for what, actual, expected in (
        ("latent channels", vae.config.latent_channels, like.config.latent_channels),
        ("levels", len(vae.config.block_out_channels), len(like.config.block_out_channels)),
    ):
        if actual != expected:
            raise BaseModelError(
                f"the VAE {name} has {actual} {what}, the base's has {expected}; give one of its family"
            )
    weight = next(like.parameters())
    return vae.to(weight.device, weight.dtype).eval().requires_grad_(False)


def use_vae(base: Base, name: str | Path, *, offline: bool = False) -> None:
    """Put the VAE at ``name`` in the place of the one that ``base`` has.

    Args:
        offline: as for :func:`load_vae`.
    Raises:
        BaseModelError: as :func:`load_vae`.
    """
    path = find_vae(name, offline=offline)
    base.vae, base.vae_digest = load_vae(path, base.vae), vae_digest(path)


def checkpoint_tensors(path: Path) -> dict[str, torch.Tensor]:
    """A VAE's tensors as a checkpoint in one file has them: by their original names, in their own number types.

    Args:
        path: what :func:`loratools.base.vae_path.find_vae` returns.
    Raises:
        BaseModelError: if it cannot be read, or holds no VAE.
    """
    tensors = _tensors(path) if path.is_file() else _folder_tensors(path)
    if not any(".down_blocks." in name for name in tensors):
        return {f"{VAE}{name}": tensor for name, tensor in tensors.items() if name.startswith(_PARTS)}
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(_PARTS)}
    return {
        key: own[name][..., None, None] if is_vae_attention(name) and own[name].dim() == 2 else own[name]
        for name, key in original_vae_names(own).items()
    }


def encode(vae: Any, pixels: torch.Tensor, *, gradients: bool = False) -> Any:
    """The posterior of pictures (b, 3, h, w) in -1..1, on the VAE's device: ``mean`` and ``std`` (b, 4, h / 8, w / 8),
    not yet multiplied by the VAE's scaling factor; with ``gradients`` it can be differentiated by the pictures."""
    weight = next(vae.parameters())
    with torch.set_grad_enabled(gradients):
        return vae.encode(upload(pixels, weight.device).to(weight.dtype)).latent_dist


def _from_folder(path: Path) -> Any:
    from diffusers import AutoencoderKL

    try:
        return AutoencoderKL.from_pretrained(path, local_files_only=True)
    except Exception as error:  # diffusers, safetensors and torch raise a dozen types for damaged files
        raise _unreadable(path, error) from error


def _from_file(path: Path, like: Any) -> Any:
    from diffusers import AutoencoderKL

    tensors = _tensors(path)
    if any(".down_blocks." in key for key in tensors):
        with torch.random.fork_rng(devices=[]):  # a caller's random numbers stay as they are
            model = AutoencoderKL.from_config(like.config)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise _unreadable(path, error) from error
        return model
    with tempfile.TemporaryDirectory() as folder:  # from_single_file takes configs only as a folder
        like.save_config(Path(folder) / "vae")
        try:
            return AutoencoderKL.from_single_file(
                {f"{single_file.VAE}{key}": value for key, value in tensors.items()},
                config=folder,
                subfolder="vae",
                torch_dtype=torch.float32,
                local_files_only=True,
            )
        except (ValueError, RuntimeError, KeyError, IndexError, OSError, AttributeError) as error:
            raise _unreadable(path, error) from error


def _folder_tensors(path: Path) -> dict[str, torch.Tensor]:
    files = vae_files(path)[1:]
    usual = [file for file in files if file.stem == "diffusion_pytorch_model"] or files
    if not usual:
        raise BaseModelError(f"{path} holds no weights; download the folder again")
    return _tensors(usual[0])


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """The VAE's tensors, without the prefix that they have in a full checkpoint."""
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        single_file.read_shapes(path)
        state = dict(load_file(path))
    else:
        state = read_pickle(path)
    own = {key.removeprefix(single_file.VAE): value for key, value in state.items() if key.startswith(single_file.VAE)}
    own = own or {key: value for key, value in state.items() if not key.startswith(("loss.", "model_ema."))}
    if "encoder.conv_in.weight" not in own:
        raise BaseModelError(
            f"{path} holds no VAE; give a VAE's file, a checkpoint that has one, or a Diffusers folder"
        )
    return own


def _unreadable(path: Path, error: Exception) -> BaseModelError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BaseModelError(f"cannot load the VAE {path} ({reason}); is it whole, and of the base's family?")
