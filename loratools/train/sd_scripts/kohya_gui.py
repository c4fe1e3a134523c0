"""kohya_ss' own files: the JSON in which a tab keeps all of its fields, as options of sd-scripts'.

The GUI makes sd-scripts' options of these fields when a training begins; what it makes of each is written down here.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Mapping
from typing import Any

from loratools.errors import RecipeError, did_you_mean
from loratools.train.sd_scripts.lycoris_args import MODULE as LYCORIS
from loratools.train.sd_scripts.other_trainers import GUI_SIGNS
from loratools.yamlio import Document, Place

_RENAMED = {  # field -> option, where the value means the same
    "max_resolution": "resolution",
    "optimizer": "optimizer_type",
    "lora_network_weights": "network_weights",
}
# fields in which 0 stands for nothing
_OR_NOTHING = ("max_train_epochs", "max_train_steps", "seed", "clip_skip", "lr_scheduler_power", "max_timestep")
# fields of one kind of noise: of no effect under the other
_NOISE = {
    "Original": ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale"),
    "Multires": ("multires_noise_iterations", "multires_noise_discount"),
}
_BLOCKS = (
    "down_lr_weight",
    "mid_lr_weight",
    "up_lr_weight",
    "block_lr_zero_threshold",
    "block_dims",
    "block_alphas",
    "conv_block_dims",
    "conv_block_alphas",
)
_DROPOUTS = ("rank_dropout", "module_dropout")
_LORAPLUS = ("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio")
_CONV = ("conv_dim", "conv_alpha")
_OF_LYCORIS = (*_CONV, *_DROPOUTS, "rank_dropout_scale", "use_tucker", "train_norm")
_LOHA = (*_OF_LYCORIS, "bypass_mode", "dora_wd", "use_scalar")
_LOKR = (*_LOHA, "factor", "use_cp", "decompose_both")
# LoRA_type -> the network's module, LyCORIS' name of the algorithm, and the fields that are its arguments
LORA_TYPES: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "Standard": ("networks.lora", None, (*_BLOCKS, *_DROPOUTS)),
    "Kohya LoCon": ("networks.lora", None, (*_CONV, *_BLOCKS, *_DROPOUTS)),
    "LoCon": (LYCORIS, "locon", _LOHA),
    "LyCORIS/LoCon": (LYCORIS, "locon", _LOHA),
    "LyCORIS/LoHa": (LYCORIS, "loha", _LOHA),
    "LyCORIS/LoKr": (LYCORIS, "lokr", _LOKR),
    "LyCORIS/iA3": (LYCORIS, "ia3", ()),
    "LyCORIS/DyLoRA": (LYCORIS, "dylora", ()),
    "LyCORIS/GLoRA": (LYCORIS, "glora", ()),
    "LyCORIS/BOFT": (LYCORIS, "boft", ()),
    "LyCORIS/Diag-OFT": (LYCORIS, "diag-oft", ()),
    "LyCORIS/Native Fine-Tuning": (LYCORIS, "full", ()),
    "Kohya DyLoRA": ("networks.dylora", None, ()),
    "LoRA-FA": ("networks.lora_fa", None, ()),
    "Kohya LoHa": ("networks.loha", None, ()),
    "Kohya LoKr": ("networks.lokr", None, ()),
}
# fields of the GUI itself, of how it starts a training, and of what is worked out from several of them below
_OWN = {
    *_BLOCKS, *_DROPOUTS, *_LORAPLUS, *_LOKR, "LoRA_type", "LyCORIS_preset", "additional_parameters", "block_lr",
    "caption_metadata_filename", "constrain", "conv_alphas", "conv_dims", "create_buckets", "create_caption",
    "dynamo_mode", "dynamo_use_dynamic", "dynamo_use_fullgraph", "epoch", "extra_accelerate_launch_args", "gpu_ids",
    "headless", "ggpo_beta", "ggpo_sigma", "latent_metadata_filename", "lowvram", "lr_warmup", "main_process_port",
    "model_list", "model_type", "multi_gpu", "no_token_padding", "noise_offset_type", "num_cpu_threads_per_process",
    "num_machines", "num_processes", "print_only", "rescaled", "save_as_bool", "sdxl", "stop_text_encoder_training",
    "stop_text_encoder_training_pct", "train_lora_ggpo", "train_on_input", "unit", "use_latent_files", "use_wandb",
    "train", "t5xxl_lr",
}  # fmt: skip
# fields of other families' trainings, which count only where the family's own box is ticked
_OF_FAMILIES = {
    "ae", "apply_t5_attn_mask", "blocks_to_swap", "blockwise_fused_optimizers", "clip_g", "clip_g_dropout_rate",
    "clip_l", "cpu_offload_checkpointing", "disable_mmap_load_safetensors", "discrete_flow_shift",
    "double_blocks_to_swap", "enable_all_linear", "fp8_base_unet", "fused_backward_pass", "fused_optimizer_groups",
    "guidance_scale", "img_attn_dim", "img_mlp_dim", "img_mod_dim", "in_dims", "logit_mean", "logit_std",
    "mem_eff_save", "mode_scale", "model_prediction_type", "pos_emb_random_crop_rate", "save_clip", "save_t5xxl",
    "show_timesteps", "show_timesteps_resolution", "single_blocks_to_swap", "single_dim", "single_mod_dim",
    "split_mode", "split_qkv", "t5xxl", "t5xxl_device", "t5xxl_dtype", "t5xxl_max_token_length", "timestep_sampling",
    "train_blocks", "train_double_block_indices", "train_single_block_indices", "train_t5xxl", "txt_attn_dim",
    "txt_mlp_dim", "txt_mod_dim", "weighting_scheme",
}  # fmt: skip
_PREFIXES = ("flux1_", "flux_", "sd3_", "hunyuan_", "anima_", "lumina_", "sdxl_")


def is_gui_file(data: Mapping[str, Any]) -> bool:
    """Whether the data are what a tab of the GUI saves: the LoRA tab, or those of DreamBooth and fine-tuning."""
    return "LoRA_type" in data or len(GUI_SIGNS & data.keys()) > 1


def _trains_whole_models(fields: Mapping[str, Any]) -> bool:
    return not {"LoRA_type", "network_dim"} & fields.keys()


def gui_options(document: Document) -> Document:
    """The options that the GUI gives to sd-scripts for its fields, each with the place of its field.

    Raises:
        RecipeError: for a kind of LoRA that the GUI does not have, or additional parameters that cannot be read.
    """
    fields: Mapping[str, Any] = document.data
    noise = str(fields.get("noise_offset_type", "")) or "Original"
    unused = {name for kind, names in _NOISE.items() if kind != noise for name in names}
    dropped = {*_OWN, *_OF_FAMILIES, *unused}
    options: dict[str, Any] = {}
    places: dict[Place, Place] = {}
    for name, value in fields.items():
        if name in dropped or name.startswith(_PREFIXES) or _is_nothing(name, value):
            continue
        option = _RENAMED.get(name, name)
        options[option], places[name,] = value, (option,)
    for option, value, field in [*_worked_out(fields, document), *_rates(fields), *_additional(fields, document)]:
        options[option], places[field,] = value, (option,)
    if not number_of(fields.get("unet_lr")):
        options.pop("unet_lr", None)
    if not number_of(fields.get("text_encoder_lr")):
        options.pop("text_encoder_lr", None)
    return document.moved(options, places)


def number_of(value: object) -> float:
    """A field's number, which may be written as text; 0 for an empty field."""
    try:
        return float(str(value or 0).rstrip("%"))
    except ValueError:
        return 0.0


