"""A full training's result as a Diffusers folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loratools import files
from loratools.adapter.files.checkpoint import Checkpoint
from loratools.base.base_path import base_digest
from loratools.base.model import Base
from loratools.base.vae_path import vae_files
from loratools.errors import FileError

MARK = "loratools_run.json"  # in the folder: how it was made, and who may overwrite it
_WEIGHTS = {"unet": "diffusion_pytorch_model.safetensors"}  # text encoders: transformers' name
_WHOLE_MODELS = (".safetensors", ".ckpt", ".bin", ".pt", ".gguf")  # beside a folder's parts: the same model as one file
_PIPELINES = {"sdxl": "StableDiffusionXLPipeline"}


def guard_folder(path: Path, owner: str, force: bool) -> None:
    """Let a write go on if ``path`` is free, was written by ``owner``, or ``force`` is given.

    Raises:
        FileError: if it is someone else's.
    """
    if force or not path.exists():
        return
    try:
        mine = json.loads((path / MARK).read_text(encoding="utf-8"))["owner"] == owner
    except (OSError, ValueError, KeyError, TypeError):
        mine = False
    if not mine:
        raise FileError(f"{path} exists and was not written by this run; choose another `name=`, or use `force=True`")


def write_folder(
    base: Base,
    checkpoint: Checkpoint,
    weights: Mapping[str, Tensor],
    out: Path,
    *,
    dtype: torch.dtype,
    owner: str,
    made: Mapping[str, Any],
    vae: Path | None = None,
    force: bool = False,
) -> str:
    """Write the base with ``weights`` in place of its own as a Diffusers folder, whole or not at all; its digest.

    Of a base that is such a folder everything else is copied as it is; of a single file the configs, tokenizers and the
    VAE are those that it is loaded with.

    Args:
        base: as it is loaded; its own weights are not used.
        weights: canonical parameter -> its new value, stored as ``dtype``; the others keep their stored type.
        vae: folder or file of the VAE that ``base`` was loaded with in place of its own.
    """
    guard_folder(out, owner, force)
    with files.replacing_folder(out) as part:
        if checkpoint.path.is_dir():
            _copy_rest(checkpoint.path, part)
            _write_scheduler(base, part)
        else:
            _write_rest(base, checkpoint, part)
        if vae is not None:
            _replace_vae(base, vae, part / "vae")
        for component in base.components():
            _write_component(component, checkpoint, weights, dtype, part / component)
        files.write_text(part / MARK, json.dumps({"owner": owner, **made}, indent=1))
    return base_digest(out)


def _write_component(
    component: str, checkpoint: Checkpoint, weights: Mapping[str, Tensor], dtype: torch.dtype, folder: Path
) -> None:
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    own = [name for name in checkpoint if name.startswith(f"{component}.")]
    tensors = {
        name.partition(".")[2]: (weights[name].to(dtype) if name in weights else checkpoint[name]).contiguous()
        for name in own
    }
    save_file(tensors, folder / _WEIGHTS.get(component, "model.safetensors"), {"format": "pt"})


def _copy_rest(source: Path, part: Path) -> None:
    """Everything of a Diffusers folder but the weights of its UNet and text encoders."""
    for path in source.iterdir():
        if path.name.startswith(".") or path.suffix in _WHOLE_MODELS:
            continue
        if not path.is_dir():
            shutil.copyfile(path, part / path.name)
        elif path.name == "unet" or path.name.startswith("text_encoder"):
            (part / path.name).mkdir()
            shutil.copyfile(path / "config.json", part / path.name / "config.json")
        else:
            shutil.copytree(path, part / path.name)


def _replace_vae(base: Base, vae: Path, folder: Path) -> None:
    """The VAE that the base was loaded with: of a Diffusers folder its own files, else its weights as they are held."""
    if folder.is_dir():
        shutil.rmtree(folder)
    if vae.is_dir():
        folder.mkdir()
        for path in vae_files(vae):
            shutil.copyfile(path, folder / path.name)
    else:
        base.vae.save_pretrained(folder)


def _write_scheduler(base: Base, part: Path) -> None:
    """The scheduler's config, where the weights were trained as something else than it says."""
    path = part / "scheduler" / "scheduler_config.json"
    if json.loads(path.read_text(encoding="utf-8")) != base.scheduler_config:
        files.write_text(path, json.dumps(base.scheduler_config, indent=1))


def _write_rest(base: Base, checkpoint: Checkpoint, part: Path) -> None:
    """Configs, tokenizers, scheduler and VAE of a base that was a single file."""
    encoders = [name for name in base.components() if name.startswith("text_encoder")]
    base.unet.save_config(part / "unet")
    for name, encoder, tokenizer in zip(encoders, base.text_encoders, base.tokenizers, strict=True):
        encoder.config.save_pretrained(part / name)
        tokenizer.save_pretrained(part / name.replace("text_encoder", "tokenizer"))
    base.vae.save_pretrained(part / "vae")
    scheduler = {"_class_name": "PNDMScheduler", **base.scheduler_config}
    files.write_text(part / "scheduler" / "scheduler_config.json", json.dumps(scheduler, indent=1))
    index: dict[str, Any] = {
        "_class_name": _PIPELINES.get(base.family, "StableDiffusionPipeline"),
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
    }
    for name, encoder, tokenizer in zip(encoders, base.text_encoders, base.tokenizers, strict=True):
        index[name] = ["transformers", type(encoder).__name__]
        index[name.replace("text_encoder", "tokenizer")] = ["transformers", type(tokenizer).__name__]
    if base.family != "sdxl":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    files.write_text(part / "model_index.json", json.dumps(index, indent=1))
