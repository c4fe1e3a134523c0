"""sd-scripts' ``--config_file``: its training options, in TOML with or without sections, as our settings.

Options with the same meaning here are translated, options that ask for what is always done here are accepted, and
every other one is refused by name. What such a file leaves out is as sd-scripts has it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError, did_you_mean
from loratools.train.dataset_toml import DATASET_KEYS, SUBSET_KEYS, load_toml, read_dataset_toml

# sd-scripts' option -> our setting, where the value means the same. The first twenty are the most used.
OPTIONS = {
    "pretrained_model_name_or_path": "base",
    "train_data_dir": "images",
    "output_dir": "out",
    "output_name": "name",
    "resolution": "resolution",
    "max_train_epochs": "epochs",
    "train_batch_size": "batch_size",
    "network_dim": "dim",
    "network_alpha": "alpha",
    "learning_rate": "learning_rate",
    "unet_lr": "unet_lr",
    "text_encoder_lr": "te_lr",
    "optimizer_type": "optimizer",
    "lr_scheduler": "lr_scheduler",
    "lr_warmup_steps": "lr_warmup",
    "mixed_precision": "mixed_precision",
    "save_precision": "dtype",
    "seed": "seed",
    "clip_skip": "clip_skip",
    "noise_offset": "noise_offset",
    "min_snr_gamma": "min_snr_gamma",
    "optimizer_args": "optimizer_args",
    "lr_scheduler_num_cycles": "lr_cycles",
    "lr_scheduler_power": "lr_power",
    "max_grad_norm": "max_grad_norm",
    "gradient_accumulation_steps": "gradient_accumulation",
    "training_comment": "comment",
    "prior_loss_weight": "prior_loss_weight",
    "gradient_checkpointing": "gradient_checkpointing",
    **{theirs: ours for theirs, ours in DATASET_KEYS.items() if theirs not in ("batch_size", "resolution")},
    **{theirs: ours for theirs, ours in SUBSET_KEYS.items()
       if theirs not in ("num_repeats", "class_tokens", "metadata_file", "is_reg", "conditioning_data_dir")},
    "validation_seed": "validation_seed",
}  # fmt: skip
MOST_USED = tuple(OPTIONS)[:20]
# handled together with another option, see _translated
TOGETHER = frozenset({
    "dataset_config", "cache_latents", "cache_latents_to_disk", "network_train_unet_only",
    "network_train_text_encoder_only", "max_train_steps",
})  # fmt: skip
# true of every run here, or without a meaning here, at any value
ACCEPTED = frozenset({
    "xformers", "sdpa", "mem_eff_attn", "max_data_loader_n_workers", "persistent_data_loader_workers",
    "vae_batch_size", "lowram", "highvram", "logging_dir", "log_with", "log_prefix", "log_tracker_name", "no_half_vae",
    "console_log_level", "console_log_file", "skip_cache_check", "metadata_title", "metadata_author",
    "metadata_description", "metadata_license", "metadata_tags",
})  # fmt: skip
# accepted at these values, else refused with what to do instead
ONLY: dict[str, tuple[tuple[object, ...], str]] = {
    "network_module": (("networks.lora",), "leave it out; plain LoRA is trained"),
    "save_model_as": (("safetensors",), "leave it out; files are safetensors"),
    "save_every_n_epochs": ((1,), "leave it out; every epoch has its file"),
    "no_metadata": ((False,), "leave it out; a file says how it was made"),
    "reg_data_dir": (("",), "name its folders under `images` with `regularisation: true`, in a YAML config"),
    "network_weights": (("",), "leave it out; to add to a LoRA, train a new one and `loratools merge` both"),
    "base_weights": (("",), "`loratools merge` the LoRA with the one that is trained, or use a merged base"),
    "resume": (("",), "pass --resume; the run's own state is found by its name"),
    "sample_prompts": (("",), "leave it out, and show the epochs with `loratools grid`"),
    "vae": (("",), "use a base that holds this VAE"),
    "save_state": ((True, False), ""),
    "v2": ((False,), "leave it out; the base says what it is"),
    "v_parameterization": ((False,), "leave it out; the base says what it predicts"),
}
DEFAULTS = {  # sd-scripts' own, of options that a file leaves out
    "dim": 4, "alpha": 1, "learning_rate": 2e-6, "lr_scheduler": "constant", "shuffle_tags": False, "buckets": False,
    "resolution": 512, "cache_latents": False,
}  # fmt: skip


def is_options(path: Path) -> bool:
    """Whether the TOML at ``path`` is a file of options, and not a dataset config."""
    return not {"datasets", "general"} & load_toml(path).keys()


def read_options(path: Path, *, defaults: bool = True) -> dict[str, Any]:
    """Our settings for sd-scripts' option file at ``path``; with ``defaults``, sd-scripts' own for what it leaves out.

    ``dataset_config`` is looked for in the current folder, then beside the file.

    Raises:
        RecipeError: naming the file and the option that is unknown or not supported, and what to use instead.
    """
    options = _flat(load_toml(path), path)
    for name, value in options.items():
        _check(name, value, path)
    settings = {OPTIONS[name]: _value(name, value, path) for name, value in options.items() if name in OPTIONS}
    settings |= _translated(options, path)
    return {**(DEFAULTS if defaults else {}), **settings, **_dataset_config(options, path)}


def table() -> str:
    """The twenty most used options as a Markdown table, for docs/training.md."""
    rows = [f"| `{name}` | `{OPTIONS[name]}` |" for name in MOST_USED]
    return "\n".join(["| sd-scripts | loratools |", "|---|---|", *rows])


def _flat(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        for key, inner in value.items() if isinstance(value, dict) else [(name, value)]:
            if key in flat:
                raise RecipeError(f"{path}: '{key}' is given in two sections; keep one")
            flat[key] = inner
    return flat


def _check(name: str, value: object, path: Path) -> None:
    if name in OPTIONS or name in TOGETHER or name in ACCEPTED:
        return
    if name not in ONLY:
        known = [*OPTIONS, *TOGETHER, *ACCEPTED, *ONLY]
        hint = did_you_mean(name, known)
        off = value in (False, 0, "", []) or value is None
        if off and not hint:
            return  # switched off: nothing is lost
        raise RecipeError(f"{path}: the option '{name}' is not supported{hint or '; remove it to train without'}")
    values, remedy = ONLY[name]
    if value not in values:
        raise RecipeError(f"{path}: '{name} = {value}' is not supported: {remedy}")


def _value(name: str, value: Any, path: Path) -> Any:
    if name == "optimizer_args":
        return dict(_pair(text, path) for text in value)
    if name == "save_precision":
        return {"float": "fp32"}.get(value, value)
    if name == "text_encoder_lr" and isinstance(value, list):
        if len(set(value)) != 1:
            raise RecipeError(f"{path}: text_encoder_lr has {len(value)} values; give one")
        return value[0]
    if name == "network_alpha" and value == 0:
        return None  # as the dim
    return value


def _pair(text: object, path: Path) -> tuple[str, Any]:
    name, found, value = str(text).partition("=")
    if not found:
        raise RecipeError(f"{path}: '{text}' in optimizer_args is no NAME=VALUE")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()


def _translated(options: Mapping[str, Any], path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if options.get("cache_latents_to_disk"):
        settings["cache_latents"] = "disk"
    elif "cache_latents" in options:
        settings["cache_latents"] = options["cache_latents"]
    if options.get("network_train_unet_only"):
        settings["te_lr"] = 0
    if options.get("network_train_text_encoder_only"):
        settings["unet_lr"] = 0
    if "max_train_epochs" not in options:
        given = f"max_train_steps = {options['max_train_steps']}" if "max_train_steps" in options else "no length"
        raise RecipeError(f"{path} gives {given}; set max_train_epochs, whose steps `--dry-run` shows")
    return settings


def _dataset_config(options: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if not options.get("dataset_config"):
        return {}
    named = Path(options["dataset_config"])
    found = named if named.exists() or not (path.parent / named).exists() else path.parent / named
    return read_dataset_toml(found)
