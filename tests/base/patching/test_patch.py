from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from unittest import mock

import pytest
import torch
from torch import Tensor

from loratools.adapter.algebra.factor_sum import FactorSum, Rounding, Summand
from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank, Vector, concatenate
from loratools.adapter.architectures.names import lora_targets, module_tree
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patching import weight_writer
from loratools.base.patching.patch import PatchChange, Patcher, live_modules
from loratools.base.patching.weight_writer import GroupedWriter, TensorCache
from loratools.errors import BaseModelError, NonFiniteError, ShapeError


def random_deltas(base: Base, *, conv: bool = False, seed: int = 0, rank: int = 3) -> dict[str, LowRank]:
    """A LoRA (or LoCon) on every module of the family's tree that ``base`` has."""
    modules = live_modules(base)
    names = [module.name for module in module_tree("sd1", base.text_encoder.config.num_hidden_layers)]
    generator = torch.Generator().manual_seed(seed)

    def delta(name: str) -> LowRank:
        shape = tuple(modules[name].weight.shape)  # type: ignore[arg-type]
        up = torch.randn(shape[0], rank, generator=generator) * 0.2
        return LowRank(up, torch.randn(rank, math.prod(shape[1:]), generator=generator) * 0.2, shape)

    return {name: delta(name) for name in lora_targets("sd1", names, conv=conv) if name in modules}


def weights(base: Base) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value.clone()
        for part, model in base.components().items()
        for name, value in model.state_dict().items()
    }


def changed(before: Mapping[str, Tensor], base: Base) -> set[str]:
    return {name for name, value in weights(base).items() if not torch.equal(value, before[name])}


def test_every_target_of_the_family_is_found_by_its_canonical_name(base: Base) -> None:
    names = lora_targets("sd1", [module.name for module in module_tree("sd1", 2)])
    assert len(names) == 192 + 2 * 6
    assert set(names) <= set(live_modules(base))
    assert "text_encoder.text_model.encoder.layers.0.mlp.fc1" in live_modules(base)


@pytest.mark.parametrize("conv", [False, True])
def test_the_patched_weights_are_the_dense_formula(base: Base, conv: bool) -> None:
    deltas, before = random_deltas(base, conv=conv), weights(base)
    modules = live_modules(base)
    kept = {name: modules[name].weight.clone() for name in deltas}
    patcher = Patcher(base)
    for weight in (0.3, -1.0, 2.5):
        with patcher.applied(deltas, weight):
            for name, delta in deltas.items():
                oracle = kept[name].double() + weight * (delta.up.double() @ delta.down.double()).reshape(delta.shape)
                torch.testing.assert_close(modules[name].weight.double(), oracle, rtol=1e-6, atol=1e-6)
            assert len(changed(before, base)) == len(deltas)
        assert not changed(before, base)


def test_a_weight_of_zero_does_nothing_at_all(base: Base) -> None:
    before = weights(base)
    poison = {
        name: LowRank(delta.up * math.nan, delta.down, delta.shape) for name, delta in random_deltas(base).items()
    }
    with Patcher(base).applied(poison, 0.0):
        assert not changed(before, base)


def test_weights_come_back_after_an_error_and_after_many_patches(base: Base) -> None:
    before, patcher = weights(base), Patcher(base)
    with pytest.raises(KeyboardInterrupt), patcher.applied(random_deltas(base), 1.0):
        assert changed(before, base)
        raise KeyboardInterrupt
    assert not changed(before, base)
    rows = [random_deltas(base, seed=seed) for seed in range(3)]
    for step in range(18):
        with patcher.applied(rows[step % 3], 0.1 * step - 1):
            pass
    assert not changed(before, base)


def test_weights_come_back_when_patching_fails_half_way(base: Base) -> None:
    class Broken(Dense):
        @property
        def value(self) -> Tensor:  # type: ignore[override]
            raise OSError("the file went away")

        shape = (16, 16)  # type: ignore[assignment]

    deltas: dict[str, Delta] = dict(random_deltas(base))
    last = [name for name in deltas if name.endswith("to_q")][-1]
    broken = object.__new__(Broken)
    before = weights(base)
    with pytest.raises(OSError, match="went away"), Patcher(base).applied({**deltas, last: broken}, 1.0):
        pass
    assert not changed(before, base)


def test_half_precision_weights_come_back_bit_for_bit(folder) -> None:  # type: ignore[no-untyped-def]
    base = load_base(folder, device="cpu", dtype="bf16")
    before, deltas = weights(base), random_deltas(base)
    name = next(iter(deltas))
    live = live_modules(base)[name].weight
    kept = live.clone()
    with Patcher(base).applied(deltas, 0.7):
        saved = kept
        wanted = (saved.float() + 0.7 * deltas[name].dense(torch.float32).reshape(saved.shape)).to(torch.bfloat16)
        assert torch.equal(live, wanted)
    assert not changed(before, base)


