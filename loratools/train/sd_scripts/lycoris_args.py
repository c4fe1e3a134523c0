"""``network_module = "lycoris.kohya"`` and its ``network_args`` as our settings (2309.14859)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratools.errors import did_you_mean
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
_ACCEPTED = (
    "bypass_mode",
    "block_size",
    "constraint",
    "rescaled",
    "train_on_input",
    "train_t5xxl",
    "train_llm_adapter",
)
_OFF = (  # what is not done here, and has to be switched off
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
_ON = ("wd_on_output", "disable_conv_cp")  # what is always done here
ARGUMENTS = (
    "algo",
    "preset",
    "conv_dim",
    "conv_alpha",
    "factor",
    *_NUMBERS,
    *_SWITCHES,
    *_ACCEPTED,
    *_OFF,
    *_ON,
)


def lycoris_settings(options: Mapping[str, Any], wrong: list[str], notes: list[str]) -> dict[str, Any]:
    """The settings of a LyCORIS network; the preset ``full``, which is its default, trains the convolutions too.

    A rank that no matrix of a LoKr has, such as 100000, is LyCORIS' way to ask for whole matrices, as it is here.

    Args:
        wrong: gets a sentence for the algorithm, the preset and each argument that is not there; the settings are then
            of no use.
        notes: gets a sentence where LyCORIS trains other modules than are trained here.
    """
    given = arguments(options.get("network_args") or [], ARGUMENTS, MODULE, wrong)
    for name in (*_OFF, *_ON):
        if name in given and _is_on(given[name]) != (name in _ON):
            wrong.append(f"'{name}={given[name]}' in network_args is not supported: leave it out")
    algorithm = given.get("algo", "lora").lower()
    if algorithm not in _TYPES:
        hint = did_you_mean(algorithm, _TYPES)
        wrong.append(f"the LyCORIS algorithm '{algorithm}' is not supported{hint}; there are {', '.join(_TYPES)}")
        return {}
    settings: dict[str, Any] = {"network_type": _TYPES[algorithm], **_convolutions(given, options, wrong, notes)}
    settings |= {
        ours: value for name, ours in _NUMBERS.items() if name in given and (value := number(name, given[name], wrong))
    }
    settings |= {ours: True for name, ours in _SWITCHES.items() if _is_on(given.get(name, ""))}
    if algorithm == "lokr" and "factor" in given:
        settings["lokr_factor"] = int(number("factor", given["factor"], wrong))
    return settings | adapters(options, wrong)


def _convolutions(
    given: Mapping[str, str], options: Mapping[str, Any], wrong: list[str], notes: list[str]
) -> dict[str, float]:
    """Their rank and alpha, which are those of the rest where nothing is said, or 0."""
    preset = given.get("preset", "full")
    if preset not in _PRESETS:
        wrong.append(
            f"the LyCORIS preset '{preset}' is not supported{did_you_mean(preset, _PRESETS)}; "
            f"use {' or '.join(_PRESETS)}, or block_dims of a YAML config"
        )
    if preset == "attn-mlp":
        notes.append("proj_in and proj_out are trained here, which LyCORIS' preset attn-mlp leaves out")
        return {}
    notes.append("conv_in, conv_out and the time embedding, which LyCORIS' preset full may train, stay as they are")
    rank, alpha = (
        number(name, given.get(name, "0"), wrong) or options.get(f"network_{own}") or usual
        for name, own, usual in (("conv_dim", "dim", 4), ("conv_alpha", "alpha", 1))
    )
    return {"conv_dim": int(rank), "conv_alpha": float(alpha)}


def _is_on(text: str) -> bool:
    return text.lower() not in ("", "false", "0", "none", "no")
