"""A base model's tensors, lazily, by canonical parameter name: single files, Diffusers folders, and unnamed trees.

Opening reads headers; each lookup reads one tensor. ``locations`` says where each tensor lies, so that writing into a
checkpoint finds the same rows that reading found.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from loratools.adapter.algebra.fuse import take
from loratools.adapter.algebra.fused_rows import count_rows
from loratools.adapter.architectures.compvis import TEXT, UNET, ParameterView, views_of, with_text_model
from loratools.adapter.files.declared_checkpoint import declared_family, declared_views
from loratools.adapter.files.scaled_weights import ScaledWeights
from loratools.adapter.foreign_file import PICKLE, what_it_is
from loratools.adapter.header import Header, read_header
from loratools.dtypes import any_stored_name, torch_dtype_of
from loratools.errors import BaseModelError, FileError, FormatError
from loratools.module_path import normal_path

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_CROSS = tuple(f"{UNET}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight" for block in (1, 4))
_FAMILY_OF_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_PART = re.compile(r"-\d{5}-of-\d{5}\Z")
_LORA_MARKS = ("lora_up", "lora_down", "lora_A", "lora_B", ".lora.", "hada_w", "lokr_w")


class StoredTensors(Protocol):
    """One file's tensors: shapes, types as safetensors names them, and values, by the file's own keys."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]

    def read(self, key: str) -> Tensor: ...


@dataclass(frozen=True)
class ParameterLocation:
    """Where a canonical parameter lies: in which file, under which key, and which part of that tensor it is."""

    file: Path
    key: str
    view: ParameterView


