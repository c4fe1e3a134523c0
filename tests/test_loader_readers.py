"""The parts of ``benchmarks.loader_readers`` that need no other tool, so that its table can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.loader_readers.cases import MODELS, Content, by_original, random_merge
from benchmarks.loader_readers.measure import Asked
from benchmarks.loader_readers.original import stand_in, summed
from benchmarks.loader_readers.sd_scripts_reader import tree
from benchmarks.loaders import verdict
from loratools.adapter.architectures.names import kohya_name


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, (out, width) in {"qkv": (6, 4), "out": (4, 6)}.items():
        tensors[f"{name}.up"] = torch.randn(out, 2, generator=generator).double()
        tensors[f"{name}.down"] = torch.randn(2, width, generator=generator).double()
        tensors[f"{name}.shape"] = torch.tensor([out, width])
    save_file(tensors, tmp_path / "asked")
    return Asked(str(tmp_path / "asked"))


def product(asked: Asked, name: str) -> Tensor:
    up, down = (asked._tensors[f"{name}.{side}"] for side in ("up", "down"))
    return up @ down


@pytest.mark.parametrize("factor", [1.0, 0.25, -1.0, 4.0])
def test_a_scale_is_measured(asked: Asked, factor: float) -> None:
    ratio, residual = asked.compare("qkv", product(asked, "qkv").float() * factor)
    assert ratio == pytest.approx(factor, abs=1e-6) and residual == pytest.approx(abs(factor - 1), abs=1e-6)


def test_what_is_added_beside_the_right_is_measured(asked: Asked) -> None:
    value = product(asked, "qkv")
    across = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).double()
    across -= value * (across * value).sum() / (value * value).sum()
    ratio, residual = asked.compare("qkv", value + across)
    assert ratio == pytest.approx(1) and residual == pytest.approx(float(across.norm() / value.norm()))


def test_patches_of_rows_of_one_weight_are_summed(asked: Asked) -> None:
    whole = product(asked, "qkv").float()

    def apply(patches: list[tuple[Any, ...]], weight: Tensor, key: str) -> Tensor:
        ((strength, value, _, offset, _),) = patches
        rows = weight if offset is None else weight.narrow(*offset)
        rows += strength * value
        return weight

    patches = {("qkv", (0, start, 2)): whole[start : start + 2] for start in (0, 2, 4)}
    reading = summed(asked, patches, apply)
    assert reading.asked == 2 and list(reading.modules) == ["qkv"]
    assert reading.modules["qkv"][0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("modules", "cell"),
    [
        ({"a": (1.0, 0.0), "b": (1.0, 1e-7)}, "1.000"),
        ({"a": (1.0, 0.0)}, "1.000 in 1 of 2, the rest not read"),
        ({"a": (0.25, 0.75), "b": (4.0, 3.0)}, "**0.25 to 4.00** in 2 of 2"),
        ({"a": (1.0, 0.0), "b": (1.0, 0.5)}, "**1.00 to 1.00** in 1 of 2"),
        ({"a": (1.0, 0.0), "b": (float("inf"), float("inf"))}, "**inf to inf** in 1 of 2"),
        ({}, "not read"),
    ],
)
def test_a_cell_says_what_became_of_a_file(modules: dict[str, tuple[float, float]], cell: str) -> None:
    assert verdict({"asked": 2, "modules": modules}) == cell


def test_a_refusal_is_a_cell() -> None:
    assert verdict({"error": "ValueError: no such key\nmore"}) == "refused: ValueError: no such key"


def test_a_bare_model_has_keys_and_its_class() -> None:
    model = stand_in(nn.Module, {"a.weight": (2, 2)}, config="c")
    assert isinstance(model, nn.Module) and list(model.state_dict()) == ["a.weight"] and model.config == "c"


@pytest.mark.parametrize("family", MODELS)
def test_every_layer_stands_below_a_class_that_sd_scripts_knows(family: str) -> None:
    """Its networks name a layer by the path to such a class and on from there: that is kohya's stem."""
    content = Content("mixed", mixed=True, conv=family != "flux", text=False)
    sizes = {part: size for part, size in MODELS[family].items() if not part.startswith("text")}
    merged = random_merge(family, content, sizes)
    deltas = dict(merged) if family == "sd1" else by_original(family, merged)
    prefix = "unet." if family == "sd1" else "diffusion_model."
    shapes = {name.removeprefix(prefix).removesuffix(".weight"): delta.shape for name, delta in deltas.items()}
    if family == "flux":  # of true width: only the paths matter here
        shapes = dict.fromkeys(shapes, (2, 2))
    known = {
        "Transformer2DModel",
        "ResnetBlock2D",
        "Downsample2D",
        "Upsample2D",
        "DoubleStreamBlock",
        "SingleStreamBlock",
    }
    top = tree(shapes)
    stems = {
        f"lora_unet_{path}_{below}".replace(".", "_")
        for path, module in top.named_modules()
        if type(module).__name__ in known
        for below, layer in module.named_modules()
        if hasattr(layer, "weight")
    }
    assert stems == {kohya_name(name, family) for name in merged}
