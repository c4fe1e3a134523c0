"""Where a LoRA's bytes and settings are: one file, or a PEFT folder whose scale stands in ``adapter_config.json``."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratools.adapter.files.changed_base import check_metadata, check_settings
from loratools.adapter.files.peft import CONFIG, WEIGHTS, folder_settings, stated_settings
from loratools.adapter.header import Header, read_header
from loratools.errors import FileError, FormatError


@dataclass(frozen=True)
class KeyRules:
    """What is done about tensors of a LoRA file beside those that are understood.

    Args:
        allow_unknown: carry keys that no table knows through untouched instead of refusing the file.
        drop: names of tensors, or patterns such as ``bundle_emb.*``, that are read as if they were not there.
    """

    allow_unknown: bool = False
    drop: tuple[str, ...] = ()


STRICT = KeyRules()  # nothing unknown is allowed, and nothing dropped


@dataclass(frozen=True)
class LoraFile:
    """A LoRA's file, its header, and what is said of its alphas.

    Attributes:
        settings: as Diffusers writes them into the header, or as a PEFT folder's configuration says.
        component: a PEFT folder's name where it is a component's; else empty.
        folder: whether the settings are a PEFT folder's, which name no component.
    """

    path: Path
    header: Header
    settings: Mapping[str, Any]
    component: str
    folder: bool


def open_lora_file(path: str | os.PathLike[str], drop: Sequence[str] = ()) -> LoraFile:
    """Find the weights and read their header.

    Args:
        drop: as in :class:`KeyRules`.
    Raises:
        FileError: if there are none.
        FormatError: if the header or the settings cannot be read, or they say that the product of the factors is no
            difference of the base (PiSSA, OLoRA, ...).
    """
    weights = weights_of(Path(path))
    header = _without(read_header(weights), drop)
    check_metadata(header.metadata, str(weights))
    if (config := config_beside(weights)) is not None:
        name = weights.parent.resolve().name
        component = name if name == "unet" or name.startswith(("transformer", "text_encoder")) else ""
        settings = folder_settings(config)
        check_settings(settings, str(config))
        return LoraFile(weights, header, settings, component, True)
    try:
        return LoraFile(weights, header, stated_settings(header.metadata), "", False)
    except FormatError as error:
        raise FormatError(f"{weights}: {error}; export the file again") from None


def _without(header: Header, drop: Sequence[str]) -> Header:
    """``header`` without the tensors whose names match one of ``drop``."""
    patterns = [pattern.strip() for text in drop for pattern in text.split(",") if pattern.strip()]
    if not patterns:
        return header
    matches = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns)).match
    return replace(header, tensors={key: info for key, info in header.tensors.items() if not matches(key)})


def weights_of(path: Path) -> Path:
    """The file itself, or the weights of the PEFT folder that ``path`` is.

    Raises:
        FileError: if it is a folder without them.
    """
    if not path.is_dir():
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    if (path / CONFIG).is_file():
        pickled = (
            " (adapter_model.bin is a pickle, which is not read)" if (path / "adapter_model.bin").is_file() else ""
        )
        raise FileError(f"{path} is a PEFT folder without {WEIGHTS}{pickled}; save it again with safetensors")
    raise FileError(f"{path} is a folder; a .safetensors file, or a PEFT folder with {CONFIG}, is needed here")


def config_beside(weights: Path) -> Path | None:
    """The settings of the PEFT folder that a file is the weights of; None for any other file."""
    config = weights.with_name(CONFIG)
    return config if weights.name == WEIGHTS and config.is_file() else None


def is_peft(path: Path) -> bool:
    """Whether ``path`` is a PEFT folder."""
    return (path / CONFIG).is_file()
