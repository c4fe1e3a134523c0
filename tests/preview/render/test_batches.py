"""The order of stacks: what going from one to another costs, and that it is always the nearest one next."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest

from loratools.adapter.architectures.names import is_text
from loratools.preview.plan.jobs import Stack
from loratools.preview.render import batches
from loratools.preview.render.batches import Distances, StackBatch, nearest_first, plan_stack_batches


def cost(one: Stack, two: Stack) -> float:
    """Module by module."""
    total = 0.0
    before, after = ({} if stack.key == ("", 0.0) else stack.keys_by_module for stack in (one, two))
    for name in {*before, *after}:
        if name not in after:
            own = 1
        elif before.get(name) != after[name]:
            own = 2
        else:
            own = int(one.weight != two.weight)
        total += own * (20 if is_text(name) else 1)
    return total


def some_stacks(seed: int) -> list[Stack]:
    """Random ones: at several weights, of some modules or none, with their own content keys or one digest for all."""
    draw = random.Random(seed)
    names = [f"unet.{n}" for n in range(6)] + [f"text_encoder.{n}" for n in range(3)]
    made: list[Stack] = []
    for n in range(draw.randint(1, 12)):
        if made and draw.random() < 0.5:
            like = draw.choice(made)
            made.append(Stack(like.deltas, draw.choice([0, 0.5, 1, -1]), like.digest, like.content_keys))
            continue
        own = [name for name in names if draw.random() < 0.7]
        content_keys = {name: draw.randint(1, 2) for name in own} if draw.random() < 0.8 else None
        made.append(Stack(dict.fromkeys(own), draw.choice([0, 0.5, 1]), str(n), content_keys))  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("seed", range(40))
def test_costs_are_those_of_every_module(seed: int) -> None:
    stacks = some_stacks(seed)
    distances = Distances(stacks)
    assert distances.from_base().tolist() == [cost(Stack(), stack) for stack in stacks]
    for n, one in enumerate(stacks):
        assert distances.from_stack(n).tolist() == [cost(one, two) for two in stacks]


@pytest.mark.parametrize("seed", range(40))
def test_always_the_nearest_that_is_left(seed: int) -> None:
    groups = [StackBatch(stack, ()) for stack in some_stacks(seed)]
    left, here = list(groups), Stack()
    for group in nearest_first(groups):
        nearest = int(np.argmin([cost(here, _stack(other)) for other in left]))
        assert left.pop(nearest) is group
        here = _stack(group)
    assert not left and plan_stack_batches([], 8) == []


def test_too_many_different_stacks_keep_their_order_after_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_MOST", 3)
    many = [Stack({"unet.a": None}, 1, str(n)) for n in range(5)]  # type: ignore[dict-item]
    assert _digests(nearest_first([StackBatch(stack, ()) for stack in (*many, Stack())])) == [
        "",
        "0",
        "1",
        "2",
        "3",
        "4",
    ]
    weights = [Stack(many[0].deltas, weight, "0") for weight in (1, 2, 0.5, 3, 4)]
    assert (
        len(nearest_first([StackBatch(stack, ()) for stack in weights])) == 5
    )  # one stack at five weights is not many


def _stack(group: StackBatch) -> Stack:
    assert group.stack is not None
    return group.stack


def _digests(groups: Sequence[StackBatch]) -> list[str]:
    return [_stack(group).digest for group in groups]
