"""sd-scripts' settings as a recipe that trains: a config of its own or of a GUI's for it, or the ``ss_*`` metadata of
a file that it wrote."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loratools.errors import FormatError, RecipeError
from loratools.recipe.importers.model import Imported, imported_recipe, unknown_base
from loratools.recipe.importers.write import step_name

_ELSEWHERE = ("base", "out", "name", "device", "resume", "force", "images")
_NUMBERS = {  # sd-scripts' entry -> our setting, where the value means the same
    "ss_network_dim": "dim",
    "ss_network_alpha": "alpha",
    "ss_learning_rate": "learning_rate",
    "ss_unet_lr": "unet_lr",
    "ss_text_encoder_lr": "te_lr",
    "ss_num_epochs": "epochs",
    "ss_gradient_accumulation_steps": "gradient_accumulation",
    "ss_lr_warmup_steps": "lr_warmup",
    "ss_max_grad_norm": "max_grad_norm",
    "ss_seed": "seed",
    "ss_noise_offset": "noise_offset",
    "ss_min_snr_gamma": "min_snr_gamma",
    "ss_clip_skip": "clip_skip",
    "ss_prior_loss_weight": "prior_loss_weight",
    "ss_caption_dropout_rate": "caption_dropout",
    "ss_caption_tag_dropout_rate": "tag_dropout",
}
_SUBSET = {
    "shuffle_caption": "shuffle_tags",
    "keep_tokens": "keep_tokens",
    "flip_aug": "flip",
    "random_crop": "random_crop",
    "color_aug": "color_aug",
}
_DATA_SET = {
    "enable_bucket": "buckets",
    "min_bucket_reso": "bucket_min",
    "max_bucket_reso": "bucket_max",
    "batch_size_per_device": "batch_size",
}
_WORDED = {  # likewise, where the value may be unknown here
    "ss_lr_scheduler": "lr_scheduler",
    "ss_mixed_precision": "mixed_precision",
    "ss_training_comment": "comment",
    "ss_network_dropout": "network_dropout",
    "ss_scale_weight_norms": "scale_weight_norms",
    "ss_adaptive_noise_scale": "adaptive_noise_scale",
    "ss_multires_noise_iterations": "multires_noise_iterations",
    "ss_ip_noise_gamma": "ip_noise_gamma",
    "ss_zero_terminal_snr": "zero_terminal_snr",
    "ss_debiased_estimation": "debiased_estimation_loss",
    "ss_loss_type": "loss_type",
    "ss_vae_name": "vae",
}
_BESIDE = {  # what only says how another setting works, which has to be there
    "ss_multires_noise_discount": ("multires_noise_discount", "multires_noise_iterations"),
    "ss_noise_offset_random_strength": ("noise_offset_random_strength", "noise_offset"),
    "ss_ip_noise_gamma_random_strength": ("ip_noise_gamma_random_strength", "ip_noise_gamma"),
    "ss_huber_schedule": ("huber_schedule", "loss_type"),
    "ss_huber_c": ("huber_c", "loss_type"),
    "ss_huber_scale": ("huber_scale", "loss_type"),
}
_OFF = ("0", "0.0", "False", "l2")  # what says that a setting is not in use


def from_config(path: Path, base: str | None, dataset: str | None = None) -> Imported:
    """Training options or a dataset config, as a recipe that trains; read as ``loratools train`` reads them.

    Args:
        dataset: the dataset config, where the options do not name it.
    Raises:
        RecipeError: naming an option that is unknown or not supported, and what to use instead.
    """
    from loratools.train.sd_scripts.config_file import read_sd_scripts

    theirs = read_sd_scripts(path, dataset=dataset)
    options, notes = theirs.settings, [*theirs.notes]
    if not (options.get("images") or options.get("datasets")):
        raise RecipeError(f"{path}: it names no pictures (train_data_dir); give its dataset config after it")
    settings = {key: value for key, value in options.items() if key not in _ELSEWHERE and value is not None}
    if not theirs.of_options:
        notes.append(f"{path.name} says which pictures, not how to train: `preset: default` is this tool's")
    if not (base or options.get("base")):
        notes.append(f"{path.name} names no base: name its file at `base:`")
    if (steps := settings.pop("max_steps", None)) is not None:
        notes.append(f"max_train_steps = {steps} has no place in a recipe, which counts epochs: name them at `epochs:`")
    notes += [f"'{key}: {options[key]}' is left out: results go to runs/, or -o" for key in ("out",) if key in options]
    images = {"images": options["images"]} if options.get("images") else {}
    step = {"train": {**images, **settings}}
    name = step_name(str(options.get("name") or path.stem))
    return imported_recipe(theirs.program, {name: step}, base or options.get("base"), notes)


def from_metadata(path: Path, metadata: Mapping[str, str], base: str | None) -> Imported:
    """The training that a file's ``ss_*`` entries describe. They hold the names of folders, not their paths.

    Raises:
        FormatError: if they do not say which pictures.
    """
    metadata = {key: text for key, text in metadata.items() if text not in ("None", "")}
    notes: list[str] = []
    images = _images(metadata, path)
    names = ", ".join(image["folder"] for image in images)
    notes.append(f"the header names the folders {names}, not where they lay: put them beside the recipe")
    settings = {ours: _number(metadata[theirs]) for theirs, ours in _NUMBERS.items() if theirs in metadata}
    settings |= _worded(metadata, notes)
    settings |= _data(metadata)
    if "vae" in settings:
        notes.append(f"the header calls its VAE {settings['vae']}, not where it lay: put it beside the recipe")
    if (module := metadata.get("ss_network_module", "networks.lora")) != "networks.lora":
        notes.append(f"it was trained as {module}; this recipe trains a plain LoRA")
    model = metadata.get("ss_sd_model_name")
    digest = metadata.get("ss_new_sd_model_hash") or metadata.get("ss_sd_model_hash")
    if base is None:
        notes.append(f"name the base's file at `base:`; the header calls it {model or digest or 'nothing'}")
    step = {"train": {"images": images, **settings}}
    name = step_name(metadata.get("ss_output_name", path.stem))
    return imported_recipe("sd-scripts' metadata", {name: step}, base or model or unknown_base(digest), notes)


def _images(metadata: Mapping[str, str], path: Path) -> list[dict[str, Any]]:
    folders = _json(metadata.get("ss_dataset_dirs", ""))
    if not isinstance(folders, dict) or not folders:
        raise FormatError(f"{path} does not say which pictures it was trained on (ss_dataset_dirs)")
    regular = _json(metadata.get("ss_reg_dataset_dirs", ""))
    class_folders = regular if isinstance(regular, dict) else {}
    return [
        *(_folder(name, facts) for name, facts in folders.items()),
        *({**_folder(name, facts), "regularisation": True} for name, facts in class_folders.items()),
    ]


def _folder(name: str, facts: object) -> dict[str, Any]:
    repeats = facts.get("n_repeats") if isinstance(facts, dict) else None
    return {"folder": name, **({"repeats": repeats} if isinstance(repeats, int) and repeats > 0 else {})}


def _worded(metadata: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """Settings whose names or words differ: the optimizer and its arguments, the network's, the objective's."""
    words = _optimizer(metadata, notes)
    words |= {
        ours: _value(metadata[theirs]) for theirs, ours in _WORDED.items() if metadata.get(theirs, "0") not in _OFF
    }
    words |= {
        ours: _value(metadata[theirs])
        for theirs, (ours, of) in _BESIDE.items()
        if of in {**words, **_positive(metadata)} and theirs in metadata and metadata[theirs] not in _OFF
    }
    words |= _network(metadata, notes)
    settings: dict[str, Any] = {}
    for key, word in words.items():
        if _fits({**_positive(metadata), **settings, key: word}):
            settings[key] = word
        else:
            notes.append(f"{key}: {word} is not known here and is left out; the result will differ")
    return settings


def _positive(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The noise offset, which other settings may depend on."""
    offset = metadata.get("ss_noise_offset", "0")
    return {} if offset in _OFF else {"noise_offset": _number(offset)}


