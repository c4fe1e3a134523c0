"""Bases of other families on a GPU: patched there, offloaded, and beside quantised layers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from loratools.base.any_base import load_any_base
from loratools.library.terms import TermReading
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import render_grid
from tests.tiny_pipelines import save_pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
SIZE = (16, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline("z-image", tmp_path_factory.mktemp("pipelines") / "z-image")


@pytest.fixture(scope="module")
def lora(folder: Path) -> Path:
    base, g, tensors = load_any_base(folder, device="cpu"), torch.Generator().manual_seed(3), {}
    for name, module in base.components()["transformer"].named_modules():
        if isinstance(module, torch.nn.Linear) and name.startswith("layers."):
            rows, columns = module.weight.shape
            tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(2, columns, generator=g) / 4
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(rows, 2, generator=g) / 4
    save_file(tensors, folder.parent / "style.safetensors")
    return folder.parent / "style.safetensors"


def drawn(folder: Path, lora: Path, out: Path, dtype: str, **options: Any) -> tuple[dict[float, np.ndarray], Any]:
    """The base's picture and the LoRA's, and the base, whose plain weights are as before."""
    base = load_any_base(folder, device="cuda", dtype=dtype)
    named = base.components()["transformer"].named_parameters
    before = {name: own.detach().clone() for name, own in named() if own.is_floating_point()}
    row = GridRow.of_terms(TermReading().terms(str(lora)), "style")
    asked = SamplingRequest(negative="hat", steps=2, cfg=3, size=SIZE)
    engine = EngineOptions(**options)
    made = render_grid(base, [row], [1.0], ["smile"], out=out, seeds=[7], sampling=asked, options=engine)
    after = dict(named())
    assert all(torch.equal(own.cpu(), after[name].cpu()) for name, own in before.items())
    pictures = {weight: np.asarray(Image.open(made.paths("style", weight)[0]), int) for weight in (0.0, 1.0)}
    return pictures, base.pipeline  # type: ignore[attr-defined]


def by_diffusers(pipeline: Any) -> np.ndarray:
    generator = torch.Generator("cpu").manual_seed(7)
    size = {"height": SIZE[0], "width": SIZE[1], "num_inference_steps": 2}
    made = pipeline(prompt="smile", negative_prompt="hat", guidance_scale=2.0, generator=generator, **size)
    return np.asarray(made.images[0], int)


def test_fp32_is_near_what_diffusers_makes_of_the_file(folder: Path, lora: Path, tmp_path: Path) -> None:
    cells, pipeline = drawn(folder, lora, tmp_path, "fp32")
    assert np.abs(cells[0.0] - by_diffusers(pipeline)).max() == 0
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    assert np.abs(cells[1.0] - by_diffusers(pipeline)).max() <= 2
    assert np.abs(cells[1.0] - cells[0.0]).mean() > 5


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_offloaded_weights_are_patched_in_main_memory(folder: Path, lora: Path, tmp_path: Path, dtype: str) -> None:
    cells, _ = drawn(folder, lora, tmp_path / "plain", dtype)
    parked, pipeline = drawn(folder, lora, tmp_path / "offload", dtype, offload=True)
    assert next(pipeline.transformer.parameters()).device.type == "cpu"
    assert np.array_equal(cells[0.0], parked[0.0])
    assert np.abs(cells[1.0] - parked[1.0]).max() <= (2 if dtype == "fp32" else 40)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
@pytest.mark.parametrize("bits", [4, 8])
def test_beside_bitsandbytes(folder: Path, lora: Path, tmp_path: Path, bits: int) -> None:
    import shutil

    from diffusers import BitsAndBytesConfig, ZImageTransformer2DModel

    shutil.copytree(folder, tmp_path / "small")
    config = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    part = folder / "transformer"
    small = ZImageTransformer2DModel.from_pretrained(part, quantization_config=config, torch_dtype=torch.bfloat16)
    small.save_pretrained(tmp_path / "small/transformer")
    cells, pipeline = drawn(tmp_path / "small", lora, tmp_path / "grid", "bf16")
    assert np.array_equal(cells[0.0], by_diffusers(pipeline))
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    assert np.abs(cells[1.0] - by_diffusers(pipeline)).mean() < 4, "bf16's rounding"
    assert np.abs(cells[1.0] - cells[0.0]).mean() > 5
