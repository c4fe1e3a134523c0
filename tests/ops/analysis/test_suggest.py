"""Suggested vectors against the dense formulas: overlap, what is removed, zero modules, and growing blocks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from loratools.adapter.files.file import read
from loratools.blocks.parse import find_preset, parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import SD1_17
from loratools.blocks.vector import BlockVector
from loratools.errors import BlockError, FileError, ShapeError
from loratools.ops.analysis.block_shares import parts_of
from loratools.ops.analysis.suggest import align, suggest
from loratools.ops.merging.merge import combine
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms
from tests.loras import TINY_XL, Sizes, lora_tensors, save

PRESETS = load_presets()


def dense_block(path: Path, block: str) -> Tensor:
    """A block's modules as one long float64 vector."""
    adapter = read(path)
    names = [name for name in sorted(adapter) if SD1_17.block_of(name) == block]
    return torch.cat([adapter[name].dense().flatten() for name in names])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A base style, and a style that holds 0.7 of it and something of its own."""
    base = save(tmp_path / "base.safetensors", lora_tensors(rank=2, seed=1, dtype=torch.float32))
    own = lora_tensors(rank=2, seed=2, dtype=torch.float32)
    other = lora_tensors(rank=2, seed=1, dtype=torch.float32)
    both = {}
    for key, value in own.items():
        match key.rsplit(".", 2)[-2:]:
            case ["lora_up", "weight"]:
                both[key] = torch.cat([value, 0.7 * other[key]], 1)
            case ["lora_down", "weight"]:
                both[key] = torch.cat([value, other[key]])
            case _:
                both[key] = value * 2  # alpha over twice the rank
    return save(tmp_path / "style.safetensors", both), base


def test_coefficient_and_cosine_are_the_dense_ones(pair: tuple[Path, Path]) -> None:
    style, base = pair
    suggestion = suggest(style, base)
    assert list(suggestion.blocks) == list(SD1_17.names)
    for block, one in suggestion.blocks.items():
        s, r = dense_block(style, block), dense_block(base, block)
        assert one.coefficient == pytest.approx(float(s @ r / (r @ r)), rel=1e-4)
        assert one.cosine == pytest.approx(float(s @ r / (s.norm() * r.norm())), rel=1e-4)
        assert 0.5 < one.coefficient < 0.9 and one.overlap == pytest.approx(1, abs=1e-5) and 0 < one.chance < 1


def test_the_suggested_gp2_leaves_nothing_along_the_base_and_no_more(pair: tuple[Path, Path]) -> None:
    style, base = pair
    gp1 = find_preset("GP1", PRESETS)
    suggestion = suggest(style, base, gp1)
    terms = [Term(read(style), 1.0, gp1), Term(read(base), -1.0, BlockVector(SD1_17, suggestion.gp2))]
    merged = combine(terms)
    for block in SD1_17.names:
        names = [name for name in sorted(merged) if SD1_17.block_of(name) == block]
        left = torch.cat([merged[name].dense().flatten() for name in names])
        r = dense_block(base, block)
        assert abs(float(left @ r)) < 1e-4 * float(left.norm() * r.norm())


def test_an_opposed_base_is_not_added_and_zeros_give_no_nonsense(tmp_path: Path) -> None:
    base = lora_tensors(rank=2, seed=1)
    style = {key: -value if "lora_up" in key else value for key, value in base.items()}
    zeros = {
        key: torch.zeros_like(value) if "mid_block" in key and "lora_up" in key else value
        for key, value in base.items()
    }
    a, b = save(tmp_path / "a.safetensors", style), save(tmp_path / "b.safetensors", zeros)
    for suggestion in (suggest(a, b), suggest(b, a)):
        assert set(suggestion.gp2.values()) == {0.0}
        text = json.dumps(suggestion.json(), allow_nan=False)
        assert suggestion.blocks["M00"].cosine == 0 and suggestion.blocks["M00"].overlap == 0 and "NaN" not in text
        assert suggestion.blocks["OUT03"].cosine == pytest.approx(-1)
        assert "GP2 that removes" in suggestion.text()


def test_modules_that_one_file_lacks_count_as_zero_there(tmp_path: Path) -> None:
    names = ["unet.mid_block.attentions.0.proj_in", "unet.up_blocks.1.attentions.0.proj_in"]
    a = save(tmp_path / "a.safetensors", lora_tensors(names=names, rank=1))
    b = save(tmp_path / "b.safetensors", lora_tensors(names=names[:1], rank=1))
    suggestion = suggest(a, b)
    assert suggestion.blocks["OUT03"].base == 0 and suggestion.blocks["OUT03"].coefficient == 0
    assert suggestion.blocks["M00"].coefficient == pytest.approx(1)
    assert len(suggestion.gp2) == 17 and suggestion.gp2["BASE"] == 0 and suggestion.gp1["BASE"] == 1


def test_blocks_that_keep_growing_are_the_suspects(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for epoch in range(1, 9):
        tensors = lora_tensors(rank=1, seed=3, dtype=torch.float32)
        settled = 1 - math.exp(-epoch)
        for key in tensors:
            if "lora_up" in key:
                tensors[key] *= epoch if "up_blocks_2_attentions_0" in key else settled
        save(run / f"ink-{epoch:06d}.safetensors", tensors)
    base = save(tmp_path / "base.safetensors", lora_tensors(rank=1, seed=4))
    suggestion = suggest(run, base, find_preset("GP1", PRESETS), find_preset("GP2", PRESETS))
    assert suggestion.suspects == ["OUT06"]
    growth = suggestion.growth["OUT06"]
    assert growth.growth == pytest.approx(1, rel=1e-4) and len(growth.norms) == 8
    assert suggestion.gp1["OUT06"] == pytest.approx(0.5, abs=0.02) and suggestion.gp1["OUT07"] == 1.1
    assert suggestion.guide_gp2["BASE"] == 0.3 and "overfit suspects): OUT06" in suggestion.text()
    assert not suggest(run / "ink-000008.safetensors", base).growth, "one file has no epochs"


def test_files_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    a = save(tmp_path / "a.safetensors", lora_tensors(rank=1))
    xl = save(tmp_path / "xl.safetensors", lora_tensors("sdxl", rank=1, sizes=TINY_XL))
    wide = save(tmp_path / "wide.safetensors", lora_tensors(rank=1, sizes=Sizes((16, 24, 32, 32), 16, 16)))
    with pytest.raises(BlockError, match=r"is of sd1 and .* of sdxl; their blocks differ"):
        suggest(a, xl)
    with pytest.raises(ShapeError, match="of different models"):
        suggest(a, wide)
    with pytest.raises(FileError):
        suggest(tmp_path / "none", a)
    assert align(read(xl), read(xl), parse_vector("ALL", PRESETS, "sdxl").scheme)["OUT00"].cosine == pytest.approx(1)


def test_shares_before_and_after_a_vector(pair: tuple[Path, Path]) -> None:
    vector = parse_vector("GP1,OUT03=0,M00/attn1=0", PRESETS)
    parts = parts_of(read(pair[0]), vector)
    assert sum(part.before for part in parts.values()) == pytest.approx(1)
    assert sum(part.after for part in parts.values()) == pytest.approx(1)
    assert parts["OUT03"].after == 0 and parts["OUT03"].modules == 12
    total = sum(float(dense_block(pair[0], block).norm() ** 2) for block in SD1_17.names)
    assert parts["M00"].before == pytest.approx(float(dense_block(pair[0], "M00").norm() ** 2) / total, rel=1e-4)


def test_every_form_works_inside_a_merge_string(tmp_path: Path) -> None:
    path = save(tmp_path / "x (1).safetensors", lora_tensors(rank=1))
    q = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    ff = "unet.up_blocks.1.attentions.0.transformer_blocks.0.ff.net.2"
    for text, at_q, at_ff in [
        ("x:2:mix(GP1, ALL, 0.5),y:1", 1.4, 1.4),
        ("x:2:GP1:lbwe=ATTNDEEPOFF,y:1", 0, 0.8),
        ("x:2:GP1,lbwe=ATTNDEEPOFF,y:1", 0, 0.8),
        ("x:2:lbwe=ATTNDEEPOFF,y:1", 0, 2),
        ("x:2:GP1,OUT03/attn1.to_q=0.3,y:1", 0.6, 0.8),
        ("x:2:IN=1,MID=1,OUT=0.5,TE=0,y:1", 1, 1),
        (f"x:2:inspire-17({','.join(['0.5'] * 17)}),y:1", 1, 1),
        (f"x:2:{','.join(['X'] * 17)},x=0.25,y:1", 0.5, 0.5),
    ]:
        terms = resolve_terms(parse_merge_string(text), lambda ref: path, presets=PRESETS)
        assert [term.label for term in terms] == ["x", "y"], text
        assert terms[0].strength(q) == pytest.approx(at_q) and terms[0].strength(ff) == pytest.approx(at_ff), text
    assert parse_merge_string("a mix(1):1,b")[0].ref == "a mix(1)"
    for text in ("x:1:GP1:lbwe=ATTNDEEPOFF", "x:1:mix(GP1,ALL,0.5),y"):
        specs = parse_merge_string(text)
        assert parse_merge_string(",".join(spec.text() for spec in specs)) == specs


def test_a_plan_has_a_row_for_each_weight_of_a_block(tmp_path: Path) -> None:
    from loratools.ops.merging.plan import plan

    path = save(tmp_path / "x.safetensors", lora_tensors(rank=1))
    (term,) = resolve_terms(parse_merge_string("x:1:GP1,OUT03/attn1=0"), lambda ref: path, presets=PRESETS)
    rows = {(row.block, row.weight): row.modules for row in plan([term]).rows}
    assert rows["OUT03", 0.0] == 4 and rows["OUT03", 0.4] == 8 and rows["OUT04", 0.6] == 12
