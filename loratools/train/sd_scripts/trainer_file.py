"""Whose a config is, and its content as sd-scripts would be given it: options without sections, or a dataset config.

Every key keeps its place in the file, so that a mistake is shown in its line whoever wrote the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError
from loratools.train.sd_scripts.easy_scripts import easy_documents, is_easy_file
from loratools.train.sd_scripts.json_file import read_json
from loratools.train.sd_scripts.kohya_gui import gui_options, is_gui_file
from loratools.train.sd_scripts.options import (
    ACCEPTED,
    COMBINED,
    GUI_ALIASES,
    GUI_LYCORIS,
    GUI_ONLY,
    OPTIONS,
    RESTRICTED,
)
from loratools.train.sd_scripts.other_trainers import GUI_SIGNS, refuse_other_trainers
from loratools.train.sd_scripts.toml_file import read_toml
from loratools.yamlio import Document, Place

SUFFIXES = (".toml", ".json")
_SIGNS = (
    "LoRA_type",
    "pretrained_model_name_or_path",
    "train_data_dir",
    "network_module",
    "network_dim",
    "output_name",
)


@dataclass(frozen=True)
class TrainerFile:
    """A config of another trainer's.

    Attributes:
        program: whose it is, in words.
        options: training options by sd-scripts' names; None in a dataset config.
        dataset: ``[general]`` and ``[[datasets]]``; None where options name the folders.
        notes: what a person should know and what stops nothing.
    """

    program: str
    options: Document | None
    dataset: Document | None
    notes: tuple[str, ...] = ()

    @property
    def documents(self) -> tuple[Document, ...]:
        """The options, and then the dataset config, as far as they are there."""
        return tuple(document for document in (self.options, self.dataset) if document is not None)

    @property
    def names_images(self) -> bool:
        """Whether it says which pictures, itself or in the dataset config that it names."""
        given = self.options.data if self.options is not None else {}
        return self.dataset is not None or any(given.get(name) for name in ("train_data_dir", "dataset_config"))


def read_trainer_file(path: Path) -> TrainerFile:
    """Read a TOML or JSON file of sd-scripts' or of a GUI's for it.

    Raises:
        RecipeError: for a file that cannot be read, that is another program's, or for models that are not trained here.
    """
    document = read_json(path) if path.suffix.lower() == ".json" else read_toml(path)
    refuse_other_trainers(document)
    if is_gui_file(document.data):
        return TrainerFile("kohya_ss' JSON", gui_options(document), None)
    if is_easy_file(document.data):
        return TrainerFile("the TOML of LoRA Easy Training Scripts", *easy_documents(document))
    kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
    if is_dataset_config(document.data):
        return TrainerFile(f"sd-scripts' {kind}", None, document)
    notes: list[str] = []
    return TrainerFile(f"sd-scripts' {kind}", _without_sections(document, notes), None, tuple(notes))


def pair_files(paths: Sequence[str]) -> list[tuple[str, str | None]]:
    """The files of a queue, options that name no pictures together with the dataset config next to them.

    Colab notebooks write two files that do not name each other. Any other file stands alone.
    """
    kinds = [_kind(Path(path)) for path in paths]
    pairs: list[tuple[str, str | None]] = []
    number = 0
    while number < len(paths):
        two = kinds[number : number + 2]
        if two == ["options", "dataset"]:
            pairs.append((paths[number], paths[number + 1]))
        elif two == ["dataset", "options"]:
            pairs.append((paths[number + 1], paths[number]))
        else:
            pairs.append((paths[number], None))
            number -= 1
        number += 2
    return pairs


def _kind(path: Path) -> str:
    """``dataset``, ``options`` for options that name no pictures, or nothing for any other file, whole or not."""
    if path.suffix.lower() not in SUFFIXES:
        return ""
    try:
        file = read_trainer_file(path)
    except RecipeError:
        return ""  # it says so itself when it is read
    if file.options is None:
        return "dataset"
    return "" if file.names_images else "options"


def with_dataset(file: TrainerFile, path: Path) -> TrainerFile:
    """A file of options together with a dataset config that it does not name.

    Raises:
        RecipeError: if the other file is no dataset config.
    """
    other = read_trainer_file(path)
    if other.dataset is None or other.options is not None:
        raise RecipeError(f"{path} is no dataset config; give one with [[datasets]] and [[datasets.subsets]]")
    return replace(file, dataset=other.dataset, notes=(*file.notes, *other.notes))


def is_dataset_config(data: Mapping[str, Any]) -> bool:
    """Whether the data say which pictures, as sd-scripts' ``--dataset_config`` does."""
    return bool({"datasets", "general"} & data.keys())


def is_trainer_json(data: object) -> bool:
    """Whether the data of a JSON file are another trainer's, and not settings of loratools' own."""
    if not isinstance(data, Mapping):
        return True
    tables = data.get("datasets")
    subsets = isinstance(tables, list) and any(isinstance(table, Mapping) and "subsets" in table for table in tables)
    return "general" in data or subsets or any(sign in data for sign in (*_SIGNS, *GUI_SIGNS))


def _without_sections(document: Document, notes: list[str]) -> Document:
    flat: dict[str, Any] = {}
    places: dict[Place, Place] = {}
    for name, value in document.data.items():
        pairs = value.items() if isinstance(value, dict) else [(name, value)]
        if name == "metadata" and isinstance(value, dict):
            pairs = _of_template(document.source, value, notes)
        for key, inner in pairs:
            if flat.get(key, inner) != inner:
                message = f"'{key}' is given in two sections, as {flat[key]} and {inner}; keep one"
                raise RecipeError(f"{document.source}: {message}")
            flat[key], places[(name, key) if isinstance(value, dict) else (name,)] = inner, (key,)
    return document.moved(flat, places)


def _of_template(source: str, section: Mapping[str, Any], notes: list[str]) -> list[tuple[str, Any]]:
    """The options in a ``[metadata]`` section, whose other keys describe the file to a person (Akegarasu's GUI)."""
    known = {*OPTIONS, *COMBINED, *ACCEPTED, *RESTRICTED, *GUI_ALIASES, *GUI_LYCORIS, *GUI_ONLY}
    if described := [key for key in section if key not in known]:
        notes.append(f"{source}: {', '.join(described)} of [metadata] describe the file and have no effect")
    return [(key, value) for key, value in section.items() if key in known]
