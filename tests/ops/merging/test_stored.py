"""A merge as its file would hold it, in memory: every number that reading the file gives."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.adapter.files.file import Adapter, read
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.stored import StoredMerge, TermProducts
from loratools.ops.merging.terms import Term
from tests.loras import TINY_XL, lora_tensors, save
from tests.ops.conftest import KINDS, LINEAR, SHAPES, Made, terms

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
TEXTS = ("A:0.7", "A:1e-6:GP1", "A:0.7:GP1", "A:1,B:-1:GP2", "A:1:te=0,B:0.3:unet=-2", "A:1,B:-1:OUTD", "A:1,A:-0.999")


def same(one: Delta, other: Delta) -> bool:
    if isinstance(one, LowRank) != isinstance(other, LowRank):
        return False
    mine = (one.up, one.down) if isinstance(one, LowRank) else (one.value.reshape(-1),)
    theirs = (other.up, other.down) if isinstance(other, LowRank) else (other.value.reshape(-1),)
    return all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def of_its_factors(stored: StoredMerge, name: str) -> Delta | None:
    """What an accelerator makes of the terms' own factors: strengths on them, and the file's rounding."""
    whole = stored.factor_sum(name)
    if whole is None or whole.rounding is None:
        return None
    parts = [(own.source[name], own.strength) for own in whole.summands]
    up = torch.cat([delta.up * torch.tensor(strength) for delta, strength in parts if isinstance(delta, LowRank)], 1)
    down = torch.cat([delta.down for delta, _ in parts if isinstance(delta, LowRank)])
    up, down = whole.rounding.read_back(up[None], down[None])
    return LowRank(up[0], down[0], stored.shapes[name])


def check(summands: list[Term], out: Path, dtype: torch.dtype) -> None:
    merge_files(summands, out, dtype=dtype, force=True)
    written, stored = read(out), StoredMerge(summands, dtype)
    assert set(stored) == set(written) and len(stored) == len(written)
    for name in written:
        assert same(stored[name], written[name]), name
        again = of_its_factors(stored, name)
        assert again is None or same(again, written[name]), name


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pair")
    a = lora_tensors(rank=4, alpha=2.0, seed=1, conv=True)
    return {
        "A": save(folder / "A.safetensors", a),
        "B": save(folder / "B.safetensors", lora_tensors(rank=3, alpha=1.0, seed=2, dtype=torch.float32)),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("text", TEXTS)
def test_it_is_bit_for_bit_what_the_file_gives(
    pair: dict[str, Path], tmp_path: Path, text: str, dtype: torch.dtype
) -> None:
    check(terms(text, missing=1.0, **pair), tmp_path / "m.safetensors", dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_is_of_every_kind_of_lora(tmp_path: Path, kind: str) -> None:
    files = {
        "A": Made(kind, seed=1, zero=(LINEAR,)).save(tmp_path / "A.safetensors"),
        "B": Made(seed=2, rank=2, alpha=None).save(tmp_path / "B.safetensors"),
    }
    check(terms("A:0.7,B:-0.3", **files), tmp_path / "m.safetensors", torch.float16)
    assert len(SHAPES) == 4


def test_so_it_is_of_sdxl_whose_file_fuses_nothing_but_has_other_names(tmp_path: Path) -> None:
    path = save(tmp_path / "A.safetensors", lora_tensors("sdxl", sizes=TINY_XL, rank=2, seed=3))
    check(terms("A:0.8", A=path), tmp_path / "m.safetensors", torch.float16)


def test_equal_keys_mean_equal_numbers_and_only_a_moved_block_has_new_ones(pair: dict[str, Path]) -> None:
    before = StoredMerge(terms("A:1:OUT03=0.5,B:0.5", missing=1.0, **pair))
    after = StoredMerge(terms("A:1:OUT03=0.6,B:0.5", missing=1.0, **pair))
    moved = [name for name in before if before.content_keys[name] != after.content_keys[name]]
    assert moved and all(".up_blocks.1." in name for name in moved)
    assert all(same(before[name], after[name]) for name in before if name not in moved)
    other = StoredMerge(terms("A:1:OUT03=0.5,B:0.5", missing=1.0, **pair), torch.bfloat16)
    assert not set(other.content_keys.values()) & set(before.content_keys.values())


def test_all_low_rank_sums_are_made_of_factors_but_those_that_cancel(pair: dict[str, Path], tmp_path: Path) -> None:
    def made(text: str) -> set[bool]:
        stored = StoredMerge(terms(text, **pair))
        return {stored.factor_sum(name) is not None for name in stored}

    assert made("A:0.7") == made("A:0.7,B:-0.3") == {True}
    assert made("A:1,A:-0.9") == {False}
    full = Made("diff", seed=1).save(tmp_path / "A.safetensors")
    assert StoredMerge(terms("A:0.7", A=full)).factor_sum(LINEAR) is None


def test_whether_a_sum_cancels_is_known_under_other_strengths_without_reading_again(pair: dict[str, Path]) -> None:
    products = TermProducts()
    first = StoredMerge(terms("A:0.7,B:-0.3", **pair), products=products)
    name = next(iter(first))
    assert first.factor_sum(name) is not None
    with mock.patch.object(Adapter, "delta", side_effect=AssertionError("read again")):
        assert StoredMerge(first._summed.terms, products=products).factor_sum(name) is not None
