"""LoRA files: read lazily as exact differences by module, and written whole with true hashes and one alpha."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from loratools import files
from loratools.adapter.codec import Group, decode
from loratools.adapter.header import Header, header, read_header
from loratools.adapter.lower import layout, lower, scale_rank
from loratools.adapter.lowrank import Delta, finite, limit
from loratools.adapter.names import module_tree
from loratools.adapter.peft import told_alpha, told_settings
from loratools.adapter.save import Written, write
from loratools.errors import FileError, FormatError, NonFiniteError

__all__ = ["Adapter", "Written", "header", "read", "write"]

_DTYPES = {
    "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
    "I8": torch.int8, "U8": torch.uint8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip


class Adapter(Mapping[str, Delta]):
    """A LoRA file as a lazy mapping: canonical module name -> difference in float32, alpha folded in once.

    Opening reads the header and the alphas; each lookup reads one module's bytes. Names are sorted.

    Attributes:
        path: where the file is.
        family: a key of ``names.FAMILIES``.
        metadata: the header's free text, as it stands.
        shapes: module -> shape of its difference.
        ranks: module -> columns of its ``up``.
        kinds: module -> ``lora``, ``tucker``, ``loha``, ``lokr`` or ``diff``.
        alphas: module -> the stored alpha; modules without one (alpha = rank) are absent.
    """

    def __init__(self, path: Path, found: Header, family: str, groups: Mapping[str, Group]) -> None:
        self.path = path
        self.family = family
        self.metadata = found.metadata
        self._header = found
        self._groups = groups
        kernels = _kernels(family)
        layouts = {name: self._layout(group, kernels.get(name, 1)) for name, group in groups.items()}
        self.shapes = {name: shape for name, (shape, _) in layouts.items()}
        self.ranks = {name: rank for name, (_, rank) in layouts.items()}
        self.kinds = {name: group.kind for name, group in groups.items()}
        self.alphas = self._read_alphas()

    def __getitem__(self, name: str) -> Delta:
        return self.delta(name)

    def delta(self, name: str, dtype: torch.dtype = torch.float32) -> Delta:
        """One module's difference, folded in ``dtype``.

        Raises:
            NonFiniteError: if a factor holds NaN or infinity.
        """
        group = self._groups[name]
        with self._open() as stream:
            tensors = {role: self._tensor(stream, key, dtype) for role, key in group.keys.items() if role != "alpha"}
        rank = scale_rank(group.kind, self._shapes_of(group))
        alpha = self.alphas.get(name)
        scale = 1.0 if rank is None or alpha is None else alpha / rank
        return lower(group.kind, tensors, self.shapes[name], scale)

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __contains__(self, name: object) -> bool:
        return name in self._groups

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical module names, sorted."""
        return tuple(self._groups)

    @cached_property
    def digest(self) -> str:
        """sha256 of the bytes after the header: what a true ``sshs_model_hash`` says."""
        return files.sha256(self.path, skip=self._header.data_start)

    @cached_property
    def dense(self) -> frozenset[str]:
        """The modules whose difference is not low-rank: full differences, and LoKr without a saving."""
        full = {n for n, kind in self.kinds.items() if kind == "lokr" and self.ranks[n] >= limit(self.shapes[n])}
        return frozenset(full | {name for name, kind in self.kinds.items() if kind == "diff"})

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The storage types of the factors, as safetensors spells them, sorted."""
        tensors = self._header.tensors
        return tuple(sorted({tensors[key].dtype for g in self._groups.values() for r, key in g.keys.items()
                             if r != "alpha"}))  # fmt: skip

    def stem(self, name: str) -> str:
        """How the file itself spells a module."""
        return self._groups[name].stem

    def _shapes_of(self, group: Group) -> dict[str, tuple[int, ...]]:
        return {role: self._header.tensors[key].shape for role, key in group.keys.items()}

    def _layout(self, group: Group, kernel: int) -> tuple[tuple[int, ...], int]:
        try:
            return layout(group.kind, self._shapes_of(group), kernel)
        except FormatError as error:
            raise FormatError(f"{self.path}: module '{group.stem}' is broken: {error}; export the file again") from None

    def _read_alphas(self) -> dict[str, float]:
        alphas = self._told_alphas()
        with self._open() as stream:
            for name, group in self._groups.items():
                if "alpha" in group.keys:
                    alphas[name] = self._alpha(stream, group)
        return alphas

    def _told_alphas(self) -> dict[str, float]:
        """Alphas that the header's text gives to dotted (Diffusers, PEFT) names."""
        try:
            settings = told_settings(self.metadata)
            dotted = ((name, *group.stem.split(".", 1)) for name, group in self._groups.items() if "." in group.stem)
            told = {name: told_alpha(settings, first, rest, self.ranks[name]) for name, first, rest in dotted}
        except FormatError as error:
            raise FormatError(f"{self.path}: {error}; export the file again") from None
        return {name: alpha for name, alpha in told.items() if alpha is not None}

    def _alpha(self, stream: BinaryIO, group: Group) -> float:
        key = group.keys["alpha"]
        if math.prod(self._header.tensors[key].shape) != 1:
            raise FormatError(f"{self.path}: '{key}' should be one number, not {self._header.tensors[key].shape}")
        value = float(self._tensor(stream, key, torch.float64))
        if value == 0:
            raise FormatError(f"{self.path}: '{key}' is 0, which erases the module; set it, or remove the key so that "
                              "it counts as the rank")  # fmt: skip
        return value

    def _tensor(self, stream: BinaryIO, key: str, dtype: torch.dtype = torch.float32) -> Tensor:
        info = self._header.tensors[key]
        if info.dtype not in _DTYPES:
            raise FormatError(f"{self.path}: '{key}' is stored as {info.dtype}, which no LoRA uses; save it as F16")
        stream.seek(self._header.data_start + info.start)
        data = bytearray(info.end - info.start)
        if stream.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise FileError(f"{self.path} changed while it was being read; run the command again")
        value = torch.frombuffer(data, dtype=_DTYPES[info.dtype]).reshape(info.shape).to(dtype)
        if not finite(value):
            raise NonFiniteError(f"{self.path}: '{key}' holds NaN or infinity; its training diverged, use an earlier "
                                 "epoch")  # fmt: skip
        return value

    def _open(self) -> BinaryIO:
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise FileError(f"{self.path} cannot be read: {error.strerror or error}") from error


def read(path: str | os.PathLike[str]) -> Adapter:
    """Open a LoRA file; factors are read when a module is looked up.

    Raises:
        FileError: if it is missing or unreadable.
        FormatError: if it is not a LoRA, is truncated, a module's factors do not fit, or an alpha is 0.
        UnknownKeysError: if any key is of a kind or module that no table knows.
        NonFiniteError: if an alpha (or, on lookup, a factor) is NaN or infinite.
    """
    place = Path(path)
    found = read_header(place)
    family, groups = decode(place, found.tensors, found.metadata)
    return Adapter(place, found, family, groups)


@lru_cache(maxsize=8)
def _kernels(family: str) -> dict[str, int]:
    return {module.name: module.kernel for module in module_tree(family) if module.kernel != 1}
