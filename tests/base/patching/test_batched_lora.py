"""Branches of every row: what patching each row's stack gives, whether factors are shared by rows or not."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from loratools.adapter.algebra.factor_sum import Summand
from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank
from loratools.adapter.architectures.names import lora_targets
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora
from loratools.base.patching.branch_buffers import rounded_rank
from loratools.base.patching.patch import Patcher, live_modules
from loratools.base.patching.summands import AdapterSum, RowAdapters
from loratools.base.sampling.sample import plain_unet
from tests.base.tiny_xl import save_tiny_xl


def adapter(base: Base, seed: int, rank: int = 4) -> dict[str, Delta]:
    """Low-rank differences of the UNet's linear modules and 1x1 convolutions."""
    generator, modules = torch.Generator().manual_seed(seed), live_modules(base)
    deltas: dict[str, Delta] = {}
    for name in lora_targets(base.family, modules):
        if name.startswith("unet."):
            shape = tuple(modules[name].weight.shape)  # type: ignore[arg-type]
            up, down = (torch.randn(*size, generator=generator) * 0.2 for size in ((shape[0], rank), (rank, shape[1])))
            deltas[name] = LowRank(up, down, shape)
    return deltas


def summed(*terms: tuple[str, Mapping[str, Delta], float]) -> AdapterSum:
    """The sum of adapters with strengths; a strength of 0 leaves its adapter out, as a merge does."""
    names = dict.fromkeys(name for _, deltas, _ in terms for name in deltas)
    return AdapterSum(
        {
            name: tuple(
                Summand(key, strength, deltas) for key, deltas, strength in terms if strength and name in deltas
            )
            for name in names
        }
    )


def dense(whole: AdapterSum) -> dict[str, Delta]:
    """The same sum multiplied out."""
    sums = {}
    for name, summands in whole.modules.items():
        parts = [summand.strength * summand.source[name].dense() for summand in summands]
        if parts:
            sums[name] = Dense(torch.stack([part.double() for part in parts]).sum(0).float())
    return sums


def inputs(base: Base, rows: int) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor] | None]:
    torch.manual_seed(0)
    x, hidden = torch.randn(rows, 4, 8, 8), torch.randn(rows, 77, base.unet.config.cross_attention_dim)
    added = {"text_embeds": torch.randn(rows, 16), "time_ids": torch.full((rows, 6), 64.0)}
    return x, torch.tensor(321), hidden, added if base.family == "sdxl" else None


def patched(base: Base, pictures: Sequence[RowAdapters]) -> Tensor:
    """Every row by itself, under patched weights."""
    x, time, hidden, added = inputs(base, len(pictures))
    rows, patcher = [], Patcher(base)
    for n, picture in enumerate(pictures):
        own = None if added is None else {name: value[n : n + 1] for name, value in added.items()}
        with patcher.applied(dense(picture.whole), picture.weight):
            rows.append(plain_unet(base)(x[n : n + 1], time, hidden[n : n + 1], own))
    return torch.cat(rows)


