"""Tensors written bit for bit: those that no table knows, from file to file, and those that stand by the factors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from loratools.dtypes import stored_name, torch_dtype_of
from loratools.errors import FileError, FormatError


@dataclass(frozen=True)
class Carried:
    """One tensor of a file as its bytes: safetensors' name of its type, its shape, and where the bytes lie."""

    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int
    size: int

    def data(self) -> bytes:
        """The bytes as they are stored.

        Raises:
            FileError: if the file is gone or has been cut.
        """
        try:
            with open(self.path, "rb") as stream:
                stream.seek(self.start)
                data = stream.read(self.size)
        except OSError as error:
            raise FileError(f"{self.path} cannot be read: {error.strerror or error}") from error
        if len(data) != self.size:
            raise FileError(f"{self.path} changed while it was being read; run the command again")
        return data


@dataclass(frozen=True)
class Held:
    """One tensor in memory, written bit for bit under a key of its own: a DoRA's magnitude."""

    tensor: Tensor

    @property
    def dtype(self) -> str:
        """safetensors' name of its type."""
        return stored_name(self.tensor.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.tensor.nbytes

    def data(self) -> bytes:
        """The bytes as they are stored."""
        data: bytes = self.tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return data


def as_tensor(key: str, carried: Carried | Held) -> Tensor:
    """The tensor ``key`` with its bytes as they are stored.

    Raises:
        FormatError: if torch has no type for it.
    """
    dtype = torch_dtype_of(carried.dtype)
    if dtype is None:
        raise FormatError(f"the unknown key '{key}' is stored as {carried.dtype}, which torch cannot hold; drop it")
    return torch.frombuffer(bytearray(carried.data()), dtype=dtype).reshape(carried.shape)


class Carrier(Protocol):
    """Whatever has tensors to carry: an adapter."""

    @property
    def carried(self) -> Mapping[str, Carried]: ...


def all_carried(adapters: Iterable[Carrier]) -> dict[str, Carried]:
    """What several files carry, together.

    Raises:
        FormatError: if two of them give one key different contents, of which none may be dropped.
    """
    together: dict[str, Carried] = {}
    for adapter in adapters:
        for key, mine in adapter.carried.items():
            first = together.setdefault(key, mine)
            same = (first.dtype, first.shape) == (mine.dtype, mine.shape)
            if first is not mine and not (same and first.data() == mine.data()):
                raise FormatError(
                    f"{first.path} and {mine.path} both have the unknown key '{key}' and differ in it; it cannot be "
                    "carried through a merge of both"
                )
    return together
