"""The TOML of LoRA Easy Training Scripts: ``[[subsets]]``, and two kinds of tables for each part of its window.

``[network_args.args]`` and its kin hold training options, ``[general_args.dataset_args]`` and its kin what the subsets
have in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratools.yamlio import Document, Place

_OWN = {  # what the window itself does with a run
    "save_toml",
    "save_toml_location",
    "save_tag_occurrence",
    "tag_occurrence",
    "tag_file_location",
    "sdxl",
    "train_mode",
}


def is_easy_file(data: Mapping[str, Any]) -> bool:
    """Whether the data are in the parts of LoRA Easy Training Scripts' window."""
    parts = [value for value in data.values() if isinstance(value, Mapping)]
    return any(isinstance(part.get(kind), Mapping) for part in parts for kind in ("args", "dataset_args"))


def easy_documents(document: Document) -> tuple[Document, Document]:
    """Its training options and its dataset config as sd-scripts would be given them, keys at their places."""
    options: dict[str, Any] = {}
    general: dict[str, Any] = {}
    places: dict[Place, Place] = {}
    places_of_data: dict[Place, Place] = {}
    for part, tables in document.data.items():
        if not isinstance(tables, Mapping):
            continue
        for name, value in _kept(tables.get("args")):
            options[name], places[part, "args", name] = _listed(name, value), (name,)
        for name, value in _kept(tables.get("dataset_args")):
            general[name], places_of_data[part, "dataset_args", name] = value, ("general", name)
    if options.pop("fa", False):
        options["network_module"] = "networks.lora_fa"
    options.setdefault("network_module", _module(options))
    if ratio := options.pop("warmup_ratio", None):
        options["lr_warmup_steps"] = ratio
    if "max_token_length" in general:  # of the text encoder, and not of a folder
        options.setdefault("max_token_length", general.pop("max_token_length"))
    subsets = document.data.get("subsets")
    tables_of_data = [
        dict(_kept(subset, "name")) if isinstance(subset, Mapping) else subset for subset in subsets or []
    ]
    places_of_data["subsets",] = ("datasets", 0, "subsets")
    dataset = {"general": general, "datasets": [{"subsets": tables_of_data}]}
    return document.moved(options, places), document.moved(dataset, places_of_data)


def _kept(table: object, *left_out: str) -> list[tuple[str, Any]]:
    """A table's keys without those that are off, which its own program leaves out too."""
    if not isinstance(table, Mapping):
        return []
    own = {*_OWN, *left_out}
    return [(key, value) for key, value in table.items() if key not in own and value]


def _listed(name: str, value: Any) -> Any:
    """A table of arguments as the list of texts that sd-scripts takes."""
    if not isinstance(value, Mapping):
        return value
    return [f"{key}={_text(each)}" for key, each in value.items() if each != ""]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    return str(value).capitalize() if str(value) in ("true", "false") else str(value)


def _module(options: Mapping[str, Any]) -> str:
    """As the arguments have it: LyCORIS' have an algorithm, DyLoRA's a unit."""
    names = {str(argument).partition("=")[0] for argument in options.get("network_args", ())}
    if "algo" in names:
        return "lycoris.kohya"
    return "networks.dylora" if "unit" in names else "networks.lora"
