"""Options of sd-scripts' trainers of whole models (train_db.py, sdxl_train.py), as our settings of a full training.

Akegarasu's ``sd-dreambooth`` TOML and kohya_ss' DreamBooth JSON are such options. What these programs do with a key,
and what becomes of it here, is noted key by key where the two differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError

# which only trainers of whole models have, so that a file with one of them means such a training
FULL_ONLY = frozenset(
    {"learning_rate_te", "learning_rate_te1", "learning_rate_te2", "no_token_padding", "block_lr", "train_text_encoder"}
)
# those of other trainers that a full training reads in its own way
OF_FULL = FULL_ONLY | {"full_bf16", "fused_backward_pass", "save_model_as", "model_train_type"}
RATE = 2e-6  # of sd-scripts' trainers where a file has none
_SDXL_ONLY = ("learning_rate_te1", "learning_rate_te2", "block_lr")
_SINGLE_FILES = ("ckpt", "pt")  # what save_model_as may say, and is not written here


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
    settings: dict[str, Any] = {"network_type": "full", **_rates(options, path, notes)}
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
    if options.get("save_model_as") in _SINGLE_FILES:
        notes.append(f"{path}: save_model_as = {options['save_model_as']}: files are .safetensors here")
    if (stop := options.get("stop_text_encoder_training")) and not str(stop).startswith("-"):
        notes.append(
            f"{path}: stop_text_encoder_training = {stop}: the run goes on to its end with the text encoder as it "
            "is then; sd-scripts' own ends there with a TypeError"
        )
    return settings


def _rates(options: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """The rates of UNet and text encoders. train_db.py's one for the text encoder is the UNet's where it is left out;
    sdxl_train.py leaves its two encoders as they are unless train_text_encoder is there, and so does fine_tune.py,
    which has that option too, and train_db.py's rates."""
    xl = _is_sdxl(options)
    unet = _number(options, "learning_rate")
    first = _number(options, "learning_rate_te1" if xl else "learning_rate_te")
    second = _number(options, "learning_rate_te2") if xl else None
    rates: dict[str, Any] = {} if unet is None else {"unet_lr": unet}
    if (xl or _is_fine_tune(options)) and not options.get("train_text_encoder"):
        rates["te_lr"] = 0.0
        if first or second:
            names = "learning_rate_te1 and learning_rate_te2 have" if xl else "learning_rate_te has"
            notes.append(
                f"{path}: {names} no effect without train_text_encoder, as in sd-scripts: the text encoder stays as it "
                "is"
            )
    else:
        rates |= {} if first is None and unet is None else {"te_lr": unet if first is None else first}
        usual = RATE if unet is None else unet
        if xl and (second is not None or first not in (None, usual)):
            rates |= {"te_lr": usual if first is None else first, "te2_lr": usual if second is None else second}
    if str(options.get("stop_text_encoder_training", "")).startswith("-"):  # never trained
        rates |= {"te_lr": 0.0}
        rates.pop("te2_lr", None)
    if options.get("block_lr"):
        rates |= _block_rates(str(options["block_lr"]), unet or RATE)
    return rates


def _is_sdxl(options: Mapping[str, Any]) -> bool:
    """Whether the options are sdxl_train.py's: a GUI says so, and else the names that it alone has. fine_tune.py, of
    SD1 and SD2, has train_text_encoder as well; the rate beside it is its own."""
    if kind := str(options.get("model_train_type", "")):
        return kind.startswith("sdxl")
    given = {name for name, value in options.items() if value not in (None, "")}
    return bool(given & set(_SDXL_ONLY)) or ("train_text_encoder" in given and "learning_rate_te" not in given)


def _is_fine_tune(options: Mapping[str, Any]) -> bool:
    """Whether the options are fine_tune.py's: by a GUI's word, by its list of pictures, or by the switch of the text
    encoder, which train_db.py lacks."""
    kind = str(options.get("model_train_type", ""))
    switched = "train_text_encoder" in options or bool(options.get("in_json"))
    return kind.endswith("finetune") or (not kind and switched)


def _number(options: Mapping[str, Any], name: str) -> float | None:
    value = options.get(name)
    return None if value in (None, "") else as_number(name, value)


def as_number(name: str, value: object) -> float:
    """The number that an option holds, which may be written as text.

    Raises:
        RecipeError: if it holds none.
    """
    try:
        return float(str(value))
    except ValueError as error:
        raise RecipeError(f"{name} = {value} is no number; write one such as 1e-6") from error


def _block_rates(text: str, rate: float) -> dict[str, Any]:
    """sd-scripts' 23 rates as our factors on the UNet's."""
    numbers = [as_number("block_lr", part) for part in text.replace(" ", "").strip("[]").split(",") if part]
    return {"block_lr": ",".join(f"{number / rate:g}" for number in numbers), "unet_lr": rate}
