"""The files of the loader benchmark: merges of random LoRAs on tiny models, and what each file was made to hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from loratools.adapter.algebra.fuse import join
from loratools.adapter.algebra.fused_rows import FusedWeight, rows_of
from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.architectures.family import Transformer, UNet
from loratools.adapter.architectures.known_families import family_of
from loratools.adapter.architectures.names import is_text, lora_targets
from loratools.adapter.architectures.transformer import originals
from loratools.adapter.architectures.unet import original_path
from loratools.adapter.files.save import Style, write

WEIGHTS = (0.7, -0.4)
Sizes = Mapping[str, Mapping[str, Any]]
CLIP = {
    "hidden_size": 8,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 20,
    "projection_dim": 8,
}
_UNET = {"attention_head_dim": 2, "norm_num_groups": 2, "cross_attention_dim": 6}
MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "sd1": {"unet": {**_UNET, "block_out_channels": (4, 8, 12, 12)}, "text_encoder": CLIP},
    "sdxl": {
        "unet": {
            **_UNET,
            "block_out_channels": (4, 8, 12),
            "use_linear_projection": True,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 32,
        },
        "text_encoder": CLIP,
        "text_encoder_2": CLIP,
    },
    "flux": {  # of true width, which diffusers' converter of kohya's keys takes for granted
        "transformer": {
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 8,
            "pooled_projection_dim": 8,
            "guidance_embeds": True,
        },
        "text_encoder": CLIP,
    },
}


@dataclass(frozen=True)
class Content:
    """What a file holds: the ranks of its modules, and whether convolutions and text encoders are among them."""

    label: str
    mixed: bool
    conv: bool = False
    text: bool = True


CONTENTS = (
    Content("one rank", mixed=False),
    Content("mixed ranks", mixed=True),
    Content("mixed ranks, LoCon", mixed=True, conv=True),
)
WRITINGS = {
    "kohya": "kohya",
    "diffusers": "Diffusers",
    "own-ranks": "Diffusers' keys, not padded",
}


def live_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of every linear and convolutional module of models of ``sizes``."""
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    kinds = {"unet": UNet2DConditionModel, "transformer": FluxTransformer2DModel}
    shapes = {}
    with torch.device("meta"):
        for component, config in sizes.items():
            model: nn.Module = (
                kinds[component](**config) if component in kinds else CLIPTextModel(CLIPTextConfig(**config))
            )
            for path, module in model.named_modules():
                bare = component.startswith("text") and not path.startswith("text_model.")
                if isinstance(module, nn.Linear | nn.Conv2d):
                    shapes[f"{component}.{'text_model.' if bare else ''}{path}"] = tuple(module.weight.shape)
    return shapes


def random_merge(family: str, content: Content, sizes: Sizes) -> dict[str, LowRank]:
    """The float64 sum of two random LoRAs on every module that the content asks for, by canonical name."""
    generator = torch.Generator().manual_seed(7)
    shapes = {name: shape for name, shape in live_shapes(sizes).items() if content.text or not is_text(name)}
    merged = {}
    for index, name in enumerate(lora_targets(family, shapes, conv=content.conv)):
        shape, ranks = shapes[name], (1 + index % 3, 1 + index % 2) if content.mixed else (2, 2)
        ups = [torch.randn(shape[0], rank, generator=generator) for rank in ranks]
        downs = [torch.randn(rank, math.prod(shape[1:]), generator=generator) for rank in ranks]
        up = torch.cat([weight * side.double() for weight, side in zip(WEIGHTS, ups, strict=True)], 1)
        merged[name] = LowRank(up, torch.cat(downs).double(), shape)
    return merged


def original_keys(family: str, names: Sequence[str]) -> dict[str, FusedWeight]:
    """The original networks' weight -> the canonical modules that it holds, as WebUIs name their models' weights."""
    kind = family_of(family)
    keys: dict[str, FusedWeight] = {}
    match kind.network:
        case UNet() as net:
            for name in (name for name in names if name.startswith("unet.")):
                path = original_path(net, name.removeprefix("unet."))
                keys[f"diffusion_model.{path}.weight"] = FusedWeight((name,))
        case Transformer() as net:
            for path, fused in originals(net):
                whole = replace(fused, names=tuple(f"transformer.{name}" for name in fused.names))
                if set(whole.names) <= set(names):
                    keys[f"diffusion_model.{path}.weight"] = whole
    for encoder in kind.text:
        for name in (name for name in names if name.startswith(f"{encoder.component}.")):
            path = name.removeprefix(f"{encoder.component}.")
            keys[f"{encoder.bundle}.transformer.{path}.weight"] = FusedWeight((name,))
    return keys


def by_original(family: str, merged: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """The same differences by the original networks' weights, fused where those are."""
    whole = {}
    for key, fused in original_keys(family, list(merged)).items():
        parts = [merged[name] for name in fused.names]
        out, columns = sum(part.shape[0] for part in parts), parts[0].shape[1]
        rows = rows_of(fused, out, columns)
        whole[key] = join(list(zip(rows, parts, strict=True)), (out, *parts[0].shape[1:]))
    return {key: delta for key, delta in whole.items() if isinstance(delta, LowRank)}


def write_case(folder: Path, family: str, content: Content, writing: str, sizes: Sizes) -> dict[str, str]:
    """Write one file and what it should hold; the case as a job names it."""
    merged = random_merge(family, content, sizes)
    stem = folder / f"{family}-{content.label.replace(' ', '-').replace(',', '')}-{writing}"
    path = stem.with_suffix(".safetensors")
    if writing == "own-ranks":
        save_file({key: tensor for name, delta in merged.items() for key, tensor in _plain(name, delta).items()}, path)
    else:
        style: Style = "kohya" if writing == "kohya" else "diffusers"
        write(merged, path, family=family, dtype=torch.float32, style=style)
    case = {
        "label": stem.name,
        "family": family,
        "content": content.label,
        "writing": WRITINGS[writing],
        "path": str(path),
    }
    for side, deltas in (("canonical", merged), ("original", by_original(family, merged))):
        asked = folder / f"{stem.name}.{side}"
        save_file({key: tensor for name, delta in deltas.items() for key, tensor in _asked(name, delta).items()}, asked)
        case[side] = str(asked)
    return case


def _asked(name: str, delta: LowRank) -> dict[str, Tensor]:
    """A module's float64 factors and its shape, as readers compare with them."""
    return {
        f"{name}.up": delta.up.contiguous(),
        f"{name}.down": delta.down.contiguous(),
        f"{name}.shape": torch.tensor(delta.shape),
    }


def _plain(name: str, delta: LowRank) -> dict[str, Tensor]:
    """Diffusers' keys at the module's own rank, as we wrote them once and other tools still do."""
    ones = (1,) * (len(delta.shape) - 2)
    down = delta.down.float().reshape(delta.rank, *delta.shape[1:])
    up = delta.up.float().reshape(delta.shape[0], delta.rank, *ones)
    return {f"{name}.lora_A.weight": down.contiguous(), f"{name}.lora_B.weight": up.contiguous()}


def job(folder: Path, families: Sequence[str]) -> dict[str, Any]:
    """Every file of the families, and the sizes of the models that they fit."""
    cases = [
        write_case(folder, family, content, writing, MODELS[family])
        for family in families
        for content in CONTENTS
        for writing in WRITINGS
        if not (content.conv and family == "flux") and (writing != "own-ranks" or content.mixed)
    ]
    return {"cases": cases, "models": MODELS}
