"""Number types, once: the names that people give (``fp16``), safetensors' (``F16``), their bytes, and torch's types.

torch is imported when a type of its is asked for, so that the command line can list the names without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args

from loratools.errors import FormatError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Dtype = Literal["fp16", "bf16", "fp32"]  # what files are written in and models are run in
DTYPE_NAMES: tuple[str, ...] = get_args(Dtype)
_STORED: Mapping[str, str] = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}
# every type that a safetensors file may hold -> bits of one number
ITEM_BITS: Mapping[str, int] = {
    "F4": 4, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64,
    "I64": 64, "U64": 64, "C64": 64,
}  # fmt: skip
# those of them that torch computes with -> torch's name
_TORCH: Mapping[str, str] = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}


def torch_dtype(name: str) -> torch.dtype:
    """torch's type of one of the :data:`DTYPE_NAMES`: ``fp16`` -> ``torch.float16``."""
    return _of_torch(_TORCH[_STORED[name]])


def torch_dtype_of(stored: str) -> torch.dtype | None:
    """torch's type of safetensors' ``stored`` (``F16``); None for a type that torch does not compute with."""
    return _of_torch(_TORCH[stored]) if stored in _TORCH else None


@cache
def _of_torch(name: str) -> torch.dtype:
    import torch

    dtype: torch.dtype = getattr(torch, name)
    return dtype


@cache
def dtype_name(dtype: torch.dtype) -> str:
    """``fp16`` for ``torch.float16``.

    Raises:
        FormatError: if LoRA files are not written in that type.
    """
    for name in DTYPE_NAMES:
        if torch_dtype(name) == dtype:
            return name
    raise FormatError(f"LoRA files are written as fp16, bf16 or fp32, not {dtype}")


def stored_name(dtype: torch.dtype) -> str:
    """safetensors' name of a type that LoRA files are written in: ``F16`` for ``torch.float16``.

    Raises:
        FormatError: if LoRA files are not written in that type.
    """
    return _STORED[dtype_name(dtype)]


@cache
def any_stored_name(dtype: torch.dtype) -> str:
    """safetensors' name of any type that torch computes with: ``I64`` for ``torch.int64``.

    Raises:
        FormatError: if safetensors has no such type.
    """
    for name in _TORCH:
        if torch_dtype_of(name) == dtype:
            return name
    raise FormatError(f"safetensors has no type for {dtype}; convert the file first")


def item_size(name: str) -> int:
    """Bytes of one number of one of the :data:`DTYPE_NAMES`."""
    return ITEM_BITS[_STORED[name]] // 8


def widened(tensor: Tensor) -> Tensor:
    """``tensor`` in float32, where sums are taken; float64 stays."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