def test_deltas_of_one_row_are_formed_once(base: Base) -> None:
    class Counting(dict[str, LowRank]):
        reads = 0

        def __getitem__(self, name: str) -> LowRank:
            Counting.reads += 1
            return super().__getitem__(name)

    deltas, patcher = Counting(random_deltas(base)), Patcher(base)
    patcher.check(deltas)
    checked = Counting.reads
    for weight in (0.25, 0.5, 1.0):
        with patcher.applied(deltas, weight):
            pass
    assert Counting.reads == checked + len(deltas)


def test_a_search_of_many_vectors_keeps_one_formed_delta_a_module(base: Base) -> None:
    deltas, patcher = random_deltas(base), Patcher(base)
    with patcher.applied(deltas):
        pass
    for number in range(3):
        patcher.patch(deltas, 1.0, dict.fromkeys(deltas, number))
    formed = patcher._writer._formed  # type: ignore[attr-defined]
    assert formed.keys() == deltas.keys() and {key for key, _ in formed.values()} == {2}
    patcher.restore()


def test_full_differences_vectors_and_linear_shapes_apply(base: Base) -> None:
    modules = live_modules(base)
    conv, norm = "unet.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0.norm"
    value = torch.ones(modules[conv].weight.shape[:2])  # (out, in) on a 1 x 1 convolution
    bias = Vector(torch.full_like(modules[norm].bias, 2.0))
    before = weights(base)
    with Patcher(base).applied({conv: Dense(value), f"{norm}.bias": bias}, 0.5):
        assert torch.equal(modules[conv].weight, before[f"{conv}.weight"] + 0.5)
        assert torch.equal(modules[norm].bias, before[f"{norm}.bias"] + 1.0)
    assert not changed(before, base)


def test_an_adapter_of_another_family_or_width_is_refused_untouched(base: Base) -> None:
    before, deltas = weights(base), random_deltas(base)
    other: dict[str, Delta] = {f"unet.down_blocks.9.x{n}": Dense(torch.ones(2, 2)) for n in range(5)}
    with pytest.raises(
        BaseModelError, match=r"tiny lacks 5 of the adapter's 209 modules \(unet.down_blocks.9.x0, .*\.\.\."
    ):
        Patcher(base).check({**deltas, **other})
    name = next(iter(deltas))
    wide = LowRank(torch.ones(320, 2), torch.ones(2, 320), (320, 320))
    with (
        pytest.raises(ShapeError, match=r"is \(320, 320\) in the adapter and \(16, 16"),
        Patcher(base).applied({**deltas, name: wide}),
    ):
        pass
    assert not changed(before, base)


def test_patches_do_not_nest(base: Base) -> None:
    patcher, deltas = Patcher(base), random_deltas(base)
    before = weights(base)
    with patcher.applied(deltas), pytest.raises(RuntimeError, match="already applied"), patcher.applied(deltas):
        pass
    assert not changed(before, base)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_grouped_sums_are_the_dense_formula_and_leave_no_trace(folder, dtype: str) -> None:  # type: ignore[no-untyped-def]
    """The way of accelerators, here on a CPU: low-rank ones in batches, full ones and biases beside them."""
    base = load_base(folder, device="cpu", dtype=dtype)
    modules, before = live_modules(base), weights(base)
    deltas: dict[str, Delta] = {**random_deltas(base, conv=True), **dict(list(random_deltas(base, rank=5).items())[:7])}
    norm, conv = "unet.mid_block.attentions.0.norm", "unet.conv_in"
    deltas[f"{norm}.bias"] = Vector(torch.full_like(modules[norm].bias, 2.0, dtype=torch.float32))
    deltas[conv] = Dense(torch.ones(modules[conv].weight.shape))
    patcher = Patcher(base)
    patcher._writer = GroupedWriter()
    for weight in (0.7, -1.3):
        patcher.patch(deltas, weight)
        for name, delta in deltas.items():
            stem, kind = (name, "weight") if name in modules else name.rsplit(".", 1)
            live, saved = getattr(modules[stem], kind), before[plain(base, f"{stem}.{kind}", before)]
            oracle = saved.double() + weight * delta.dense().reshape(saved.shape)
            torch.testing.assert_close(live, oracle.to(live.dtype), rtol=1e-6 if dtype == "fp32" else 2e-3, atol=1e-6)
    patcher.restore()
    assert not changed(before, base)


class Sum(dict[str, Delta]):
    """Deltas that are sums of the same sources under given strengths, as those of a merge."""

    def __init__(self, sources: Sequence[Mapping[str, Delta]], strengths: Sequence[float], rounding: Rounding | None):
        self._sources, self._strengths, self._rounding = sources, strengths, rounding
        super().__init__({name: self._whole(name) for name in sources[0]})

    def _whole(self, name: str) -> Delta:
        whole = concatenate([(own, source[name]) for own, source in zip(self._strengths, self._sources, strict=True)])
        if self._rounding is None or not isinstance(whole, LowRank):
            return whole
        return LowRank(*self._rounding.read_back(whole.up, whole.down), whole.shape)

    def factor_sum(self, name: str) -> FactorSum | None:
        if not all(isinstance(source[name], LowRank) for source in self._sources):
            return None
        pairs = enumerate(zip(self._strengths, self._sources, strict=True))
        return FactorSum(tuple(Summand(n, own, source) for n, (own, source) in pairs), self._rounding)


