"""The original (CompVis) parameter names of the autoencoder, from Diffusers' and back."""

from __future__ import annotations

from collections.abc import Iterable

VAE = "first_stage_model."
_RESNET = {"conv_shortcut": "nin_shortcut"}
_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "query": "q",  # as early Diffusers had them
    "key": "k",
    "value": "v",
    "proj_attn": "proj_out",
}


def original_vae_names(names: Iterable[str]) -> dict[str, str]:
    """Diffusers' parameter name -> the key of a single-file checkpoint.

    The original network counts the decoder's levels from the last one, and its attention's matrices are 1x1
    convolutions, so that their shapes have two more ones.
    """
    names = list(names)
    levels = 1 + max((int(name.split(".")[2]) for name in names if name.startswith("decoder.up_blocks.")), default=-1)
    return {name: f"{VAE}{_original(name, levels)}" for name in names}


def is_vae_attention(name: str) -> bool:
    """Whether Diffusers' parameter is a matrix that the original network has as a 1x1 convolution."""
    return ".attentions." in name and name.endswith(".weight") and "group_norm" not in name


def _original(name: str, levels: int) -> str:
    side, _, rest = name.partition(".")
    if side not in ("encoder", "decoder"):
        return name  # quant_conv, post_quant_conv
    first, _, tail = rest.partition(".")
    if first in ("down_blocks", "up_blocks"):
        level, kind, index, last = tail.split(".", 3)
        place = f"{side}.down.{level}" if first == "down_blocks" else f"{side}.up.{levels - 1 - int(level)}"
        if kind == "resnets":
            return f"{place}.block.{index}.{_renamed(last, _RESNET)}"
        return f"{place}.{'downsample' if kind == 'downsamplers' else 'upsample'}.{last}"
    if first == "mid_block":
        kind, index, last = tail.split(".", 2)
        if kind == "resnets":
            return f"{side}.mid.block_{int(index) + 1}.{_renamed(last, _RESNET)}"
        return f"{side}.mid.attn_1.{_renamed(last, _ATTENTION)}"
    return f"{side}.{'norm_out' if first == 'conv_norm_out' else first}.{tail}"


def _renamed(path: str, table: dict[str, str]) -> str:
    module, _, kind = path.rpartition(".")
    return f"{table.get(module, module)}.{kind}"
