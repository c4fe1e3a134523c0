"""A pipeline of diffusers without its weights: its parts by their configs, for a plan of what it would draw."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from loratools.base.pipelines.folder import INDEX, PipelineFolder
from loratools.base.text_model import read_json
from loratools.errors import BaseModelError


def empty_pipeline(folder: PipelineFolder, kind: Any, dtype: torch.dtype) -> Any:
    """The pipeline ``kind`` of ``folder`` with its networks on torch's ``meta`` device, and its tokenizers and its
    scheduler as they are.

    Raises:
        BaseModelError: for a part that cannot be made by its config.
    """
    parts = {
        name: None if library is None or own is None else _empty_part(folder.path / name, library, own, dtype)
        for name, (library, own) in folder.parts.items()
    }
    index = read_json(folder.path / INDEX)
    values = {name: own for name, own in index.items() if not name.startswith("_") and name not in folder.parts}
    return kind(**parts, **values)


def _empty_part(folder: Path, library: str, name: str, dtype: torch.dtype) -> Any:
    try:
        kind = getattr(importlib.import_module(library), name)
        if not issubclass(kind, torch.nn.Module):
            return kind.from_pretrained(folder)
        with torch.device("meta"):
            model = _network(kind, folder)
    except Exception as error:  # diffusers, transformers and torch raise a dozen types for what makes no part
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseModelError(f"cannot load {folder} ({reason}); is the download complete?") from error
    return model.to(dtype).eval().requires_grad_(False)


def _network(kind: Any, folder: Path) -> torch.nn.Module:
    """By diffusers' config or by transformers'."""
    network: torch.nn.Module
    if hasattr(kind, "config_class"):
        network = kind(kind.config_class.from_pretrained(folder))
    else:
        network = kind.from_config(read_json(folder / "config.json"))
    return network
