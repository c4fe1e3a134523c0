"""Stacks of one LoRA under many vectors are what a merge string with that vector says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.save import write
from loratools.base.model import Base
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.errors import BlockError
from loratools.ops.merging.combine import combine
from loratools.ops.merging.terms import Term
from loratools.preview.plan.vector_stacks import vector_stacks
from tests.base.patching.test_patch import random_deltas

TEXT = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
BLOCKS = {"IN01": 0.25, "OUT05": -0.5, "TE": 0.75}


@pytest.fixture
def adapter(base: Base, tmp_path: Path) -> Adapter:
    return lora(base, tmp_path / "a.safetensors", 1)


def lora(base: Base, path: Path, seed: int) -> Adapter:
    write(random_deltas(base, seed=seed), path, family="sd1", dtype=torch.float32)
    return read(path)


def same(a: LowRank, b: LowRank) -> bool:
    return torch.equal(a.up, b.up) and torch.equal(a.down, b.down)


def test_a_vector_is_the_merge_strings_own(adapter: Adapter) -> None:
    named = parse_vector("IN01=0.25,OUT05=-0.5,BASE=0.75", load_presets(), "sd1", adapter)
    merged = combine([Term(adapter, 0.8, named, missing=1.0)])
    (stack,) = vector_stacks([Term(adapter, 0.8)], [BLOCKS])
    assert stack.weight == 1 and set(stack.deltas) == set(merged)
    assert all(same(stack.deltas[name], merged[name]) for name in merged)  # type: ignore[arg-type]


def test_factors_multiply_what_a_term_has_already(adapter: Adapter) -> None:
    vector = parse_vector("GP1", load_presets(), "sd1", adapter)
    term = Term(adapter, -2.0, vector, te=0.5, scales={"IN01": 3.0, "IN02": 5.0})
    (stack,) = vector_stacks([term], [BLOCKS])
    for name in adapter:
        block = term.block(name) or ""
        factor = {"IN01": 0.25, "OUT05": -0.5, "BASE": 0.75}.get(block, 1.0)
        asked = term.strength(name) * factor * (adapter[name].up @ adapter[name].down)  # type: ignore[union-attr]
        torch.testing.assert_close(stack.deltas[name].up @ stack.deltas[name].down, asked)  # type: ignore[union-attr]


def test_stacks_share_their_adapters_and_tell_which_modules_differ(
    base: Base, adapter: Adapter, tmp_path: Path
) -> None:
    terms = [Term(adapter), Term(lora(base, tmp_path / "b.safetensors", 2), 0.5)]
    whole = combine(terms)
    one, two, same_as_one, other = vector_stacks(whole, [{"IN01": 0.5}, {"IN01": 0.6}, {"IN01": 0.5}, [{}, BLOCKS]])
    for stack in (one, two, other):
        assert [a.adapter for a in stack.deltas.terms] == [a.adapter for a in whole.terms]  # type: ignore[attr-defined]
    assert one.key == same_as_one.key != two.key
    assert one.content_keys is not None and two.content_keys is not None
    differing = {name for name in one.deltas if one.content_keys[name] != two.content_keys[name]}
    assert differing == {name for name in adapter if terms[0].block(name) == "IN01"}
    strengths = [strength for _, strength in other.deltas.parts(TEXT)]  # type: ignore[attr-defined]
    assert strengths == [1.0, 0.375]


def test_what_makes_no_stack_is_said(adapter: Adapter) -> None:
    term = Term(adapter)
    with pytest.raises(BlockError, match=r"no block 'IN1'.*did you mean"):
        vector_stacks([term], [{"IN1": 1.0}])
    with pytest.raises(BlockError, match="the weight of block IN01 is nan; block weights are finite"):
        vector_stacks([term], [{"IN01": float("nan")}])
    with pytest.raises(BlockError, match="vector 2 of the stacks has block weights for 3 LoRAs, but there are 1"):
        vector_stacks([term], [{}, [{}, {}, {}]])
    with pytest.raises(ValueError, match="same adapters"):
        combine([term]).reweighted([replace(term, adapter=read(adapter.path))])


def test_a_sums_unet_part_has_each_files_factors_and_strength(base: Base, tmp_path: Path) -> None:
    """What mixed batches on a GPU draw from, which is no formed sum."""
    files = [lora(base, tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    (stack,) = vector_stacks([Term(files[0], 2.0, label="a"), Term(files[1], -1.0, label="b")], [BLOCKS])
    modules = stack.unet_part.modules
    assert set(modules) == {name for name in stack.deltas if name.startswith("unet.")}
    for name, summands in modules.items():
        parts = sum(own.strength * own.source[name].dense() for own in summands)
        torch.testing.assert_close(parts, stack.deltas[name].dense(), rtol=1e-6, atol=1e-9)
    assert any(len(summands) == 2 for summands in modules.values())


@pytest.mark.parametrize("rule", ["OUT05/attn1", "IN01/ff"])
def test_rules_for_kinds_of_layers_are_those_of_a_merge_string(adapter: Adapter, rule: str) -> None:
    (stack,) = vector_stacks([Term(adapter, 1.0, label="a")], [{"OUT05": 0.5, rule: 0.25}])
    vector = parse_vector(f"ALL=1,OUT05=0.5,{rule}=0.25", load_presets(), "sd1", adapter)
    merged = combine([Term(adapter, 1.0, vector=vector, label="a")])
    assert set(stack.deltas) == set(merged)
    assert all(same(stack.deltas[name], merged[name]) for name in merged)
    vectored = Term(adapter, 1.0, vector=vector, label="a")
    with pytest.raises(BlockError, match="has a vector already"):
        vector_stacks([vectored], [{rule: 0.25}])
