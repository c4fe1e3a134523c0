"""Number types: every name means the same type everywhere, and sizes are those of torch."""

import subprocess
import sys

import pytest
import torch

from loratools.dtypes import DTYPE_NAMES, ITEM_BITS, dtype_name, item_size, stored_name, torch_dtype, torch_dtype_of
from loratools.errors import FormatError


def test_names_and_types_are_each_others_inverse() -> None:
    assert DTYPE_NAMES == ("fp16", "bf16", "fp32")
    assert [torch_dtype(name) for name in DTYPE_NAMES] == [torch.float16, torch.bfloat16, torch.float32]
    for name in DTYPE_NAMES:
        dtype = torch_dtype(name)
        assert dtype_name(dtype) == name and torch_dtype_of(stored_name(dtype)) == dtype
        assert item_size(name) == dtype.itemsize


def test_sizes_are_those_of_torch() -> None:
    for stored, bits in ITEM_BITS.items():
        dtype = torch_dtype_of(stored)
        assert dtype is None or 8 * dtype.itemsize == bits, stored
    assert torch_dtype_of("F4") is None


def test_a_type_that_loras_are_not_written_in_is_named() -> None:
    with pytest.raises(FormatError, match=r"written as fp16, bf16 or fp32, not torch\.float64"):
        dtype_name(torch.float64)


def test_the_names_need_no_torch() -> None:
    code = "import sys, loratools.dtypes as d; assert d.item_size('bf16') == 2 and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
