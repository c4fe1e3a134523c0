"""Configs that cannot be read here, because they are another program's or of models that are not trained here.

Each is recognised by what it holds, and refused in one sentence that says whose it is, before any of its keys is looked
at: a list of unknown keys would say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError
from loratools.yamlio import Document

_TRAINED = "loratools trains SD 1.x, SD 2.x and SDXL"
_FAMILY_REMEDY = f"{_TRAINED}; train this one with the program that it was written for"
# a word in the names of modules and of kinds of models -> the family; a longer name comes before its beginning
_FAMILIES = {
    "hunyuan_image": "HunyuanImage",
    "hunyuan-image": "HunyuanImage",
    "hunyuanimage": "HunyuanImage",
    "hunyuan": "HunyuanVideo",
    "hunyuanvideo": "HunyuanVideo",
    "hunyuan_video": "HunyuanVideo",
    "framepack": "FramePack (HunyuanVideo)",
    "flux_kontext": "Flux.1 Kontext",
    "flux_2": "Flux.2",
    "flux2": "Flux.2",
    "flux": "Flux.1",
    "chroma": "Chroma",
    "sd3": "Stable Diffusion 3",
    "lumina": "Lumina",
    "anima": "Anima",
    "qwen": "Qwen-Image",
    "zimage": "Z-Image",
    "z-image": "Z-Image",
    "z_image": "Z-Image",
    "wan": "Wan",
    "kandinsky": "Kandinsky",
    "hidream": "HiDream",
    "ltx": "LTX-Video",
    "ltxvideo": "LTX-Video",
    "cosmos": "Cosmos",
    "auraflow": "AuraFlow",
    "pixart": "PixArt",
    "sana": "Sana",
    "cascade": "Stable Cascade",
    "omnigen": "OmniGen",
}
_FAMILY_WORDS = ("network_module", "model_train_type", "train_type", "model_type", "LoRA_type")
_CHECKBOXES = ("flux1_checkbox", "sd3_checkbox", "hunyuan_image_checkbox", "anima_checkbox", "lumina_checkbox")
# options that only trainers of one family have: all of the names -> the family
_FAMILY_OPTIONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("effnet_checkpoint_path",), "Stable Cascade"),
    (("stage_c_checkpoint_path",), "Stable Cascade"),
    (("gemma2",), "Lumina"),
    (("qwen3",), "Anima"),
    (("llm_adapter_path",), "Anima"),
    (("byt5",), "HunyuanImage"),
    (("text_encoder1", "text_encoder2"), "HunyuanVideo"),
    (("clip_g", "t5xxl"), "Stable Diffusion 3"),
    (("ae", "t5xxl"), "Flux.1"),
    (("ae", "clip_l"), "Flux.1"),
    (("dit",), "a video model or another DiT (musubi-tuner)"),
)
GUI_SIGNS = frozenset(  # fields of every tab of kohya_ss' GUI that are no options of sd-scripts'
    {"additional_parameters", "max_resolution", "model_list", "num_cpu_threads_per_process"}
)


def refuse_other_trainers(document: Document) -> None:
    """Do nothing for data that may be sd-scripts', a GUI's for it, or loratools' own.

    Raises:
        RecipeError: naming the program, or the family of models, that the config is for.
    """
    if (reason := _program(document.data)) is None and isinstance(document.data, Mapping):
        reason = _family(document.data) or _task(document.data)
    if reason is not None:
        raise RecipeError(f"{document.source} {reason}", place=(), reason=f"{Path(document.source).name} {reason}")


def _program(data: Any) -> str | None:
    """What to say of another program's file."""
    if isinstance(data, list):
        first = data[0] if data else None
        if isinstance(first, Mapping) and "instance_data_dir" in first:
            return _unread("lists the data sets of SimpleTuner", "its instance_data_dir as `images:`")
        if isinstance(first, Mapping) and {"path", "text"} & first.keys() and "image_augmentation" in str(first)[:400]:
            return _unread("holds the concepts of OneTrainer", "their paths as `images:`")
        return "is a list, not settings; give a config of loratools', of sd-scripts' or of a GUI's for it"
    if not isinstance(data, Mapping):
        return None
    return next((sentence(data) for test, sentence in _PROGRAMS if test(data)), None)


def _unread(what: str, part: str = "its base and folders as `base:` and `images:`") -> str:
    return f"{what}, which is not read here; write {part} into a config of your own (docs/training.md)"