class Checkpoint(Mapping[str, Tensor]):
    """A base model as a lazy mapping: canonical parameter name -> tensor in its stored dtype; names sorted.

    A tree that keeps its own names is also asked by other spellings of them, which iterating does not give. Weights
    that are stored as fp8 with a scale beside them are given multiplied by it, in float32.

    Attributes:
        path: the file or folder.
        family: a key of ``names.FAMILIES``, or None for a tree that keeps its own names.
        metadata: a single safetensors file's free text; else empty.
        locations: parameter -> where it lies.
        shapes: parameter -> shape, known without reading the tensor.
    """

    def __init__(
        self,
        path: Path,
        family: str | None,
        files: Iterable[StoredTensors],
        locations: Mapping[str, ParameterLocation],
        metadata: Mapping[str, str],
    ) -> None:
        self.path = path
        self.family = family
        self.metadata = metadata
        self._files = {file.path: file for file in files}
        self.locations = dict(sorted(locations.items()))
        self.shapes = {name: self._shape(location) for name, location in self.locations.items()}
        self.scaled = ScaledWeights({key: file.path for file in self._files.values() for key in file.shapes})

    def __getitem__(self, name: str) -> Tensor:
        location = self.locations[self.own_name(name) or name]
        file = self._files[location.file]
        stored = file.read(location.key)
        if (scale := self.scaled.scale_of(location.key)) is not None:
            stored = self.scaled.unscaled(stored, file.read(scale))
        return view_of(stored, location.view)

    def __iter__(self) -> Iterator[str]:
        return iter(self.locations)

    def __len__(self) -> int:
        return len(self.locations)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.own_name(name) is not None

    def own_name(self, name: str) -> str | None:
        """What this model calls the parameter ``name``; None if it has no such one.

        A transformer's tree may spell it with another namespace, or with dots for underscores.

        Raises:
            BaseModelError: if several parameters are it but for their namespaces.
        """
        if name in self.locations or self.family in TEXT:
            return name if name in self.locations else None
        names = self._by_path.get(normal_path(name), [])
        if len(names) > 1:
            raise BaseModelError(
                f"{self.path} has two parameters that may be '{name}': '{names[0]}' and '{names[1]}'; give a "
                "checkpoint that holds the model once"
            )
        return names[0] if names else None

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        """Parameters by their path without namespace."""
        paths: dict[str, list[str]] = {}
        for name in self.locations:
            paths.setdefault(normal_path(name), []).append(name)
        return paths

    def held_by(self, file: Path) -> dict[str, list[ParameterView]]:
        """The tensors of one of the files, each with the canonical parameters that it holds."""
        held: dict[str, list[ParameterView]] = {}
        for location in self.locations.values():
            if location.file == file:
                held.setdefault(location.key, []).append(location.view)
        return held

    def stored(self, file: Path) -> StoredTensors:
        """One of the files, by its own keys."""
        return self._files[file]

    def dtype(self, name: str) -> str:
        """safetensors' name of the type that a parameter is stored in."""
        location = self.locations[name]
        return self._files[location.file].dtypes[location.key]

    def _shape(self, location: ParameterLocation) -> tuple[int, ...]:
        shape = self._files[location.file].shapes[location.key]
        if location.view.rows is not None:
            return (count_rows(location.view.rows), *shape[1:])
        if location.view.third is not None:
            return (shape[0] // 3, *shape[1:])
        return tuple(reversed(shape)) if location.view.transposed else shape


def view_of(stored: Tensor, view: ParameterView) -> Tensor:
    """The canonical parameter's view of a stored tensor: writing to it writes to the stored one, but for a parameter of
    several ranges of rows, which is a copy."""
    if view.rows is not None:
        return take(stored, view.rows)
    if view.third is not None:
        rows = stored.shape[0] // 3
        return stored[view.third * rows : (view.third + 1) * rows]
    return stored.T if view.transposed else stored


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a base model: a single ``.safetensors`` or ``.ckpt`` file in CompVis names, or a Diffusers folder.

    A file in Diffusers names gets its component in front; any other tree keeps its own names (``family`` is None).

    Raises:
        FileError: if it is missing or unreadable.
        FormatError: if a file is damaged or no safetensors file.
        BaseModelError: if it is a LoRA, holds pickled code, or a folder holds no model.
    """
    source = Path(path)
    if source.is_dir():
        return _open_folder(source)
    file = _open_file(source)
    if any(mark in key for key in file.shapes for mark in _LORA_MARKS):
        raise BaseModelError(f"{source} is a LoRA, not a base model; give the checkpoint that it was trained on")
    family = _family(file.shapes) or declared_family(file.shapes)
    metadata = file.header.metadata if isinstance(file, _Safetensors) else {}
    locations = _file_locations(file, family)
    shapes = {name: file.shapes[location.key] for name, location in locations.items()}
    return Checkpoint(source, family or _family_of_width(shapes), [file], locations, metadata)


def _file_locations(file: StoredTensors, family: str | None) -> dict[str, ParameterLocation]:
    if family is None:
        prefix = _component_of(file.shapes)
        return {
            f"{prefix}{key}": ParameterLocation(file.path, key, ParameterView(f"{prefix}{key}")) for key in file.shapes
        }
    views: Iterable[tuple[str, ParameterView]] = declared_views(file.shapes, family)
    if family in TEXT:
        views = ((key, view) for key in file.shapes for view in views_of(key, family))
    return {view.name: ParameterLocation(file.path, key, view) for key, view in views}


def _family(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """By the text encoders' names, or else the prompt's width or SDXL's own embedding; None if not in CompVis names."""
    if not any(key.startswith(UNET + "input_blocks.") for key in shapes):
        return None
    for family, prefixes in TEXT.items():
        if any(key.startswith(prefixes) for key in shapes):
            return family
    widths = [shapes[key][1] for key in _CROSS if key in shapes]
    known = _FAMILY_OF_CONTEXT.get(widths[0]) if widths else None
    return known or ("sdxl" if any(key.startswith(f"{UNET}label_emb.") for key in shapes) else "sd1")


def _component_of(keys: Iterable[str]) -> str:
    """The component that a bare file of Diffusers names is of, with its dot, or nothing."""
    keys = set(keys)
    if any(key.startswith("down_blocks.") for key in keys) and "conv_in.weight" in keys:
        return "unet." if any(".attentions." in key and ".attn2." in key for key in keys) else ""
    return (
        "transformer." if any(key.startswith(("transformer_blocks.", "single_transformer_b")) for key in keys) else ""
    )


def _open_folder(folder: Path) -> Checkpoint:
    files: list[StoredTensors] = []
    locations: dict[str, ParameterLocation] = {}
    for component in COMPONENTS:
        for path in _weights(folder / component):
            file = _open_file(path)
            files.append(file)
            for key in file.shapes:
                name = with_text_model(key) if component in COMPONENTS[2:4] else key
                locations[f"{component}.{name}"] = ParameterLocation(path, key, ParameterView(f"{component}.{name}"))
    if not locations:
        raise BaseModelError(
            f"{folder} is no Diffusers folder: none of {', '.join(COMPONENTS)} holds weights; give the folder that "
            "has model_index.json, or a .safetensors file"
        )
    by_path = {file.path: file for file in files}
    shapes = {name: by_path[location.file].shapes[location.key] for name, location in locations.items()}
    return Checkpoint(folder, _family_of_width(shapes) or declared_family(shapes), files, locations, {})


def _family_of_width(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """A Diffusers UNet's family: SDXL has the added embedding, SD2 takes a prompt of width 1024."""
    if "unet.add_embedding.linear_1.weight" in shapes:
        return "sdxl"
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    if key in shapes:
        return "sd2" if shapes[key][1] == 1024 else "sd1"
    return None


def open_weights(folder: Path) -> list[StoredTensors]:
    """The weight files of one component's folder.

    Raises:
        BaseModelError: if it has none.
    """
    found = _weights(folder)
    if not found:
        raise BaseModelError(f"{folder} holds no weights; give the whole Diffusers folder of the model")
    return [_open_file(path) for path in found]


def _weights(folder: Path) -> list[Path]:
    """A component's weight files: safetensors before pickles, the plain ones before variants such as ``.fp16.``."""
    for ending in (".safetensors", ".bin"):
        paths = sorted(path for path in folder.glob(f"*{ending}") if path.is_file())
        plain = [path for path in paths if "." not in path.name.removesuffix(ending)]
        if plain or paths:
            return plain or [path for path in paths if _variant(path) == _variant(paths[0])]
    return []


def _variant(path: Path) -> str:
    """``fp16`` of ``model.fp16.safetensors``, and of each of its parts, ``model.fp16-00001-of-00002.safetensors``."""
    return _PART.sub("", path.stem.rpartition(".")[2])


def _open_file(path: Path) -> _Safetensors | _Pickle:
    if path.suffix.lower() in (".ckpt", ".pt", ".pth", ".bin"):
        return _Pickle(path)
    return _Safetensors(path)


class _Safetensors:
    """A safetensors file, read by seeking."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header = read_header(path)
        self.shapes: Mapping[str, tuple[int, ...]] = {key: info.shape for key, info in self.header.tensors.items()}
        self.dtypes: Mapping[str, str] = {key: info.dtype for key, info in self.header.tensors.items()}

    def read(self, key: str) -> Tensor:
        info = self.header.tensors[key]
        stored = torch_dtype_of(info.dtype)
        if stored is None:
            raise FormatError(f"{self.path}: '{key}' is stored as {info.dtype}, which is not supported; save it as F16")
        data = bytearray(info.end - info.start)
        try:
            with open(self.path, "rb") as stream:
                stream.seek(self.header.data_start + info.start)
                count = stream.readinto(data)
        except OSError as error:
            raise FileError(f"{self.path} cannot be read: {error.strerror or error}") from error
        if count != len(data):
            raise FileError(f"{self.path} changed while it was being read; run the command again")
        if not data:
            return torch.empty(info.shape, dtype=stored)
        return torch.frombuffer(data, dtype=stored).reshape(info.shape)


class _Pickle:
    """A ``.ckpt`` through torch's ``weights_only`` reader, which runs none of the file's code, memory-mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors = read_pickle(path)
        self.shapes: Mapping[str, tuple[int, ...]] = {key: tuple(t.shape) for key, t in self._tensors.items()}
        self.dtypes: Mapping[str, str] = {key: any_stored_name(t.dtype) for key, t in self._tensors.items()}

    def read(self, key: str) -> Tensor:
        return self._tensors[key].clone()


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.ckpt`` through torch's ``weights_only`` reader, which runs none of the file's code.

    Raises:
        FileError: if there is no such file.
        BaseModelError: if it is damaged, holds no weights, or holds pickled code.
    """
    try:
        other = what_it_is(path)
        if other not in (None, PICKLE):
            raise BaseModelError(f"{path} {other}")
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist; check the name and the folder") from error
    except pickle.UnpicklingError as error:
        raise BaseModelError(
            f"{path} holds pickled objects other than tensors, which could run code; convert it to .safetensors first"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise BaseModelError(f"{path} is not a complete .ckpt file (cut off or damaged); download it again") from error
    while isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise BaseModelError(f"{path} holds no model weights; give a Stable Diffusion checkpoint")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
