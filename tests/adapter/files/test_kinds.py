"""Every additive kind lowers to what its dense formula says."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Dense, LowRank
from loratools.adapter.files.file import read, write
from loratools.errors import FormatError
from tests.loras import save
from tests.oracle import dense

CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
R = 3


def t(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


TUCKER = {"lora_up.weight": t(8, R, 1, 1), "lora_down.weight": t(4, 6, 1, 1), "lora_mid.weight": t(R, 4, 3, 3)}
LOHA = {"hada_w1_a": t(8, R), "hada_w1_b": t(R, 9), "hada_w2_a": t(8, R), "hada_w2_b": t(R, 9)}
LOHA_CONV = {"hada_w1_a": t(8, R), "hada_w1_b": t(R, 36), "hada_w2_a": t(8, R), "hada_w2_b": t(R, 36)}
LOHA_TUCKER = {
    "hada_t1": t(R, R, 3, 3),
    "hada_w1_a": t(R, 8),
    "hada_w1_b": t(R, 6),
    "hada_t2": t(R, R, 3, 3),
    "hada_w2_a": t(R, 8),
    "hada_w2_b": t(R, 6),
}
CASES: list[tuple[str, str, dict[str, Tensor], type]] = [
    ("tucker", CONV, TUCKER, LowRank),
    ("loha", LINEAR, LOHA, LowRank),
    ("loha", CONV, LOHA_CONV, LowRank),
    ("loha", CONV, LOHA_TUCKER, LowRank),
    ("lokr", LINEAR, {"lokr_w1": t(2, 2), "lokr_w2_a": t(8, 2), "lokr_w2_b": t(2, 7)}, LowRank),
    ("lokr", LINEAR, {"lokr_w1": t(2, 2), "lokr_w2": t(8, 8)}, Dense),
    ("lokr", LINEAR, {"lokr_w1_a": t(4, 1), "lokr_w1_b": t(1, 4), "lokr_w2_a": t(5, 1), "lokr_w2_b": t(1, 6)}, LowRank),
    ("lokr", CONV, {"lokr_w1": t(2, 2), "lokr_w2": t(6, 4, 3, 3)}, Dense),
    ("lokr", CONV, {"lokr_w1": t(2, 2), "lokr_w2_a": t(9, 2), "lokr_w2_b": t(2, 36)}, LowRank),
    ("lokr", CONV, {"lokr_w1": t(2, 3), "lokr_t2": t(2, 2, 3, 3), "lokr_w2_a": t(2, 9), "lokr_w2_b": t(2, 4)}, LowRank),
    ("diff", CONV, {"diff": t(4, 3, 3, 3)}, Dense),
]


@pytest.mark.parametrize(("kind", "stem", "parts", "type_"), CASES)
@pytest.mark.parametrize("alpha", [None, 1.5])
def test_lowering_is_exact(
    tmp_path: Path, kind: str, stem: str, parts: dict[str, Tensor], type_: type, alpha: float | None
) -> None:
    given = parts if alpha is None or kind == "diff" else {**parts, "alpha": torch.tensor(alpha)}
    adapter = read(save(tmp_path / "a.safetensors", {f"{stem}.{key}": value for key, value in given.items()}))
    (name,) = adapter
    delta = adapter[name]
    asked = dense({key: value.double() for key, value in given.items()})
    assert isinstance(delta, type_) and adapter.kinds[name] == kind
    assert delta.shape == adapter.shapes[name] and (name in adapter.dense) == (type_ is Dense)
    assert delta.rank == adapter.ranks[name]
    assert float((delta.dense().flatten(1) - asked).norm() / asked.norm()) < 1e-6
    exact = adapter.delta(name, torch.float64)
    assert float((exact.dense().flatten(1) - asked).norm() / asked.norm()) < 1e-13
    again = read(write(adapter, tmp_path / "out.safetensors", family="sd1", dtype=torch.float32).path)
    assert float((again[name].dense().flatten(1) - asked).norm() / asked.norm()) < 1e-6


@pytest.mark.parametrize(
    "parts",
    [
        {**LOHA, "hada_w1_b": t(2, 9)},
        {**LOHA, "hada_w2_b": t(R, 8)},
        {**LOHA_TUCKER, "hada_t1": t(R, 2, 3, 3)},
        {**TUCKER, "lora_mid.weight": t(R, 5, 3, 3)},
        {**TUCKER, "lora_mid.weight": t(R, 4)},
        {"lokr_w1": t(2, 2), "lokr_w2_a": t(8, 2)},
        {"lokr_w1": t(2), "lokr_w2": t(8, 2)},
        {"diff": torch.zeros(0, 4)},
    ],
)
def test_factors_that_do_not_fit_are_named(tmp_path: Path, parts: dict[str, Tensor]) -> None:
    path = save(tmp_path / "bad.safetensors", {f"{LINEAR}.{key}": value for key, value in parts.items()})
    with pytest.raises(FormatError, match=rf"bad\.safetensors: module '{LINEAR}' is broken"):
        read(path)
