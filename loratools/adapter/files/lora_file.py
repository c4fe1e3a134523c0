"""Where a LoRA's bytes and settings are: one file, or a PEFT folder whose scale stands in ``adapter_config.json``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.files.changed_base import check_metadata, check_settings
from loratools.adapter.files.peft import CONFIG, WEIGHTS, folder_settings, stated_settings
from loratools.adapter.header import Header, read_header
from loratools.errors import FileError, FormatError


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


def open_lora_file(path: str | os.PathLike[str]) -> LoraFile:
    """Find the weights and read their header.

    Raises:
        FileError: if there are none.
        FormatError: if the header or the settings cannot be read, or they say that the product of the factors is no
            difference of the base (PiSSA, OLoRA, ...).
    """
    weights = weights_of(Path(path))
    header = read_header(weights)
    check_metadata(header.metadata, str(weights))
    if weights.name == WEIGHTS and (config := weights.with_name(CONFIG)).is_file():
        name = weights.parent.resolve().name
        component = name if name == "unet" or name.startswith(("transformer", "text_encoder")) else ""
        settings = folder_settings(config)
        check_settings(settings, str(config))
        return LoraFile(weights, header, settings, component, True)
    try:
        return LoraFile(weights, header, stated_settings(header.metadata), "", False)
    except FormatError as error:
        raise FormatError(f"{weights}: {error}; export the file again") from None


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


def is_peft(path: Path) -> bool:
    """Whether ``path`` is a PEFT folder."""
    return (path / CONFIG).is_file()
