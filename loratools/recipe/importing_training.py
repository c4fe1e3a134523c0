"""sd-scripts' settings as a recipe that trains: its TOML, or the ``ss_*`` metadata of a file that it wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loratools.errors import FormatError
from loratools.recipe.importing import Imported, finished
from loratools.recipe.writing import step_name

_ELSEWHERE = ("base", "out", "name", "device", "resume", "force", "images")
_NUMBERS = {  # sd-scripts' entry -> our setting, where the value means the same
    "ss_network_dim": "dim", "ss_network_alpha": "alpha", "ss_learning_rate": "learning_rate",
    "ss_unet_lr": "unet_lr", "ss_text_encoder_lr": "te_lr", "ss_num_epochs": "epochs",
    "ss_gradient_accumulation_steps": "gradient_accumulation", "ss_lr_warmup_steps": "lr_warmup",
    "ss_max_grad_norm": "max_grad_norm", "ss_seed": "seed", "ss_noise_offset": "noise_offset",
    "ss_min_snr_gamma": "min_snr_gamma", "ss_clip_skip": "clip_skip", "ss_prior_loss_weight": "prior_loss_weight",
    "ss_caption_dropout_rate": "caption_dropout", "ss_caption_tag_dropout_rate": "tag_dropout",
}  # fmt: skip
_SUBSET = {"shuffle_caption": "shuffle_tags", "keep_tokens": "keep_tokens", "flip_aug": "flip",
           "random_crop": "random_crop", "color_aug": "color_aug"}  # fmt: skip
_DATA_SET = {"enable_bucket": "buckets", "min_bucket_reso": "bucket_min", "max_bucket_reso": "bucket_max",
             "batch_size_per_device": "batch_size"}  # fmt: skip
_NOTED = {  # what a trainer may have done that is not done here, at these values
    "ss_network_args": ("None", "{}", ""), "ss_scale_weight_norms": ("None", ""), "ss_ip_noise_gamma": ("None", ""),
    "ss_multires_noise_iterations": ("None", "0", ""), "ss_adaptive_noise_scale": ("None", ""),
    "ss_zero_terminal_snr": ("False", "None", ""), "ss_debiased_estimation": ("False", "None", ""),
    "ss_loss_type": ("l2", "None", ""), "ss_vae_name": ("None", ""), "ss_reg_dataset_dirs": ("{}", "None", ""),
    "ss_network_dropout": ("None", "0", "0.0", ""), "ss_num_reg_images": ("0", "None", ""),
}  # fmt: skip


def of_toml(path: Path, base: str | None) -> Imported:
    """A file of options (``--config_file``) or a dataset config, as a recipe that trains.

    Raises:
        RecipeError: naming an option that is unknown or not supported, and what to use instead.
    """
    from loratools.train.dataset_toml import DEFAULTS, read_dataset_toml
    from loratools.train.sd_scripts import is_options, read_options

    whole = is_options(path)
    notes: list[str] = []
    told = read_options(path, notes) if whole else {**DEFAULTS, **read_dataset_toml(path)}
    settings = {key: value for key, value in told.items() if key not in _ELSEWHERE and value is not None}
    if not whole:
        notes.append(f"{path.name} says which pictures, not how to train: `preset: default` is this tool's")
    notes += [f"'{key}: {told[key]}' is left out: results go to runs/, or -o" for key in ("out",) if key in told]
    images = {"images": told["images"]} if told.get("images") else {}
    step = {"train": {**images, **settings}}
    return finished("sd-scripts' TOML", {step_name(str(told.get("name") or path.stem)): step},
                    base or told.get("base"), notes)  # fmt: skip


def of_metadata(path: Path, metadata: Mapping[str, str], base: str | None) -> Imported:
    """The training that a file's ``ss_*`` entries tell of. They name folders, never where those lay.

    Raises:
        FormatError: if they do not say which pictures.
    """
    told = {key: text for key, text in metadata.items() if text not in ("None", "")}
    notes: list[str] = []
    images = _images(told, path)
    names = ", ".join(image["folder"] for image in images)
    notes.append(f"the header names the folders {names}, not where they lay: put them beside the recipe")
    settings = {ours: _number(told[theirs]) for theirs, ours in _NUMBERS.items() if theirs in told}
    settings |= _worded(told, notes)
    settings |= _data(told)
    for key, plain in _NOTED.items():
        if told.get(key, plain[0]) not in plain:
            notes.append(f"{key} = {told[key][:60]} has no place in a recipe; the result will differ")
    if (module := told.get("ss_network_module", "networks.lora")) != "networks.lora":
        notes.append(f"it was trained as {module}; this recipe trains a plain LoRA")
    model = told.get("ss_sd_model_name")
    if base is None:
        notes.append(f"name the base's file at `base:`; the header calls it {model or 'nothing'}")
    step = {"train": {"images": images, **settings}}
    return finished("sd-scripts' metadata", {step_name(told.get("ss_output_name", path.stem)): step},
                    base or model, notes)  # fmt: skip


def _images(told: Mapping[str, str], path: Path) -> list[dict[str, Any]]:
    folders = _json(told.get("ss_dataset_dirs", ""))
    if not isinstance(folders, dict) or not folders:
        raise FormatError(f"{path} does not say which pictures it was trained on (ss_dataset_dirs)")
    found = []
    for name, facts in folders.items():
        repeats = facts.get("n_repeats") if isinstance(facts, dict) else None
        found.append({"folder": name, **({"repeats": repeats} if isinstance(repeats, int) and repeats > 0 else {})})
    return found


def _worded(told: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """Settings whose words differ: the optimizer's class, the scheduler, the precision."""
    from loratools.train.config import TrainConfig

    words: dict[str, Any] = {}
    if optimizer := told.get("ss_optimizer"):
        words["optimizer"] = optimizer.partition("(")[0].rpartition(".")[2]
    words |= {ours: told[theirs] for theirs, ours in
              (("ss_lr_scheduler", "lr_scheduler"), ("ss_mixed_precision", "mixed_precision"),
               ("ss_training_comment", "comment")) if theirs in told}  # fmt: skip
    found = {}
    for key, word in words.items():
        try:
            TrainConfig.model_validate({"base": "x", "images": [{"folder": "x"}], "out": "x", "name": "x", key: word})
            found[key] = word
        except ValueError:
            notes.append(f"{key}: {word} is not known here and is left out")
    return found


