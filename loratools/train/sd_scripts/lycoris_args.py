"""``network_module = "lycoris.kohya"`` and its ``network_args`` as our settings (2309.14859)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratools.errors import RecipeError, did_you_mean
from loratools.train.sd_scripts.network_args import adapters, arguments, number

MODULE = "lycoris.kohya"
_TYPES = {"lora": "lora", "locon": "lora", "loha": "loha", "lokr": "lokr"}  # algo -> network_type
_PRESETS = ("full", "attn-mlp")  # with the convolutions, and without
_NUMBERS = {
    "dropout": "network_dropout",
    **{
        name: name
        for name in (
            "rank_dropout",
            "module_dropout",
            "loraplus_lr_ratio",
            "loraplus_unet_lr_ratio",
            "loraplus_text_encoder_lr_ratio",
        )
    },
}
_SWITCHES = {"dora_wd": "dora", "rs_lora": "rslora"}
# how something is computed that comes to the same, or is of an algorithm that is refused
_ACCEPTED = ("bypass_mode", "block_size", "constraint", "rescaled", "train_t5xxl", "train_llm_adapter")
_OFF = (
    "use_tucker",
    "use_cp",
    "use_conv_cp",
    "use_scalar",
    "decompose_both",
    "full_matrix",
    "train_norm",
    "unbalanced_factorization",
    "rank_dropout_scale",
)
_ARGUMENTS = (
    "algo",
    "preset",
    "conv_dim",
    "conv_alpha",
    "factor",
    *_NUMBERS,
    *_SWITCHES,
    *_ACCEPTED,
    *_OFF,
    "wd_on_output",
)


def lycoris_settings(options: Mapping[str, Any], source: str, notes: list[str]) -> dict[str, Any]:
    """The settings of a LyCORIS network; the preset ``full``, which is its default, trains the convolutions too.

    Args:
        notes: gets a sentence where LyCORIS trains other modules than are trained here.
    Raises:
        RecipeError: naming the algorithm, the preset or the argument that is not there.
    """
    given = arguments(options.get("network_args") or [], source, _ARGUMENTS, MODULE)
    for name in (*_OFF, "wd_on_output"):
        if name in given and _is_on(given[name]) != (name == "wd_on_output"):
            raise RecipeError(f"{source}: '{name}={given[name]}' in network_args is not supported: leave it out")
    algorithm = given.get("algo", "lora").lower()
    if algorithm not in _TYPES:
        raise RecipeError(
            f"{source}: the LyCORIS algorithm '{algorithm}' is not supported"
            f"{did_you_mean(algorithm, _TYPES)}; there are {', '.join(_TYPES)}"
        )
    settings: dict[str, Any] = {"network_type": _TYPES[algorithm], **_convolutions(given, options, source, notes)}
    settings |= {
        ours: value for name, ours in _NUMBERS.items() if name in given and (value := number(name, given[name], source))
    }
    settings |= {ours: True for name, ours in _SWITCHES.items() if _is_on(given.get(name, ""))}
    if algorithm == "lokr" and "factor" in given:
        settings["lokr_factor"] = int(number("factor", given["factor"], source))
    return settings | adapters(options, source)


def _convolutions(
    given: Mapping[str, str], options: Mapping[str, Any], source: str, notes: list[str]
) -> dict[str, float]:
    """Their rank and alpha, which are those of the rest where nothing is said, or 0."""
    preset = given.get("preset", "full")
    if preset not in _PRESETS:
        raise RecipeError(
            f"{source}: the LyCORIS preset '{preset}' is not supported{did_you_mean(preset, _PRESETS)}; "
            f"use {' or '.join(_PRESETS)}, or block_dims of a YAML config"
        )
    if preset == "attn-mlp":
        notes.append(f"{source}: proj_in and proj_out are trained here, which LyCORIS' preset attn-mlp leaves out")
        return {}
    notes.append(
        f"{source}: conv_in, conv_out and the time embedding, which LyCORIS' preset full may train, stay as they are"
    )
    rank, alpha = (
        number(name, given.get(name, "0"), source) or options.get(f"network_{own}") or usual
        for name, own, usual in (("conv_dim", "dim", 4), ("conv_alpha", "alpha", 1))
    )
    return {"conv_dim": int(rank), "conv_alpha": float(alpha)}


def _is_on(text: str) -> bool:
    return text.lower() not in ("", "false", "0", "none", "no")
