"""The ``ss_*`` metadata of a file that sd-scripts wrote, as a recipe that trains; what has no place in it is noted."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loratools.adapter.files.base_facts import StatedBase
from loratools.adapter.files.metadata import Provenance
from loratools.recipe.importers.model import Imported, imported_recipe, unknown_base
from loratools.recipe.importers.sd_scripts_folders import plain_value, read_folders, read_json
from loratools.recipe.importers.write import step_name
from loratools.train.sd_scripts.lycoris_args import ARGUMENTS as LYCORIS_ARGUMENTS
from loratools.train.sd_scripts.lycoris_args import MODULE as LYCORIS
from loratools.train.sd_scripts.lycoris_args import lycoris_settings
from loratools.train.sd_scripts.network_args import ARGUMENTS, network_settings
from loratools.train.sd_scripts.other_trainers import refuse_other_trainers
from loratools.yamlio import Document

PLAIN = "networks.lora"

_NUMBERS = {  # sd-scripts' entry -> our setting, where the value means the same
    "ss_network_dim": "dim",
    "ss_network_alpha": "alpha",
    "ss_learning_rate": "learning_rate",
    "ss_unet_lr": "unet_lr",
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
    "ss_caption_dropout_every_n_epochs": "caption_dropout_every",
    "ss_max_token_length": "max_token_length",
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
_NO_PLACE = ("ss_face_crop_aug_range", "ss_full_fp16", "ss_fp8_base", "ss_fp8_base_unet")
_OFF = ("0", "0.0", "False", "l2")  # what says that a setting is not in use


def from_metadata(path: Path, metadata: Mapping[str, str], base: str | None) -> Imported:
    """The training that a file's ``ss_*`` entries describe. They hold the names of folders, not their paths.

    Raises:
        FormatError: if they do not say which pictures.
    """
    metadata = {key: text for key, text in metadata.items() if text not in ("None", "")}
    refuse_other_trainers(_as_options(metadata, path))
    trained = read_folders(metadata, path)
    names = ", ".join(image["folder"] for image in trained.images)
    notes = [f"the header names the folders {names}, not where they lay: put them beside the recipe", *trained.notes]
    settings = _settings(metadata, trained.settings, notes)
    if "vae" in settings:
        notes.append(f"the header calls its VAE {settings['vae']}, not where it lay: put it beside the recipe")
    model = metadata.get("ss_sd_model_name")
    digest = metadata.get("ss_new_sd_model_hash") or metadata.get("ss_sd_model_hash")
    if base is None:
        notes.append(f"name the base's file at `base:`; the header calls it {model or digest or 'nothing'}")
    step = {"train": {"images": trained.images, **settings}}
    name = step_name(metadata.get("ss_output_name", path.stem))
    return imported_recipe("sd-scripts' metadata", {name: step}, base or model or unknown_base(digest), notes)


def _as_options(metadata: Mapping[str, str], path: Path) -> Document:
    """The entries by the names that configs have for them, as far as they say which program or model it is for."""
    module = {"network_module": metadata["ss_network_module"]} if "ss_network_module" in metadata else {}
    return Document(module, str(path), "", {}, {})


def _settings(metadata: Mapping[str, str], of_folders: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """All settings of the training; ``notes`` gets a sentence for each that is not known here or has no place."""
    numbers = {ours: plain_value(metadata[theirs]) for theirs, ours in _NUMBERS.items() if theirs in metadata}
    numbers |= _text_encoder_rate(metadata, notes)
    if numbers.get("alpha") == 0:  # as sd-scripts reads it
        numbers["alpha"] = numbers.get("dim", 4)
    if not numbers.get("min_snr_gamma", 1):
        del numbers["min_snr_gamma"]
    if split := plain_value(metadata.get("ss_validation_split", "0")):
        numbers |= {"validation_split": split}
        if "ss_validation_seed" in metadata:
            numbers["validation_seed"] = plain_value(metadata["ss_validation_seed"])
    if StatedBase.of("", metadata).values.get("prediction_type") == ("v",):
        numbers["prediction"] = "v_prediction"
    settings: dict[str, Any] = {}
    for key, value in {**numbers, **of_folders, **_worded(metadata, notes)}.items():
        if _fits({**settings, key: value}):
            settings[key] = value
        else:
            notes.append(f"{key}: {value} is not known here and is left out; the result will differ")
    notes += [
        f"{key} = {metadata[key]} has no place in a recipe; the result will differ"
        for key in _NO_PLACE
        if metadata.get(key, "0") not in _OFF
    ]
    return settings


def _text_encoder_rate(metadata: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """One number, or a list of one for each text encoder, of which sd-scripts takes the first for SD1 to SDXL."""
    if (text := metadata.get("ss_text_encoder_lr")) is None:
        return {}
    rates = read_json(text)
    if not isinstance(rates, list):
        return {"te_lr": plain_value(text)}
    if len(set(map(str, rates))) > 1:
        notes.append(f"ss_text_encoder_lr = {text} has a rate for each text encoder; the first is taken for all")
    return {"te_lr": rates[0]} if rates else {}


def _worded(metadata: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    """Settings whose names or words differ: the optimizer and its arguments, the network's, the objective's."""
    words = _optimizer(metadata, notes)
    words |= {
        ours: plain_value(metadata[theirs]) for theirs, ours in _WORDED.items() if metadata.get(theirs, "0") not in _OFF
    }
    has_offset = {"noise_offset"} if metadata.get("ss_noise_offset", "0") not in _OFF else set[str]()
    words |= {
        ours: plain_value(metadata[theirs])
        for theirs, (ours, of) in _BESIDE.items()
        if of in {*words, *has_offset} and theirs in metadata and metadata[theirs] not in _OFF
    }
    return words | _network(metadata, notes)


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
    """``ss_network_module`` and ``ss_network_args``, whose values are texts; what is no setting here is noted."""
    if own := _own_network(metadata):
        return own
    module = metadata.get("ss_network_module", PLAIN)
    if module not in (PLAIN, LYCORIS):
        notes.append(f"it was trained as {module}; this recipe trains a plain LoRA")
    given = read_json(metadata.get("ss_network_args", ""))
    given = {key: str(value) for key, value in given.items()} if isinstance(given, dict) else {}
    given = {key: value for key, value in given.items() if value not in ("None", "")}
    known = LYCORIS_ARGUMENTS if module == LYCORIS else ARGUMENTS
    for key in [key for key in given if key not in known]:
        notes.append(f"ss_network_args: {key} = {given.pop(key)[:60]} has no place in a recipe; the result will differ")
    settings, wrong = _read_arguments(given, metadata)
    if wrong:
        for key in [key for key in given if key != "algo"]:
            reasons = _read_arguments({key: given[key], **_algorithm(given)}, metadata)[1]
            if reasons:
                del given[key]
                notes.append(f"ss_network_args: {'; '.join(reasons)}; it is left out, and the result will differ")
        settings, wrong = _read_arguments(given, metadata)
    notes += [f"ss_network_args: {reason}; this recipe trains a plain LoRA" for reason in wrong]
    return {} if wrong else settings


def _own_network(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The network's settings as a training of this tool wrote them; empty for another's file."""
    from loratools.train.config.network import NetworkConfig

    provenance = Provenance.from_metadata(metadata)
    trained = provenance.step.get("train") if provenance is not None else None
    if not isinstance(trained, dict):
        return {}
    fields = NetworkConfig.model_fields
    return {key: trained[key] for key, one in fields.items() if trained.get(key) not in (None, [], one.default)}


def _algorithm(given: Mapping[str, str]) -> dict[str, str]:
    return {"algo": given["algo"]} if "algo" in given else {}


def _read_arguments(given: Mapping[str, str], metadata: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that the arguments stand for, and what is wrong with them."""
    options = {
        "network_args": [f"{key}={value}" for key, value in given.items()],
        "network_dim": plain_value(metadata.get("ss_network_dim", "4")),
        "network_alpha": plain_value(metadata.get("ss_network_alpha", "1")),
    }
    wrong: list[str] = []
    if metadata.get("ss_network_module") == LYCORIS:
        return lycoris_settings(options, wrong, []), wrong
    return network_settings(options, wrong), wrong
