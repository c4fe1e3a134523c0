"""The files and folders that a config names, as they lie on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loratools.adapter.files.epoch_files import find_lora
from loratools.errors import FileError, MergeStringError
from loratools.files import find_beside
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import FILES_OF_FOLDER, Subset
from loratools.yamlio import Place

# the settings that name what a run reads; where it writes (out, cache_dir, tensorboard) is of the current folder
INPUTS = ("base", "vae", "images", "datasets", "network_weights", "base_adapters", "sample_prompts")


def locate(config: TrainConfig, folders: Sequence[Path], settings: Collection[str] = INPUTS) -> TrainConfig:
    """The config with what ``settings`` name as it lies in the first of ``folders`` that has it, or else in the current
    folder (see :func:`loratools.files.find_beside`); what is nowhere, such as a hub id, stays as it is written.
    """

    def subsets(given: tuple[Subset, ...]) -> tuple[Subset, ...]:
        return tuple(locate_subset(subset, folders) for subset in given)

    located: dict[str, Any] = {}
    for name in INPUTS:
        value = getattr(config, name)
        if name not in settings or not value:
            continue
        match name:
            case "images":
                located[name] = subsets(value)
            case "datasets":
                located[name] = tuple(part.model_copy(update={"images": subsets(part.images)}) for part in value)
            case "base_adapters":
                located[name] = tuple(_locate_loras(text, folders) for text in value)
            case "base":
                located[name] = value if value == "pocket" else str(find_beside(value, folders) or value)
            case _ if isinstance(value, Path):
                located[name] = find_beside(value, folders) or value
    return config.model_copy(update=located)


def subsets_by_place(config: TrainConfig) -> Iterator[tuple[Place, Subset]]:
    """The settings of every folder of images, and where they stand in the config."""
    for number, subset in enumerate(config.images):
        yield ("images", number), subset
    for part, data_set in enumerate(config.datasets):
        for number, subset in enumerate(data_set.images):
            yield ("datasets", part, "images", number), subset


def locate_subset(subset: Subset, folders: Sequence[Path]) -> Subset:
    """The settings of one folder of pictures, with its paths as :func:`locate` has them."""
    given = {name: getattr(subset, name) for name in ("folder", *FILES_OF_FOLDER)}
    return subset.model_copy(update={name: find_beside(path, folders) or path for name, path in given.items() if path})


def _locate_loras(text: str, folders: Sequence[Path]) -> str:
    """A merge string with its files as they lie in ``folders``; one that cannot be read stays as it is."""
    try:
        specs = parse_merge_string(text)
    except MergeStringError:
        return text
    refs = [_locate_lora(spec.ref, folders) for spec in specs]
    if refs == [spec.ref for spec in specs]:
        return text
    return ",".join(replace(spec, ref=ref).text() for spec, ref in zip(specs, refs, strict=True))


def _locate_lora(ref: str, folders: Sequence[Path]) -> str:
    """A file, a run or a PEFT folder; :func:`find_lora` also takes names without an extension, and runs by a name."""
    for folder in folders:
        with contextlib.suppress(FileError):
            path = find_lora(str(folder / Path(ref).expanduser()))
            return ref if folder == Path() else str(path)
    return ref