def _is_nothing(name: str, value: object) -> bool:
    return value in ("", None) or (name in _OR_NOTHING and number_of(value) == 0)


def _worked_out(fields: Mapping[str, Any], document: Document) -> list[tuple[str, Any, str]]:
    """Options that are made of one or more fields: their names, values, and the field that decides."""
    made: list[tuple[str, Any, str]] = []
    counted = number_of(fields.get("max_train_epochs")) or number_of(fields.get("max_train_steps"))
    if not counted and number_of(fields.get("epoch")) and not fields.get("dataset_config"):
        made.append(("max_train_epochs", int(number_of(fields["epoch"])), "epoch"))
    if number_of(fields.get("lr_warmup")) and not number_of(fields.get("lr_warmup_steps")):
        made.append(("lr_warmup_steps", f"{number_of(fields['lr_warmup']):g}%", "lr_warmup"))
    for name in ("stop_text_encoder_training", "stop_text_encoder_training_pct"):  # the latter in files of old
        if (share := number_of(fields.get(name))) < 0:
            made.append(("network_train_unet_only", True, name))
        elif 0 < share < 100:
            made.append(("stop_text_encoder_training", f"{share:g}%", name))
    if isinstance(prompts := fields.get("sample_prompts"), str) and prompts.strip():  # the prompts, not their file
        lines = [line for line in prompts.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        made.append(("sample_prompts", lines, "sample_prompts"))
    if fields.get("use_wandb") is True:
        made.append(("log_with", "wandb", "use_wandb"))
    for name in ("optimizer_args", "lr_scheduler_args"):
        if isinstance(text := fields.get(name), str) and text.strip():
            made.append((name, text.replace('"', "").split(), name))
    if _trains_whole_models(fields):
        return made + _of_whole_models(fields)
    return made + _network(fields, document)


def _of_whole_models(fields: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """What the tabs of whole models have and the LoRA tab has not; ``model_list`` is a field of every tab."""
    kind = "sd-finetune" if "train_text_encoder" in fields else "sd-dreambooth"  # the tab of fine-tuning has that box
    kind = "sdxl-finetune" if fields.get("sdxl") is True else kind
    names = ("no_token_padding", "block_lr", "fused_backward_pass", "train_text_encoder")
    given = [(name, fields[name], name) for name in names if not _is_off(fields.get(name))]
    rates = ("learning_rate_te1", "learning_rate_te2")
    if (
        fields.get("sdxl") is True
        and "train_text_encoder" not in fields
        and any(number_of(fields.get(r)) for r in rates)
    ):
        given.append(("train_text_encoder", True, "learning_rate_te1"))  # as the DreamBooth tab has it
    return [("model_train_type", kind, "model_list"), *given]


def _rates(fields: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """Where only one of the two rates is given, the other part is not trained."""
    unet, text = (number_of(fields.get(name)) for name in ("unet_lr", "text_encoder_lr"))
    if unet and not text:
        return [("network_train_unet_only", True, "unet_lr")]
    if text and not unet:
        return [("network_train_text_encoder_only", True, "text_encoder_lr")]
    return []


def _network(fields: Mapping[str, Any], document: Document) -> list[tuple[str, Any, str]]:
    """The module and its arguments, of the fields that the kind of LoRA has."""
    kind = str(fields.get("LoRA_type") or "Standard")  # the only one in the oldest files
    if kind not in LORA_TYPES:
        known = ", ".join(LORA_TYPES)
        message = f"there is no LoRA_type '{kind}' here{did_you_mean(kind, LORA_TYPES)}; known are {known}"
        raise document.error(("LoRA_type",), message, kind)
    module, algorithm, names = LORA_TYPES[kind]
    given = {name: fields[name] for name in (*names, *_LORAPLUS) if not _is_off(fields.get(name))}
    if algorithm is not None:
        given = {"algo": algorithm, "preset": fields.get("LyCORIS_preset") or "full", **given}
    arguments = [f"{name}={value}" for name, value in given.items()]
    return [("network_module", module, "LoRA_type"), ("network_args", arguments, "LoRA_type")]


def _is_off(value: object) -> bool:
    return value in ("", None, False) or str(value) in ("0", "0.0")


def _additional(fields: Mapping[str, Any], document: Document) -> list[tuple[str, Any, str]]:
    """``--name value`` of the field for whatever the GUI has no field for."""
    text = fields.get("additional_parameters") or ""
    try:
        words = shlex.split(str(text))
    except ValueError as error:
        raise document.error(
            ("additional_parameters",), f"additional_parameters cannot be read ({error}); close every quote", str(text)
        ) from error
    options: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            options[name] = [value] if equals else []
        elif name:
            options[name].append(word)
        else:
            raise RecipeError(f"{document.source}: additional_parameters begins with '{word}', not with a --name")
    return [(name, _meant(name, values), "additional_parameters") for name, values in options.items()]


def _meant(name: str, values: list[str]) -> Any:
    if not values:
        return True
    if name.endswith("_args"):
        return values
    read = [_number(value) for value in values]
    return read[0] if len(read) == 1 else read


def _number(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float) else text