def _data(told: Mapping[str, str]) -> dict[str, Any]:
    sets = _json(told.get("ss_datasets", ""))
    first = sets[0] if isinstance(sets, list) and sets and isinstance(sets[0], dict) else {}
    found: dict[str, Any] = {ours: first[key] for key, ours in _DATA_SET.items() if first.get(key) is not None}
    size = first.get("resolution") or _json(told.get("ss_resolution", "").translate({40: "[", 41: "]"}))
    if isinstance(size, list) and len(size) == 2:
        found["resolution"] = size
    if "ss_total_batch_size" in told and "batch_size" not in found:
        found["batch_size"] = _number(told["ss_total_batch_size"])
    subsets = first.get("subsets")
    subset = subsets[0] if isinstance(subsets, list) and subsets and isinstance(subsets[0], dict) else {}
    plain = {key: told[f"ss_{key}"] == "True" for key in ("shuffle_caption", "flip_aug", "random_crop", "color_aug")
             if f"ss_{key}" in told}  # fmt: skip
    plain |= {"keep_tokens": _number(told["ss_keep_tokens"])} if "ss_keep_tokens" in told else {}
    for key, ours in _SUBSET.items():
        value = subset.get(key, plain.get(key))
        if value is not None:
            found[ours] = value
    return found


def _number(text: str) -> Any:
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