@pytest.mark.parametrize("rounding", [None, Rounding(torch.float16, 2.0), Rounding(torch.bfloat16, 0.5)])
def test_other_strengths_of_the_same_files_need_nothing_read_again(base: Base, rounding: Rounding | None) -> None:
    norm = "unet.mid_block.attentions.0.norm.bias"
    sources: list[dict[str, Delta]] = [dict(random_deltas(base, conv=True, rank=2 + n, seed=n)) for n in range(2)]
    for source in sources:
        source[norm] = Vector(torch.ones(live_modules(base)[norm.removesuffix(".bias")].bias.shape))
    patcher, oracle = Patcher(base), Patcher(base)
    patcher._writer, oracle._writer = GroupedWriter(), GroupedWriter()
    for n, strengths in enumerate([(0.7, -0.3), (1.0, 0.25), (-2.0, 1.0)]):
        whole = Sum(sources, strengths, rounding)
        oracle.patch(dict(whole), 0.9, dict.fromkeys(whole, ("alone", n)))
        wanted = weights(base)
        oracle.restore()
        with mock.patch.object(weight_writer, "upload_all", wraps=weight_writer.upload_all) as uploaded:
            patcher.patch(whole, 0.9, dict.fromkeys(whole, strengths))
        assert not changed(wanted, base)  # bit for bit
        patcher.restore()
        tensors = [part for call in uploaded.call_args_list for parts in call.args[0] for part in parts]
        assert n == 0 or all(part.numel() <= 2 * len(whole) for part in tensors), "factors were uploaded again"


def test_a_sum_that_its_file_could_not_hold_is_an_error_and_leaves_no_trace(base: Base) -> None:
    source, before = random_deltas(base), weights(base)
    patcher = Patcher(base)
    patcher._writer = GroupedWriter()
    with pytest.raises(NonFiniteError, match="does not fit into F16"):
        patcher.patch(Sum([source], [1e30], Rounding(torch.float16, 1.0)), 1.0)
    assert not changed(before, base)


def plain(base: Base, name: str, table: Mapping[str, Tensor]) -> str:
    """The state dict's own spelling of a canonical name."""
    return name if name in table else name.replace("text_model.", "")


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_thousand_moves_leave_the_weights_as_they_were(folder, dtype: str) -> None:  # type: ignore[no-untyped-def]
    base = load_base(folder, device="cpu", dtype=dtype)
    before = weights(base)
    some = [dict(list(random_deltas(base, seed=seed).items())[seed : seed + 12]) for seed in range(4)]
    patcher = Patcher(base)
    for step in range(1000):
        patcher.patch(some[step % 4], (step % 13) / 6 - 1)
    assert changed(before, base)
    patcher.patch({}, 1.0)
    assert not changed(before, base)


def test_only_modules_that_differ_are_written(base: Base) -> None:
    deltas, before, patcher = random_deltas(base), weights(base), Patcher(base)
    content_keys = dict.fromkeys(deltas, "first")
    assert patcher.patch(deltas, 1.0, content_keys) == PatchChange(len(deltas), text=True)
    assert patcher.patch(dict(deltas), 1.0, content_keys) == PatchChange(0, text=False)
    block = [name for name in deltas if name.startswith("unet.mid_block")]
    other = {**deltas, **{name: deltas[name].scaled(0.5) for name in block}}
    text = patcher.text_state
    assert patcher.patch(other, 1.0, {**content_keys, **dict.fromkeys(block, "half")}) == PatchChange(
        len(block), text=False
    )
    assert patcher.text_state == text
    alone = weights(base)
    patcher.restore()
    direct = Patcher(base)
    direct.patch(other, 1.0)
    assert not changed(alone, base)  # by way of the first one or not: the same bits
    direct.restore()
    assert not changed(before, base)


def test_what_is_no_longer_asked_for_is_taken_away(base: Base) -> None:
    deltas, before, patcher = random_deltas(base), weights(base), Patcher(base)
    few = dict(list(deltas.items())[-5:])
    patcher.patch(deltas, 1.0, dict.fromkeys(deltas, "a"))
    moved = patcher.patch(few, 1.0, dict.fromkeys(few, "a"))
    assert moved.modules == len(deltas) - len(few) and len(changed(before, base)) == len(few)
    patcher.patch(few, 0.0)
    assert not changed(before, base) and patcher.text_state == frozenset()


def test_kept_tensors_stay_under_their_limit() -> None:
    kept = TensorCache(most=100)
    for name in "abc":
        kept.put(name, (torch.zeros(10),))
        kept.get("a")
    assert kept.get("a") is not None and kept.get("b") is None and kept.get("c") is not None
    kept.put("large", (torch.zeros(100),))
    assert kept.get("large") is None
