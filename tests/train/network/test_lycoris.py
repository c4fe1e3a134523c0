"""LoHa and LoKr: what they compute, what their files say, and what LyCORIS itself makes of the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.adapter.architectures.names import kohya_name
from loratools.adapter.files.file import read
from loratools.errors import RecipeError
from loratools.train.config.config import TrainConfig
from loratools.train.network.lycoris import LohaConv, LohaLinear, LokrConv, LokrLinear, split
from loratools.train.output.state import load_state
from loratools.train.trainer import train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]

QUERY = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.down_blocks.1.resnets.0.conv1"


def _layer(kind: str, conv: bool, rank: int = 2) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    frozen = nn.Conv2d(8, 12, 3, stride=2, padding=1) if conv else nn.Linear(8, 12)
    classes = {"loha": (LohaLinear, LohaConv), "lokr": (LokrLinear, LokrConv)}
    made = classes[kind][conv](frozen.requires_grad_(False), rank, 1.5, torch.Generator().manual_seed(1)).double()
    x = torch.randn(3, 8, 6, 6) if conv else torch.randn(3, 5, 8)
    return made, x.double()


def _dense(kind: str, f: dict[str, Tensor], scale: float, shape: tuple[int, ...]) -> Tensor:
    if kind == "loha":
        return (scale * (f["w1_a"] @ f["w1_b"]) * (f["w2_a"] @ f["w2_b"])).reshape(shape)
    second = f["w2"] if "w2" in f else scale * f["w2_a"] @ f["w2_b"]
    rows, columns = shape[0] // f["w1"].shape[0], shape[1] // f["w1"].shape[1]
    first = f["w1"].reshape(*f["w1"].shape, *(1 for _ in shape[2:]))
    return torch.kron(first, second.reshape(rows, columns, *shape[2:]))


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize(("kind", "rank"), [("loha", 2), ("lokr", 1), ("lokr", 8)])
def test_output_and_gradients_are_those_of_the_dense_weight(kind: str, rank: int, conv: bool) -> None:
    made, x = _layer(kind, conv, rank)
    torch.testing.assert_close(made(x), made.frozen(x))  # it starts at the base
    for factor in made.factors().values():
        nn.init.normal_(factor)
    copies = {name: factor.detach().clone().requires_grad_() for name, factor in made.factors().items()}
    assert ("w2" in copies) == (rank == 8)
    scale = 1.0 if rank == 8 else 1.5 / rank
    weight = made.frozen.weight + _dense(kind, copies, scale, made.shape)
    wanted = (
        functional.conv2d(x, weight, made.frozen.bias, 2, 1) if conv else functional.linear(x, weight, made.frozen.bias)
    )
    torch.testing.assert_close(made(x), wanted)
    made(x).square().sum().backward()
    wanted.square().sum().backward()
    for name, factor in made.factors().items():
        torch.testing.assert_close(factor.grad, copies[name].grad)
    before = _dense(kind, {n: f.detach() for n, f in made.factors().items()}, scale, made.shape)
    made.limit_norm(float(before.norm()) / 3)
    after = _dense(kind, {n: f.detach() for n, f in made.factors().items()}, scale, made.shape)
    torch.testing.assert_close(after, before / 3)


@pytest.mark.parametrize("conv", [False, True])
def test_a_rank_that_no_matrix_has_leaves_matrices_whole_and_an_alpha_that_half_precision_holds(conv: bool) -> None:
    made, _ = _layer("lokr", conv, rank=100_000)
    small, _ = _layer("lokr", conv, rank=8)
    assert {name: factor.shape for name, factor in made.factors().items()} == {
        name: factor.shape for name, factor in small.factors().items()
    }
    assert made.scale == 1 and made.extras()["alpha"].half().isfinite() and small.extras()["alpha"] == 8


@pytest.mark.parametrize(
    ("size", "factor", "sides"),
    [
        (128, -1, (8, 16)),
        (128, 4, (4, 32)),
        (250, -1, (10, 25)),
        (360, 4, (4, 90)),
        (127, 8, (1, 127)),
        (512, -1, (16, 32)),
        (1024, -1, (32, 32)),
        (250, 8, (5, 50)),
        (8, 16, (2, 4)),
    ],
)
def test_sizes_are_split_as_lycoris_does(size: int, factor: int, sides: tuple[int, int]) -> None:
    assert split(size, factor) == sides


@pytest.mark.parametrize("kind", ["loha", "lokr"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_a_trained_file_is_read_back_as_what_was_trained(
    kind: str, dtype: str, config: Config, pictures: Pictures
) -> None:
    settings = config(
        pictures(count=2),
        epochs=1,
        network_type=kind,
        dim=3,
        alpha=1.5,
        conv_dim=2,
        learning_rate=1e-2,
        dtype=dtype,
        scale_weight_norms=3,
        module_dropout=0.1,
        batch_size=1,
    )
    result = train(settings, progress=False)
    adapter, state = read(result.epochs[0]), load_state(result.state)
    assert state is not None and set(adapter.kinds.values()) == {kind} and len(adapter) > 250
    assert all(adapter.stem(name) == kohya_name(name, "sd1") for name in adapter)
    assert adapter.metadata["ss_network_module"] == "lycoris.kohya" and adapter.metadata["ss_network_dim"] == "3"
    assert f'"algo": "{kind}"' in adapter.metadata["ss_network_args"]
    tolerance = 1e-5 if dtype == "fp32" else 2e-3
    for name, rank in ((QUERY, 3), (CONV, 2)):
        factors = {
            key.rpartition(".")[2]: value.double()
            for key, value in state.network.items()
            if key.rpartition(".")[0] == name
        }
        scale = (1.5 if name == QUERY else 2) / rank
        wanted = _dense(kind, factors, scale, adapter.shapes[name])
        assert float((adapter[name].dense() - wanted).norm()) <= tolerance * float(wanted.norm()) and wanted.any()


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize(("kind", "rank"), [("loha", 2), ("lokr", 1), ("lokr", 8)])
def test_lycoris_computes_the_same(kind: str, rank: int, conv: bool) -> None:
    modules = pytest.importorskip("lycoris.modules")
    made, x = _layer(kind, conv, rank)
    for factor in made.factors().values():
        nn.init.normal_(factor)
    theirs = {"loha": modules.LohaModule, "lokr": modules.LokrModule}[kind]("m", made.frozen, 1.0, rank, 1.5).double()
    own = dict(theirs.named_parameters())
    prefix = "hada" if kind == "loha" else "lokr"
    assert {f"{prefix}_{name}" for name in made.factors()} == set(own)
    with torch.no_grad():
        for name, factor in made.factors().items():
            own[f"{prefix}_{name}"].copy_(factor.reshape(own[f"{prefix}_{name}"].shape))
        torch.testing.assert_close(made(x), theirs(x))
    assert set(made.extras()) == set(theirs.custom_state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network_type": "loha", "dora": True}, "dora is for network_type lora"),
        ({"network_type": "lokr", "loraplus_lr_ratio": 4}, "loraplus_lr_ratio is for network_type lora"),
        ({"lokr_factor": 4}, "lokr_factor is for network_type lokr"),
        ({"network_type": "locon"}, "'lora', 'loha', 'lokr' or 'full'"),
    ],
)
def test_settings_of_other_types(settings: Any, message: str, config: Config, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        config(tmp_path, **settings)