def branched(base: Base, lora: BatchedLora, pictures: Sequence[RowAdapters]) -> Tensor:
    lora.reserve(len(pictures))
    lora.fill(pictures, range(len(pictures)))
    with lora.attached():
        return plain_unet(base)(*inputs(base, len(pictures)))


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def model(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    path = folder if request.param == "sd1" else save_tiny_xl(tmp_path_factory.mktemp("xl") / "tiny")
    return load_base(path, device="cpu")


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
def test_every_row_is_what_patching_its_stack_gives(model: Base, shared: bool) -> None:
    """Sums of several adapters of several ranks, weights, none at all; then other stacks in the same buffers."""
    one, two, three = adapter(model, 1), adapter(model, 2, rank=7), adapter(model, 3, rank=2)
    few = dict(list(three.items())[::3])
    stacks = [
        summed(("one", one, 1.0), ("two", two, -0.7)),
        summed(("one", one, 0.3)),
        summed(("few", few, 2.0), ("two", two, 0.5)),
        summed(("one", one, 1.0), ("one", one, -0.25)),
    ]
    before = {name: value.clone() for name, value in model.unet.named_parameters()}
    lora = BatchedLora(model, shared=shared)
    assert all(lora.fits(own) for own in stacks)
    lora.register([stacks])
    for batch in (
        [RowAdapters(stacks[0]), RowAdapters(stacks[1], -0.5), RowAdapters(stacks[2]), RowAdapters(stacks[3], 0.0)],
        [RowAdapters(stacks[3]), RowAdapters(stacks[0], 0.0), RowAdapters(stacks[1])],
    ):
        expected = patched(model, batch)
        torch.testing.assert_close(branched(model, lora, batch), expected, rtol=1e-3, atol=1e-4)
    plain = plain_unet(model)(*inputs(model, 3))
    assert (expected - plain).abs().max() > 0.01  # the control
    lora.free()
    assert all(torch.equal(value, before[name]) for name, value in model.unet.named_parameters())
    assert not [module for module in model.unet.modules() if "forward" in vars(module)]


@torch.no_grad()
def test_vectors_of_one_adapter_share_its_factors(base: Base) -> None:
    """A block that one vector leaves out is there for the next, without another allocation or upload."""
    deltas = adapter(base, 1)
    half = [name for name in deltas if ".up_blocks." in name]

    def vector(up: float) -> AdapterSum:
        return AdapterSum(
            {name: (Summand("a", up if name in half else 1.0, deltas),) for name in deltas if name not in half or up}
        )

    lora = BatchedLora(base)
    first, second = vector(0.0), vector(0.8)
    lora.register([[first]])
    assert lora.shared and lora.reserve(4)
    assert torch.allclose(
        branched(base, lora, [RowAdapters(first)]), patched(base, [RowAdapters(first)]), rtol=1e-3, atol=1e-4
    )
    lora.register([[second]])
    assert not lora.reserve(4)
    lora._place.cache.get = None  # type: ignore[assignment, method-assign]  # nothing is uploaded again
    pictures = [RowAdapters(second), RowAdapters(first, -1.0)]
    torch.testing.assert_close(branched(base, lora, pictures), patched(base, pictures), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_adapters_take_each_others_slots(base: Base) -> None:
    """Epochs follow each other; those that are still in use stay."""
    stacks = [summed((str(n), adapter(base, n, rank=2 + n), 1.0)) for n in range(4)]
    lora = BatchedLora(base, shared=True)
    lora.register([stacks[n : n + 2] for n in range(3)])
    for n in (0, 1, 2, 0):
        pictures = [RowAdapters(stacks[n + 1], 0.5), RowAdapters(stacks[n])]
        torch.testing.assert_close(branched(base, lora, pictures), patched(base, pictures), rtol=1e-3, atol=1e-4)
    lora.reserve(2)
    assert not lora.reserve(2)


def test_sharing_is_chosen_by_the_ranks_together(base: Base) -> None:
    epochs = [summed((str(n), adapter(base, n, rank=48), 1.0)) for n in range(8)]
    few, many = BatchedLora(base), BatchedLora(base)
    few.register([epochs[:2], epochs[1:3]])
    many.register([epochs])
    assert few.shared and not many.shared
    assert many.buffer_bytes(16) > many.buffer_bytes(8) and few.buffer_bytes(16) == few.buffer_bytes(8)


def test_what_has_no_branch_does_not_fit(base: Base) -> None:
    deltas = adapter(base, 1)
    lora, name = BatchedLora(base), next(iter(deltas))
    conv = "unet.conv_in"
    weight = live_modules(base)[conv].weight
    assert lora.fits(summed(("a", deltas, 1.0)))
    assert not lora.fits(summed(("a", {**deltas, name: Dense(deltas[name].dense())}, 1.0)))
    assert not lora.fits(summed(("a", {conv: Dense(torch.zeros_like(weight))}, 1.0)))  # type: ignore[arg-type]
    assert not lora.fits(summed(*((str(n), adapter(base, n, rank=64), 1.0) for n in range(5))))


def test_ranks_are_rounded_up() -> None:
    assert [rounded_rank(rank) for rank in (1, 8, 9, 33, 256, 257)] == [8, 8, 16, 48, 256, 320]


@torch.no_grad()
def test_a_wide_layer_joins_the_branch_with_its_weight(base: Base) -> None:
    """The feed-forward's first layer is eight times as wide as it is deep; the others add to their output."""
    deltas = adapter(base, 1)
    wide = [name for name in deltas if name.endswith("ff.net.0.proj")]
    assert wide
    lora = BatchedLora(base, shared=True)
    whole = summed(("a", {name: deltas[name] for name in wide}, 1.0))
    lora.register([[whole]])
    pictures = [RowAdapters(whole), RowAdapters(whole, -2.0)]
    torch.testing.assert_close(branched(base, lora, pictures), patched(base, pictures), rtol=1e-3, atol=1e-4)


class WideFloats(TorchDispatchMode):
    """Counts the float32 tensors that operations give, of more numbers than strengths have."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.count = most, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for own in made if isinstance(made, tuple) else (made,):
            if isinstance(own, Tensor) and own.dtype == torch.float32 and own.numel() > self.most:
                self.count += 1
        return made


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
def test_strengths_in_float32_do_not_make_activations_so(folder: Path, shared: bool) -> None:
    """A base in half precision: the branches add no operation whose result is float32 and as large as activations."""
    base = load_base(folder, device="cpu", dtype="bf16")
    stacks = [summed(("a", adapter(base, 1), strength)) for strength in (0.3, 0.9)]
    lora = BatchedLora(base, shared=shared)
    lora.register([stacks])
    lora.reserve(2)
    lora.fill([RowAdapters(own) for own in stacks], [0, 1])
    x, time, hidden, added = inputs(base, 2)
    given = x.bfloat16(), time, hidden.bfloat16(), added
    counts, made = [], []
    for attached in (contextlib.nullcontext(), lora.attached()):
        with attached, WideFloats(2 * 256) as floats:
            made.append(plain_unet(base)(*given))
        counts.append(floats.count)
    assert counts[0] == counts[1]
    assert made[1].dtype == torch.bfloat16 and float((made[1] - made[0]).abs().max()) > 0.05  # the control