def _fits(settings: Mapping[str, Any]) -> bool:
    from loratools.train.config.config import TrainConfig

    try:
        TrainConfig.model_validate({"base": "x", "images": [{"folder": "x"}], "out": "x", "name": "x", **settings})
    except ValueError:
        return False
    return True


def _optimizer(metadata: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """``bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))`` by name and arguments."""
    text = metadata.get("ss_optimizer")
    if text is None:
        return {}
    name, _, arguments = text.partition("(")
    settings: dict[str, Any] = {"optimizer": name.rpartition(".")[2]}
    try:
        call = ast.parse(f"f({arguments}" if arguments else "f()", mode="eval").body
        keywords = call.keywords if isinstance(call, ast.Call) else []
        values = {str(one.arg): ast.literal_eval(one.value) for one in keywords}
    except (SyntaxError, ValueError):
        notes.append(f"the optimizer's arguments cannot be read and are left out: {arguments[:60]}")
        return settings
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return settings | ({"optimizer_args": plain} if plain else {})


def _network(metadata: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """``ss_network_args``, whose values are texts; what is no setting here is noted."""
    from loratools.train.config.network import NetworkConfig

    arguments = _json(metadata.get("ss_network_args", ""))
    settings: dict[str, Any] = {}
    for key, value in arguments.items() if isinstance(arguments, dict) else ():
        if key in NetworkConfig.model_fields:
            settings[key] = _value(str(value))
        elif str(value) not in ("None", ""):
            notes.append(f"ss_network_args: {key} = {str(value)[:60]} has no place in a recipe; the result will differ")
    settings = {key: value for key, value in settings.items() if value not in ("None", "")}
    return dict(sorted(settings.items(), key=lambda item: item[0] != "conv_dim"))  # which conv_alpha needs


def _value(text: str) -> Any:
    return {"True": True, "False": False}.get(text, _number(text))


def _data(metadata: Mapping[str, str]) -> dict[str, Any]:
    sets = _json(metadata.get("ss_datasets", ""))
    first = sets[0] if isinstance(sets, list) and sets and isinstance(sets[0], dict) else {}
    settings: dict[str, Any] = {ours: first[key] for key, ours in _DATA_SET.items() if first.get(key) is not None}
    size = first.get("resolution") or _json(metadata.get("ss_resolution", "").translate({40: "[", 41: "]"}))
    if isinstance(size, list) and len(size) == 2:
        settings["resolution"] = size
    if "ss_total_batch_size" in metadata and "batch_size" not in settings:
        settings["batch_size"] = _number(metadata["ss_total_batch_size"])
    subsets = first.get("subsets")
    subset = subsets[0] if isinstance(subsets, list) and subsets and isinstance(subsets[0], dict) else {}
    plain = {
        key: metadata[f"ss_{key}"] == "True"
        for key in ("shuffle_caption", "flip_aug", "random_crop", "color_aug")
        if f"ss_{key}" in metadata
    }
    plain |= {"keep_tokens": _number(metadata["ss_keep_tokens"])} if "ss_keep_tokens" in metadata else {}
    for key, ours in _SUBSET.items():
        value = subset.get(key, plain.get(key))
        if value is not None:
            settings[ours] = value
    return settings


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