def _toolkit(data: Mapping[str, Any]) -> str:
    processes = data["config"].get("process")
    process = processes[0] if isinstance(processes, list) and processes else {}
    model = process.get("model") if isinstance(process, Mapping) else None
    names = [str(value) for key, value in model.items() if key in ("name_or_path", "arch")] if model else []
    names += [str(key).removeprefix("is_") for key, value in model.items() if value is True] if model else []
    family = _family_of(names)
    return _unread(f"is a job of ai-toolkit{f' for {family}' if family else ''}")


def _sections(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield data
    yield from (value for value in data.values() if isinstance(value, Mapping))


def _pipe(data: Mapping[str, Any]) -> str:
    family = _family_of([str(data["model"]["type"])])
    return _unread(f"is a config of diffusion-pipe{f' for {family}' if family else ''}")


def _tuner(data: Mapping[str, Any]) -> str:
    family = _family_of([str(data.get("model_family", data.get("--model_family", "")))])
    return _unread(f"is a config of SimpleTuner{f' for {family}' if family else ''}")


def _musubi_dataset(data: Mapping[str, Any]) -> bool:
    tables = data.get("datasets")
    keys = {"image_directory", "video_directory", "image_jsonl_file", "video_jsonl_file"}
    return isinstance(tables, list) and any(isinstance(table, Mapping) and keys & table.keys() for table in tables)


def _has(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda data: all(name in data for name in names)


def _captions(data: Mapping[str, Any]) -> bool:
    entries = list(data.values())
    return bool(entries) and all(
        isinstance(entry, Mapping)
        and entry
        and not entry.keys() - {"caption", "tags", "train_resolution", "image_size"}
        for entry in entries[:20]
    )


_PROGRAMS: tuple[tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], str]], ...] = (
    (lambda data: "job" in data and isinstance(data.get("config"), Mapping), _toolkit),
    (
        lambda data: "training_method" in data and bool({"base_model_name", "concept_file_name"} & data.keys()),
        lambda data: _unread("is a config of OneTrainer", "its base_model_name and the folders of its concepts"),
    ),
    (lambda data: isinstance(data.get("model"), Mapping) and "dataset" in data and "type" in data["model"], _pipe),
    (
        lambda data: "model_family" in data or any(str(key).startswith("--") for key in data),
        _tuner,
    ),
    (_musubi_dataset, lambda data: _unread("is a dataset config of musubi-tuner", "its folders as `images:`")),
    (_has("compute_environment"), lambda data: "holds accelerate's own settings; give the config of a training"),
    (
        _has("nodes", "links"),
        lambda data: "is a workflow of ComfyUI's, not the config of a training",
    ),
    (
        lambda data: "steps" in data and "version" in data and isinstance(data["steps"], Mapping),
        lambda data: "is a recipe, not the config of a training; `loratools run` runs it",
    ),
    (
        lambda data: any(str(key).startswith("unet_target_") for key in data),
        lambda data: "is a preset of LyCORIS, not the config of a training; block_dims of a config says which blocks",
    ),
    (_captions, lambda data: "holds captions, not settings; name it as `metadata_file` of a folder of images"),
)


def _family(data: Mapping[str, Any]) -> str | None:
    """What to say of options for models of another family."""
    for part in _sections(data):
        for key in _FAMILY_WORDS:
            value = part.get(key)
            if isinstance(value, str) and (family := _family_of([value])):
                return f"is for {family} ({key} = {value}); {_FAMILY_REMEDY}"
        if (box := next((box for box in _CHECKBOXES if part.get(box) is True), None)) is not None:
            return f"is for {_family_of([box])} ({box}); {_FAMILY_REMEDY}"
    if "LoRA_type" in data:  # kohya_ss writes every family's options into every file
        return None
    options = {name for part in _every_table(data) for name, value in part.items() if value not in ("", None, False)}
    for names, family in _FAMILY_OPTIONS:
        if options.issuperset(names):
            return f"is for {family} ({', '.join(names)}); {_FAMILY_REMEDY}"
    return None


def _every_table(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The data, its sections, and the tables in these."""
    for part in _sections(data):
        yield from _sections(part)


def _family_of(names: list[str]) -> str | None:
    text = " ".join(names).lower()
    return next((family for word, family in _FAMILIES.items() if re.search(rf"(?<![a-z]){word}(?![a-z])", text)), None)


def _task(data: Mapping[str, Any]) -> str | None:
    """What to say of options that train something else than a LoRA."""
    options = {name: value for part in _every_table(data) for name, value in part.items()}
    if options.get("token_string") and "init_word" in options:
        return "trains an embedding (textual inversion); loratools trains LoRAs and whole models alone"
    if "lllite" in str(options.get("network_module", "")) or "cond_emb_dim" in options:
        return "trains a ControlNet; loratools trains LoRAs and whole models alone"
    return None
