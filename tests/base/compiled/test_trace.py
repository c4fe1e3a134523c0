"""A block as a function of its tensors: its graph, and a key that is equal where one compiled function serves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loratools.base.compiled.trace import Arguments, BlockFunction, structure
from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora
from loratools.base.patching.summands import RowAdapters
from tests.base.patching.test_batched_lora import adapter, summed


def blocks(base: Base) -> list[Any]:
    return [module for module in base.unet.modules() if type(module).__name__ == "BasicTransformerBlock"]


def arguments(base: Base, block: Any, rows: int = 2, tokens: int = 9) -> Arguments:
    torch.manual_seed(rows)
    x = torch.randn(rows, tokens, block.norm1.normalized_shape[0])
    hidden = torch.randn(rows, 77, base.unet.config.cross_attention_dim)
    return Arguments.of((x,), {"encoder_hidden_states": hidden, "attention_mask": None})


def function(block: nn.Module) -> BlockFunction:
    return BlockFunction(block, structure(block))


def run(own: BlockFunction, given: Arguments) -> Tensor:
    return own.trace(given)(*own.tensors, *given.tensors)[0]


@torch.no_grad()
@pytest.mark.parametrize("shared", [None, True, False])
def test_the_graph_is_the_block(base: Base, shared: bool | None) -> None:
    """With other parameters, factors and inputs than those that it was traced with, as well."""
    first, other = blocks(base)[:2]
    given, changed = arguments(base, first), arguments(base, first)
    changed = Arguments(tuple(own + 1 for own in changed.tensors), changed.constants, changed.spec)
    lora, whole = BatchedLora(base, shared=shared), summed(("a", adapter(base, 1), 1.0))
    lora.register([[whole]])
    lora.reserve(2)
    lora.fill([RowAdapters(whole), RowAdapters(whole, -0.5)], [0, 1])
    if shared is None:
        lora.free()
    with lora.attached():
        own = function(first)
        assert bool(own.branches) == (shared is not None)
        graph = own.trace(given)
        torch.testing.assert_close(graph(*own.tensors, *given.tensors)[0], own(given))
        lora.fill([RowAdapters(whole, 2.0)] * 2, [0, 1])
        torch.testing.assert_close(graph(*own.tensors, *changed.tensors)[0], own(changed))
        alike = function(other)
        if alike.key(given) == own.key(given):
            torch.testing.assert_close(graph(*alike.tensors, *given.tensors)[0], alike(given))
    assert not list(graph.parameters()) and not list(graph.buffers())


def test_a_key_tells_what_needs_another_function(base: Base) -> None:
    block = blocks(base)[0]
    plain = function(block).key(arguments(base, block))
    assert plain == function(block).key(arguments(base, block))
    assert plain != function(block).key(arguments(base, block, rows=3))
    assert plain != function(block).key(arguments(base, block, tokens=4))
    keys = {plain}
    for shared in (True, False):
        lora, whole = BatchedLora(base, shared=shared), summed(("a", adapter(base, 1), 1.0))
        lora.register([[whole]])
        lora.reserve(2)
        with lora.attached():
            keys.add(function(block).key(arguments(base, block)))
    assert len(keys) == 3
    before = block.attn1.scale
    block.attn1.scale = 0.5
    keys.add(function(block).key(arguments(base, block)))
    block.attn1.scale = before
    assert len(keys) == 4


def test_blocks_of_one_kind_have_one_key(base: Base) -> None:
    own = [function(block).key(arguments(base, block)) for block in blocks(base)]
    assert len(set(own)) < len(own)


def test_arguments_are_put_together_again() -> None:
    x, y = torch.ones(1), torch.zeros(2)
    given = Arguments.of((x, 3), {"b": [y, None], "a": "text"})
    args, kwargs = given.filled((y, x))
    assert args[0] is y and args[1] == 3 and kwargs["b"][0] is x and kwargs["a"] == "text"
    assert given.text == Arguments.of((x + 1, 3), {"b": [y, None], "a": "text"}).text
    assert given.text != Arguments.of((x, 4), {"b": [y, None], "a": "text"}).text
