"""Random models in full shapes: our Base, and sd-scripts' models over the same tensors; and what a step gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from loratools.base.model import Base
from loratools.pocket.architecture import scheduler_config
from loratools.train.network.network import Network

_WORDS, _BEGIN, _END = 49406, 49406, 49407
CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "bos_token_id": _BEGIN,
    "eos_token_id": _END,
    "pad_token_id": _END,
}
CLIP_G = {
    **CLIP_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}
_SD1_UNET = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SDXL_UNET = {
    "sample_size": 128,
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@dataclass
class Measured:
    """A loss and the gradient of every factor, by the names of the files' keys."""

    loss: float
    gradients: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Models:
    """``base`` is ours; ``unet`` and ``text_encoders`` are sd-scripts', whose parameters are the same memory."""

    family: str
    base: Base
    unet: nn.Module
    text_encoders: list[Any]
    scale: float  # of latents

    def tokens(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """For each text encoder (2, 1, 77): two captions of random words, of different lengths, and their padding."""
        ids = torch.full((2, 77), _END)
        ids[:, 0] = _BEGIN
        for row, count in enumerate((9, 40)):
            ids[row, 1 : 1 + count] = torch.randint(0, _WORDS, (count,), generator=generator)
        second = torch.where((ids == _END).cumsum(1) > 1, 0, ids)  # SDXL's second tokenizer pads with 0
        return tuple(part[:, None] for part in (ids, second)[: len(self.text_encoders)])


def sd1(peers: Any) -> Models:
    """SD 1.x: 860 M parameters in the UNet, 123 M in the text encoder."""
    from transformers import CLIPTextModel

    unet = _unet(_SD1_UNET, seed=1)
    encoders = [_text(CLIPTextModel, CLIP_L, seed=2)]
    with torch.device("meta"):
        theirs = peers.original_unet.UNet2DConditionModel(**peers.model_util.create_unet_diffusers_config(False))
        copies = [_text(CLIPTextModel, CLIP_L)]
    theirs.load_state_dict(unet.state_dict(), assign=True)
    return _models("sd1", unet, encoders, theirs, copies, 0.18215)


def sdxl(peers: Any) -> Models:
    """SDXL: 2.6 G parameters in the UNet, 123 M and 695 M in the text encoders."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    unet = _unet(SDXL_UNET, seed=1)
    kinds = ((CLIPTextModel, CLIP_L), (CLIPTextModelWithProjection, CLIP_G))
    encoders = [_text(kind, config, seed=2 + number) for number, (kind, config) in enumerate(kinds)]
    with torch.device("meta"):
        theirs = peers.sdxl_original_unet.SdxlUNet2DConditionModel()
        copies = [_text(kind, config) for kind, config in kinds]
    theirs.load_state_dict(
        peers.sdxl_model_util.convert_diffusers_unet_state_dict_to_sdxl(unet.state_dict()), assign=True
    )
    return _models("sdxl", unet, encoders, theirs, copies, 0.13025)


def lora_factors(network: Network, seed: int) -> None:
    """Factors as in the middle of a training: neither is zero, so that every gradient is there."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.layers.values():
            factors = layer.factors()
            factors["down"].normal_(std=layer.shape[1] ** -0.5, generator=generator)
            factors["up"].normal_(std=0.05, generator=generator)


def _models(family: str, unet: Any, encoders: list[Any], theirs: nn.Module, copies: list[Any], scale: float) -> Models:
    for copy, encoder in zip(copies, encoders, strict=True):
        copy.load_state_dict(encoder.state_dict(), assign=True)
        for name, buffer in encoder.named_buffers():  # not in every state
            owner, _, attribute = name.rpartition(".")
            copy.get_submodule(owner).register_buffer(attribute, buffer, persistent=False)
        if not hasattr(copy, "text_model"):  # sd-scripts expects it; newer transformers have done without
            object.__setattr__(copy, "text_model", copy)
    for model in (unet, *encoders, theirs, *copies):
        model.requires_grad_(False).eval()
    vae = SimpleNamespace(config=SimpleNamespace(scaling_factor=scale, shift_factor=None))
    base = Base(
        unet=unet,
        vae=vae,
        text_encoders=tuple(encoders),
        tokenizers=(),
        scheduler_config=scheduler_config(),
        family=family,
        digest="",
        name=family,
        resolution=(512, 512),
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    return Models(family, base, theirs, copies, scale)


def _unet(config: dict[str, Any], seed: int) -> Any:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    return _filled(unet, seed)


def _text(kind: Any, config: dict[str, Any], seed: int | None = None) -> Any:
    from transformers import CLIPTextConfig

    if seed is None:
        return kind(CLIPTextConfig(**config))
    torch.manual_seed(seed)
    return kind(CLIPTextConfig(**config))


def _filled(model: nn.Module, seed: int) -> nn.Module:
    """Weights that keep signals at their size: std 1 / sqrt(inputs), biases and norms near 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.normal_(std=value[0].numel() ** -0.5, generator=generator)
            else:
                value.normal_(std=0.02, generator=generator).add_(
                    1 if "norm" in name and name.endswith("weight") else 0
                )
    return model
