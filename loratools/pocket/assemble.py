"""Put trained parts together as a normal Diffusers folder whose keys are SD1.5's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.pocket.architecture import Widths, scheduler_config, text_config, unet_config, vae_config

if TYPE_CHECKING:
    import torch

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.36.0",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def build_parts(widths: Widths, vocabulary: int, scaling_factor: float = 1.0) -> tuple[Any, Any, Any]:
    """Fresh ``(unet, vae, text_encoder)`` of these widths; seed torch first for reproducible weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextModel(CLIPTextConfig(**text_config(widths, vocabulary, vocabulary - 2, vocabulary - 1)))
    return UNet2DConditionModel(**unet_config(widths)), AutoencoderKL(**vae_config(widths, scaling_factor)), text


def save_folder(folder: Path, unet: Any, vae: Any, text_encoder: Any, dtype: torch.dtype) -> None:
    """Write the three models, the scheduler and ``model_index.json``; the ``tokenizer`` folder is already there.

    The text encoder is written with the ``text_model.`` prefix that newer transformers leave out and older tools need.
    """
    for part, name in ((unet, "unet"), (vae, "vae")):
        _save_weights(folder / name / "diffusion_pytorch_model.safetensors", part.state_dict(), dtype)
        config = {"_class_name": type(part).__name__, **{k: v for k, v in part.config.items() if k[0] != "_"}}
        _save_json(folder / name / "config.json", config)
    state = {
        f"text_model.{k.removeprefix('text_model.')}": v
        for k, v in text_encoder.state_dict().items()
        if not k.endswith("position_ids")
    }
    _save_weights(folder / "text_encoder" / "model.safetensors", state, dtype)
    _save_json(
        folder / "text_encoder" / "config.json",
        {**text_encoder.config.to_diff_dict(), "architectures": ["CLIPTextModel"]},
    )
    _save_json(
        folder / "scheduler" / "scheduler_config.json",
        {"_class_name": "DDIMScheduler", "_diffusers_version": "0.36.0", **scheduler_config()},
    )
    _save_json(folder / "model_index.json", MODEL_INDEX)


def _save_weights(path: Path, state: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().to("cpu", dtype).contiguous() for name, value in state.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _save_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")
