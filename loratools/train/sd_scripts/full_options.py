"""Options of sd-scripts' trainers of whole models (train_db.py, sdxl_train.py), as our settings of a full training.

Akegarasu's ``sd-dreambooth`` TOML and kohya_ss' DreamBooth JSON are such options. What these programs do with a key,
and what becomes of it here, is noted key by key where the two differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

# which only trainers of whole models have, so that a file with one of them means such a training
FULL_ONLY = frozenset(
    {"learning_rate_te", "learning_rate_te1", "learning_rate_te2", "no_token_padding", "block_lr", "train_text_encoder"}
)
# those of other trainers that a full training reads in its own way
OF_FULL = FULL_ONLY | {"full_bf16", "fused_backward_pass", "save_model_as", "model_train_type"}
_SDXL_ONLY = ("learning_rate_te1", "learning_rate_te2", "block_lr", "train_text_encoder")


def means_full(options: Mapping[str, Any], over: Mapping[str, Any] | Collection[str]) -> bool:
    """Whether options that name no network say that the whole model is trained.

    Args:
        over: our settings that come before the file's.
    """
    if isinstance(over, Mapping) and over.get("network_type") == "full":
        return True
    kind = str(options.get("model_train_type", ""))
    return kind.endswith(("dreambooth", "finetune")) or bool(FULL_ONLY & {k for k, v in options.items() if v != ""})


def full_settings(options: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """The settings of a full training that no LoRA has; everything else is translated as a LoRA's options are."""
    settings: dict[str, Any] = {"network_type": "full", **_rates(options)}
    if options.get("full_bf16"):
        settings["weights"] = "bf16"
        notes.append(
            f"{path}: full_bf16: the weights are bf16 here and rounded at random; sd-scripts' train_db.py reads "
            "nothing of it and keeps float32, and its other trainers lose small steps by rounding to the nearest"
        )
    if options.get("fused_backward_pass"):
        settings["fused_backward_pass"] = "on"
        notes.append(
            f"{path}: fused_backward_pass clips by the norm of all gradients here, and sd-scripts each weight alone; "
            "max_grad_norm = 0 is quicker"
        )
    if options.get("no_token_padding"):
        notes.append(f"{path}: no_token_padding has no effect, as in sd-scripts, whose code for it is commented out")
    if options.get("save_model_as") in ("diffusers", "diffusers_safetensors"):
        settings["save_end"] = "diffusers"
        notes.append(f"{path}: save_model_as: epochs are single files here, and the last one is a Diffusers folder too")
    if (stop := options.get("stop_text_encoder_training")) and not str(stop).startswith("-"):
        notes.append(
            f"{path}: stop_text_encoder_training = {stop}: the run goes on to its end with the text encoder as it "
            "is then; sd-scripts' own ends there with a TypeError"
        )
    return settings


def _rates(options: Mapping[str, Any]) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    first = options.get("learning_rate_te1", options.get("learning_rate_te"))
    if first not in (None, ""):
        rates["te_lr"] = float(str(first))
    if options.get("learning_rate_te2") not in (None, ""):
        rates["te2_lr"] = float(str(options["learning_rate_te2"]))
    xl = any(name in options for name in _SDXL_ONLY) or str(options.get("model_train_type", "")).startswith("sdxl")
    if xl and not options.get("train_text_encoder") and not rates:
        rates["te_lr"] = 0.0  # sdxl_train.py leaves them as they are unless it is asked
    if str(options.get("stop_text_encoder_training", "")).startswith("-"):  # never trained
        rates |= {"te_lr": 0.0}
        rates.pop("te2_lr", None)
    if options.get("block_lr"):
        rates |= _block_rates(str(options["block_lr"]), float(options.get("learning_rate") or 2e-6))
    return rates


def _block_rates(text: str, rate: float) -> dict[str, Any]:
    """sd-scripts' 23 rates as our factors on the UNet's."""
    numbers = [float(part) for part in text.replace(" ", "").strip("[]").split(",") if part]
    return {"block_lr": ",".join(f"{number / rate:g}" for number in numbers), "unet_lr": rate}
