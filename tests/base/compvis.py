"""A Diffusers base written as a single file: SD1's original (CompVis) key names, the way checkpoints are shared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OUTER = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
}


def write_single_file(folder: Path, out: Path) -> Path:
    """Write the SD1-shaped Diffusers ``folder`` as one ``.safetensors`` file with CompVis keys."""
    parts = [
        load_file(folder / name)
        for name in (
            "unet/diffusion_pytorch_model.safetensors",
            "vae/diffusion_pytorch_model.safetensors",
            "text_encoder/model.safetensors",
        )
    ]
    save_file(to_compvis(*parts), out)
    return out


def to_compvis(
    unet: Mapping[str, Tensor], vae: Mapping[str, Tensor], text: Mapping[str, Tensor], levels: int = 4
) -> dict[str, Tensor]:
    """CompVis names for the three state dicts of an SD1-shaped base with two layers a level."""
    out = {f"model.diffusion_model.{unet_name(name)}": value for name, value in unet.items()}
    for name, value in vae.items():
        linear_in_conv = ".attentions." in name and value.dim() == 2  # attention was 1 x 1 convolutions then
        value = value[:, :, None, None] if linear_in_conv else value
        out[f"first_stage_model.{vae_name(name, levels)}"] = value
    for name, value in text.items():
        out[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    return {name: value.contiguous().clone() for name, value in out.items()}


def unet_name(name: str) -> str:
    """``down_blocks.1.attentions.0.norm.weight`` -> ``input_blocks.4.1.norm.weight``."""
    module, kind = name.rsplit(".", 1)
    if module in _OUTER:
        return f"{_OUTER[module]}.{kind}"
    match module.split("."):
        case ["down_blocks", i, "downsamplers", "0", "conv"]:
            return f"input_blocks.{3 * int(i) + 3}.0.op.{kind}"
        case ["down_blocks", i, part, j, *rest]:
            return f"input_blocks.{3 * int(i) + int(j) + 1}.{_tail(part, rest)}.{kind}"
        case ["mid_block", "resnets", j, *rest]:
            return f"middle_block.{2 * int(j)}.{_RESNET['.'.join(rest)]}.{kind}"
        case ["mid_block", "attentions", "0", *rest]:
            return f"middle_block.1.{'.'.join(rest)}.{kind}"
        case ["up_blocks", i, "upsamplers", "0", "conv"]:
            return f"output_blocks.{3 * int(i) + 2}.{1 if i == '0' else 2}.conv.{kind}"
        case ["up_blocks", i, part, j, *rest]:
            return f"output_blocks.{3 * int(i) + int(j)}.{_tail(part, rest)}.{kind}"
    raise KeyError(name)


def _tail(part: str, rest: list[str]) -> str:
    return f"0.{_RESNET['.'.join(rest)]}" if part == "resnets" else f"1.{'.'.join(rest)}"


def vae_name(name: str, levels: int) -> str:
    """``decoder.up_blocks.0.resnets.1.conv1.bias`` -> ``decoder.up.3.block.1.conv1.bias``."""
    name = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", name)
    name = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
    name = (
        name.replace(".resnets.", ".block.").replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
    )
    name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
    if "mid_block.attentions.0." in name:
        head, tail = name.split("mid_block.attentions.0.")
        module, kind = tail.rsplit(".", 1)
        return f"{head}mid.attn_1.{_ATTENTION[module]}.{kind}"
    return name
