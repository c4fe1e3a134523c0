"""A base model's tensors, lazily, by canonical parameter name: single files, Diffusers folders, and unnamed trees.

Opening reads headers; each lookup reads one tensor. ``places`` says where each tensor lies, so that writing into a
checkpoint finds the same rows that reading found.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from loratools.adapter.architectures.compvis import TEXT, UNET, Part, parts_of, with_text_model
from loratools.adapter.header import Header, read_header
from loratools.dtypes import torch_dtype_of
from loratools.errors import BaseModelError, FileError, FormatError

COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_CROSS = tuple(f"{UNET}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight" for block in (1, 4))
_FAMILY_OF_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
_LORA_MARKS = ("lora_up", "lora_down", "lora_A", "lora_B", ".lora.", "hada_w", "lokr_w")


class _Store(Protocol):
    """One file's tensors."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]

    def read(self, key: str) -> Tensor: ...


@dataclass(frozen=True)
class Place:
    """Where a canonical parameter lies: in which file, under which key, and which part of that tensor it is."""

    file: Path
    key: str
    part: Part


class Checkpoint(Mapping[str, Tensor]):
    """A base model as a lazy mapping: canonical parameter name -> tensor in its stored dtype; names sorted.

    Attributes:
        path: the file or folder.
        family: a key of ``names.FAMILIES``, or None for a tree that keeps its own names.
        metadata: a single safetensors file's free text; else empty.
        places: parameter -> where it lies.
        shapes: parameter -> shape, known without reading the tensor.
    """

    def __init__(
        self,
        path: Path,
        family: str | None,
        stores: Iterable[_Store],
        places: Mapping[str, Place],
        metadata: Mapping[str, str],
    ) -> None:
        self.path = path
        self.family = family
        self.metadata = metadata
        self._stores = {store.path: store for store in stores}
        self.places = dict(sorted(places.items()))
        self.shapes = {name: self._shape(place) for name, place in self.places.items()}

    def __getitem__(self, name: str) -> Tensor:
        place = self.places[name]
        return taken(self._stores[place.file].read(place.key), place.part)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def held_by(self, file: Path) -> dict[str, list[Part]]:
        """The tensors of one of the files, each with the canonical parameters that it holds."""
        held: dict[str, list[Part]] = {}
        for place in self.places.values():
            if place.file == file:
                held.setdefault(place.key, []).append(place.part)
        return held

    def _shape(self, place: Place) -> tuple[int, ...]:
        shape = self._stores[place.file].shapes[place.key]
        if place.part.third is not None:
            return (shape[0] // 3, *shape[1:])
        return tuple(reversed(shape)) if place.part.transposed else shape


def taken(stored: Tensor, part: Part) -> Tensor:
    """The canonical parameter's view of a stored tensor: writing to it writes to the stored one."""
    if part.third is not None:
        rows = stored.shape[0] // 3
        return stored[part.third * rows : (part.third + 1) * rows]
    return stored.T if part.transposed else stored


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a base model: a single ``.safetensors`` or ``.ckpt`` file in CompVis names, or a Diffusers folder.

    A file in Diffusers names gets its component in front; any other tree keeps its own names (``family`` is None).

    Raises:
        FileError: if it is missing or unreadable.
        FormatError: if a file is damaged or no safetensors file.
        BaseModelError: if it is a LoRA, holds pickled code, or a folder holds no model.
    """
    place = Path(path)
    if place.is_dir():
        return _open_folder(place)
    store = _open_file(place)
    if any(mark in key for key in store.shapes for mark in _LORA_MARKS):
        raise BaseModelError(f"{place} is a LoRA, not a base model; give the checkpoint that it was trained on")
    family = _family(store.shapes)
    metadata = store.header.metadata if isinstance(store, _Safetensors) else {}
    places = _file_places(store, family)
    shapes = {name: store.shapes[where.key] for name, where in places.items()}
    return Checkpoint(place, family or _family_of_width(shapes), [store], places, metadata)


def _file_places(store: _Store, family: str | None) -> dict[str, Place]:
    if family is None:
        prefix = _component_of(store.shapes)
        return {f"{prefix}{key}": Place(store.path, key, Part(f"{prefix}{key}")) for key in store.shapes}
    parts = ((key, part) for key in store.shapes for part in parts_of(key, family))
    return {part.name: Place(store.path, key, part) for key, part in parts}


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
    stores: list[_Store] = []
    places: dict[str, Place] = {}
    for component in COMPONENTS:
        for path in _weights(folder / component):
            store = _open_file(path)
            stores.append(store)
            for key in store.shapes:
                name = with_text_model(key) if component in COMPONENTS[2:4] else key
                places[f"{component}.{name}"] = Place(path, key, Part(f"{component}.{name}"))
    if not places:
        raise BaseModelError(
            f"{folder} is no Diffusers folder: none of {', '.join(COMPONENTS)} holds weights; give the folder that "
            "has model_index.json, or a .safetensors file"
        )
    by_path = {store.path: store for store in stores}
    shapes = {name: by_path[place.file].shapes[place.key] for name, place in places.items()}
    return Checkpoint(folder, _family_of_width(shapes), stores, places, {})


def _family_of_width(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """A Diffusers UNet's family: SDXL has the added embedding, SD2 takes a prompt of width 1024."""
    if "unet.add_embedding.linear_1.weight" in shapes:
        return "sdxl"
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    if key in shapes:
        return "sd2" if shapes[key][1] == 1024 else "sd1"
    return None


def _weights(folder: Path) -> list[Path]:
    """A component's weight files: safetensors before pickles, the plain ones before variants such as ``.fp16.``."""
    for ending in (".safetensors", ".bin"):
        found = sorted(path for path in folder.glob(f"*{ending}") if path.is_file())
        plain = [path for path in found if "." not in path.name.removesuffix(ending)]
        if plain or found:
            variant = found[0].name.removesuffix(ending).rsplit(".", 1)[-1] if found else ""
            return plain or [path for path in found if path.name.removesuffix(ending).endswith(variant)]
    return []


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

    def read(self, key: str) -> Tensor:
        return self._tensors[key].clone()


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.ckpt`` through torch's ``weights_only`` reader, which runs none of the file's code.

    Raises:
        FileError: if there is no such file.
        BaseModelError: if it is damaged, holds no weights, or holds pickled code.
    """
    try:
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
