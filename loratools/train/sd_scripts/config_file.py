"""sd-scripts' ``--config_file``: its training options, in TOML with or without sections, as our settings.

Options with the same meaning here are translated, options that ask for what is always done here are accepted, and
every other one is refused by name (options.py). What such a file leaves out has sd-scripts' default.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError, did_you_mean
from loratools.files import find_beside
from loratools.train.sd_scripts.dataset_toml import DATASET_KEYS, SUBSET_KEYS, read_dataset_toml, refuse
from loratools.train.sd_scripts.dataset_toml import DEFAULTS as DATASET_DEFAULTS
from loratools.train.sd_scripts.lycoris_args import MODULE, lycoris_settings
from loratools.train.sd_scripts.network_args import network_settings
from loratools.train.sd_scripts.options import (
    ACCEPTED,
    DEFAULTS,
    GUI_ALIASES,
    GUI_ONLY,
    GUI_OPTIONS,
    METADATA,
    ONLY,
    OPTIONS,
    OR_NONE,
    TOGETHER,
)
from loratools.train.sd_scripts.toml_file import read_toml
from loratools.validation import Mistake
from loratools.yamlio import Document, Place


@dataclass(frozen=True)
class SdScriptsConfig:
    """What a TOML file of sd-scripts' says, as our settings.

    Attributes:
        of_options: the file holds training options; a dataset config says only which pictures.
        documents: the file, and the ``dataset_config`` that it names.
        notes: what a person should know and what stops nothing.
    """

    settings: Mapping[str, Any]
    of_options: bool
    documents: tuple[Document, ...]
    notes: tuple[str, ...]


def read_sd_scripts(path: Path, *, defaults: bool = True) -> SdScriptsConfig:
    """Read a file of options (sd-scripts' ``--config_file``) or a dataset config.

    Args:
        defaults: with sd-scripts' own for the options that the file leaves out.
    Raises:
        RecipeError: for a file that cannot be read, and for every key that is unknown, misplaced or not supported.
    """
    document = read_toml(path)
    if {"datasets", "general"} & document.data.keys():
        return SdScriptsConfig({**DATASET_DEFAULTS, **read_dataset_toml(document)}, False, (document,), ())
    return _read_options(document, defaults)


def _read_options(document: Document, defaults: bool) -> SdScriptsConfig:
    """``dataset_config`` is looked for beside the file, then in the current folder."""
    path, notes = Path(document.source), list[str]()
    options = _trainer_options(_flat(document.data, path), path, notes)
    refuse(document, [mistake for name, value in options.items() for mistake in _refusal(name, value, document)])
    given = {name: value for name, value in options.items() if name in OPTIONS and value not in ("", [])}
    settings = _with_samples({OPTIONS[name]: _value(name, value, path) for name, value in given.items()})
    settings = _with_tensorboard(_with_noise_offset(settings), path, notes) | _text_encoder(options, path, notes)
    settings |= _translated(options, path) | _network(options, str(path), notes)
    usual = {**DEFAULTS, **({} if "epochs" in settings else {"max_steps": 1600})} if defaults else {}
    dataset = _dataset_config(options, path)
    if options.get("enable_bucket") or dataset:  # also under a preset, which knows nothing of their buckets
        usual |= {key: value for key, value in DATASET_DEFAULTS.items() if key != "buckets"}
    of_dataset = read_dataset_toml(dataset) if dataset else {}
    documents = (document, *([dataset] if dataset else []))
    return SdScriptsConfig({**usual, **settings, **of_dataset}, True, documents, tuple(notes))


def find_setting(documents: Sequence[Document], place: Place) -> tuple[Document, Place] | None:
    """Where the setting at ``place`` of our config stands in files of sd-scripts', under its name there."""
    name = next((part for part in reversed(place) if isinstance(part, str)), "")
    names = {
        name,
        *(theirs for table in (OPTIONS, SUBSET_KEYS, DATASET_KEYS) for theirs in table if table[theirs] == name),
    }
    dataset = place[1] if place[:1] == ("datasets",) and len(place) > 1 else 0
    subset = next((after for part, after in itertools.pairwise(place) if part == "images"), None)
    levels = [("datasets", dataset, "subsets", subset), ("datasets", dataset), ("general",)]
    for document in documents:
        keys = [key for key in document.keys if key[-1:] and key[-1] in names]
        for level in levels:
            if key := next((key for key in keys if key[:-1] == level), None):
                return document, key
        if key := next((key for key in keys if len(key) <= 2), None):  # an option, in a section or in none
            return document, key
    return None


def _flat(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        for key, inner in value.items() if isinstance(value, dict) else [(name, value)]:
            if flat.get(key, inner) != inner:
                raise RecipeError(f"{path}: '{key}' is given in two sections, as {flat[key]} and {inner}; keep one")
            flat[key] = inner
    return flat


def _trainer_options(options: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """The options without those that only a GUI has; one note lists them."""
    theirs = {name: value for name, value in options.items() if name not in GUI_ALIASES and name not in GUI_ONLY}
    for name, own in GUI_ALIASES.items():
        if name in options:
            theirs.setdefault(own, options[name])
    if of_gui := sorted(GUI_ONLY & options.keys()):
        notes.append(f"{path}: {', '.join(of_gui)} of a GUI's own have no effect, as in sd-scripts")
    return theirs


def _refusal(name: str, value: object, document: Document) -> Iterator[Mistake]:
    """What is wrong with an option, and what to use instead."""
    place = next((key for key in document.keys if key[-1:] == (name,)), ())
    if name in OPTIONS or name in TOGETHER or name in ACCEPTED or name in GUI_OPTIONS:
        return
    off = value in (False, "", [], {})
    if name not in ONLY:
        hint = did_you_mean(name, [*OPTIONS, *TOGETHER, *ACCEPTED, *ONLY])
        if off and not hint:
            return  # switched off: nothing is lost
        yield Mistake(place, f"the option '{name}' is not supported{hint or ': remove it to train without'}", name)
        return
    values, remedy = ONLY[name]
    if not off and value not in values:
        yield Mistake(place, f"'{name} = {value}' is not supported: {remedy}", name)


def _value(name: str, value: Any, path: Path) -> Any:
    if name == "optimizer_args":
        return dict(_pair(text, path) for text in value)
    if name == "save_precision":
        return {"float": "fp32"}.get(value, value)
    if name == "text_encoder_lr" and isinstance(value, list):
        if len(set(value)) != 1:
            raise RecipeError(
                f"{path}: text_encoder_lr has {len(value)} values; here both text encoders have one, so "
                f"give one, such as text_encoder_lr = {value[0]}"
            )
        return value[0]
    if name == "max_token_length":
        return int(value) or 75
    return None if name in OR_NONE and value == 0 else value


def _pair(text: object, path: Path) -> tuple[str, Any]:
    name, equals, value = str(text).partition("=")
    if not equals:
        raise RecipeError(f"{path}: '{text}' in optimizer_args is no NAME=VALUE")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()


def _rules(arguments: object, path: Path) -> dict[str, Any]:
    """piecewise_constant's rules: the only argument that a schedule here takes beyond its options."""
    pairs = dict(_pair(text, path) for text in (arguments if isinstance(arguments, list) else [arguments]))
    if set(pairs) != {"step_rules"}:
        raise RecipeError(f"{path}: lr_scheduler_args has {', '.join(sorted(pairs))}; only step_rules is supported")
    return {"lr_rules": str(pairs["step_rules"])}


def _translated(options: Mapping[str, Any], path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if options.get("cache_latents_to_disk"):
        settings["cache_latents"] = "disk"
    elif "cache_latents" in options:
        settings["cache_latents"] = options["cache_latents"]
    if options.get("v_parameterization"):
        settings["prediction"] = "v_prediction"
    if options.get("lr_scheduler_args"):
        settings |= _rules(options["lr_scheduler_args"], path)
    if options.get("network_train_unet_only"):
        settings["te_lr"] = 0
    if options.get("network_train_text_encoder_only"):
        settings["unet_lr"] = 0
    for name, optimizer in (("use_8bit_adam", "AdamW8bit"), ("use_lion_optimizer", "Lion")):
        if options.get(name):
            settings["optimizer"] = optimizer
    described = {name: str(options[key]) for name in METADATA if options.get(key := f"metadata_{name}")}
    if described:
        settings["modelspec"] = described
    if options.get("max_train_steps") and not options.get("max_train_epochs"):
        settings["max_steps"] = options["max_train_steps"]
    return settings | _image_folders(options)


def _with_samples(settings: dict[str, Any]) -> dict[str, Any]:
    """Without prompts or an interval sd-scripts draws no samples, whatever else is set of them."""
    asked = any(settings.get(name) for name in ("sample_every_epochs", "sample_every_steps", "sample_at_first"))
    if asked and settings.get("sample_prompts"):
        return settings
    return {name: value for name, value in settings.items() if not name.startswith("sample_")}


def _network(options: Mapping[str, Any], source: str, notes: list[str]) -> dict[str, Any]:
    if options.get("network_module") == MODULE:
        return lycoris_settings(options, source, notes)
    return network_settings(options, source)


def _with_noise_offset(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what changes a noise offset that is 0, which sd-scripts ignores."""
    unused = () if settings.get("noise_offset") else ("noise_offset_random_strength", "adaptive_noise_scale")
    return {name: value for name, value in settings.items() if name not in unused}


def _with_tensorboard(settings: dict[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """Without TensorBoard where that is not installed: GUIs write a logging_dir into every file."""
    if "tensorboard" not in settings or importlib.util.find_spec("tensorboard") is not None:
        return settings
    notes.append(
        f"{path}: logging_dir needs a package that is not installed, so no curves are kept; pip install "
        "'loratools[log]' for them (every loss is in NAME.jsonl anyway)"
    )
    return {name: value for name, value in settings.items() if name != "tensorboard"}


def _text_encoder(options: Mapping[str, Any], path: Path, notes: list[str]) -> dict[str, Any]:
    """After how many steps it stays as it is: -1 for none at all, 0 for never."""
    steps = options.get("stop_text_encoder_training") or 0
    if not steps:
        return {}
    notes.append(f"{path}: stop_text_encoder_training counts here; sd-scripts trains a LoRA's text encoder to the end")
    return {"te_lr": 0} if steps < 0 else {"stop_text_encoder_training": steps}


def _image_folders(options: Mapping[str, Any]) -> dict[str, Any]:
    """``train_data_dir`` with what else is said of its folders, and ``reg_data_dir``."""
    more = {"mask_folder": options.get("conditioning_data_dir"), "metadata_file": options.get("in_json")}
    more = {key: value for key, value in more.items() if value}
    prior = options.get("reg_data_dir")
    if not options.get("train_data_dir") or not (more or prior):
        return {}
    images = [{"folder": options["train_data_dir"], **more}]
    return {"images": [*images, *([{"folder": prior, "regularisation": True}] if prior else [])]}


def _dataset_config(options: Mapping[str, Any], path: Path) -> Document | None:
    if not options.get("dataset_config"):
        return None
    named = Path(options["dataset_config"])
    return read_toml(find_beside(named, [path.parent]) or named)
