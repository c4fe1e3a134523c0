"""sd-scripts' ``network_args`` (``conv_dim=8`` and so on) and ``base_weights`` as our settings of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError, did_you_mean

_SAME = ("conv_dim", "conv_alpha", "rank_dropout", "module_dropout", "loraplus_lr_ratio", "loraplus_unet_lr_ratio",
         "loraplus_text_encoder_lr_ratio")  # fmt: skip
_BY_BLOCK = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas")
_RATES = ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold")
NETWORK_ARGS = (*_SAME, *_BY_BLOCK, *_RATES)


def _named(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number:02d}" for number in range(count))


# their blocks of a UNet in order, by our names; SDXL's first and last hold no LoRA, and its middle counts three
_SD1 = (*_named("IN", 12), "M00", *_named("OUT", 12))
_SDXL = ("", *_named("IN", 9), "M00", "M00", "M00", *_named("OUT", 9), "")
_HALVES = {12: 1, 9: 3}  # blocks down (and up) -> blocks in the middle


def network_settings(arguments: Sequence[object], options: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings that ``network_args`` come to.

    Lists of 25 (SD1, SD2) or 23 numbers (SDXL) are written out by block name, with ``network_dim`` and
    ``network_alpha`` for the text encoder, whose modules they leave alone there.

    Raises:
        RecipeError: naming the argument that is unknown, or whose numbers are not as many as a model has blocks.
    """
    given = {}
    for text in arguments:
        name, found, value = (part.strip() for part in str(text).partition("="))
        if not found or name not in NETWORK_ARGS:
            hint = did_you_mean(name, NETWORK_ARGS) or f"; there are {', '.join(NETWORK_ARGS)}"
            raise RecipeError(f"{path}: network_args has '{text}', which is no argument of a LoRA's{hint}")
        given[name] = value
    settings: dict[str, Any] = {name: given[name] for name in _SAME if name in given}
    text_encoder = {"dims": options.get("network_dim", 4), "alphas": options.get("network_alpha", 1)}
    for name in _BY_BLOCK:
        if name in given:
            kind = name.rpartition("_")[2]
            settings[name] = _by_block(name, _numbers(name, given[name], path), text_encoder[kind], path)
    rates = _rates(given, path)
    return {**settings, "block_lr": rates} if rates else settings


def base_terms(files: object, factors: object) -> list[str]:
    """``base_weights`` with their multipliers as the terms of ``base_adapters``, such as ``"a.safetensors":0.8``."""
    paths = files if isinstance(files, list) else [files]
    given = factors if isinstance(factors, list) else [] if factors is None else [factors]
    return [f'"{file}":{factor}' for file, factor in zip(paths, [*given, *[1] * len(paths)], strict=False)]


def _by_block(name: str, numbers: Sequence[float], text_encoder: float, path: Path) -> str:
    blocks = {len(_SD1): _SD1, len(_SDXL): _SDXL}.get(len(numbers))
    if blocks is None:
        raise RecipeError(f"{path}: {name} has {len(numbers)} numbers; SD1 and SD2 have 25 blocks, SDXL has 23")
    found: dict[str, float] = {"BASE": text_encoder}
    for block, number in zip(blocks, numbers, strict=True):
        if block and found.setdefault(block, number) != number:
            raise RecipeError(f"{path}: {name} gives the three parts of the middle block different numbers; give one")
    return ",".join(f"{block}={number:g}" for block, number in found.items())


def _rates(given: Mapping[str, str], path: Path) -> str | None:
    lists = {name: _numbers(name, given[name], path) for name in _RATES[:3] if name in given}
    if not lists:
        return None
    half = next((len(lists[name]) for name in ("down_lr_weight", "up_lr_weight") if name in lists), 12)
    if half not in _HALVES:
        raise RecipeError(f"{path}: down_lr_weight and up_lr_weight have 12 numbers for SD1 and SD2, or 9 for SDXL")
    down, up = (lists.get(name, [1.0] * half) for name in ("down_lr_weight", "up_lr_weight"))
    middle = lists.get("mid_lr_weight", [1.0] * _HALVES[half])
    if len(down) != len(up) or len(middle) not in (1, _HALVES[half]):
        raise RecipeError(f"{path}: down, mid and up_lr_weight are not of one model: 12, 1 and 12 numbers, or 9, 3, 9")
    middle = middle * _HALVES[half] if len(middle) == 1 else middle
    ends = [] if half == 12 else [1.0]
    least = float(given.get("block_lr_zero_threshold") or 0)
    numbers = [number if number > least else 0.0 for number in (*down, *middle, *up)]
    return _by_block("down, mid and up_lr_weight", [*ends, *numbers, *ends], 1.0, path)


def _numbers(name: str, text: str, path: Path) -> list[float]:
    try:
        return [float(part) if part.strip() else 0.0 for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"{path}: {name} is '{text}'; write a number for each block, with commas") from error
