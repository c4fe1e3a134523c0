"""Bases of other families: a cell of a grid is the picture of diffusers' pipeline with the LoRA in its weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import loratools as lt
from loratools.base.any_base import load_any_base
from loratools.base.model import LoadedBase
from loratools.library.terms import TermReading
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import render_grid
from tests.tiny_pipelines import PIPELINES, save_pipeline

PROMPT, SEED, STEPS, SIZE = "red hair, smile", 7, 2, (16, 32)  # (height, width)
# how a person would call each pipeline for what the grid is asked for, with CFG 3 where it is taken
CALLS: Mapping[str, Mapping[str, Any]] = {
    "flux": {"guidance_scale": 3.0},
    "sd3": {"guidance_scale": 3.0, "negative_prompt": "hat"},
    "z-image": {"guidance_scale": 2.0, "negative_prompt": "hat"},  # positive + 2 * (positive - negative)
    "qwen-image": {"true_cfg_scale": 3.0, "negative_prompt": "hat"},
    "flux2": {"guidance_scale": 3.0},
    "wan": {"guidance_scale": 3.0, "negative_prompt": "hat", "num_frames": 5},
}
SEVERAL = pytest.mark.slow  # the whole table; one family stands in the plain suite
FAMILIES = [family if family == "z-image" else pytest.param(family, marks=SEVERAL) for family in PIPELINES]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(family, tmp_path_factory.mktemp("pipelines") / family)


@pytest.fixture(scope="module")
def base(folder: Path) -> LoadedBase:
    return load_any_base(folder, device="cpu")


@pytest.fixture(scope="module")
def lora(family: str, folder: Path, base: LoadedBase) -> Path:
    """A LoRA of rank 2 in PEFT's spelling over every linear layer of the transformer's blocks."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, module in base.components()["transformer"].named_modules():
        if isinstance(module, torch.nn.Linear) and any(part.isdigit() for part in name.split(".")):
            rows, columns = module.weight.shape
            tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(2, columns, generator=generator) / 4
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(rows, 2, generator=generator) / 4
    path = folder.parent / "style.safetensors"
    save_file(tensors, path)
    return path


def sampling(family: str) -> SamplingRequest:
    negative, frames = CALLS[family].get("negative_prompt"), CALLS[family].get("num_frames")
    return SamplingRequest(negative=negative, steps=STEPS, cfg=3.0, size=SIZE, frames=frames)


def by_diffusers(family: str, pipeline: Any) -> np.ndarray:
    """What a person gets of a pipeline."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt=PROMPT,
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=STEPS,
        generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="pil",
        **CALLS[family],
    )
    return np.asarray(made.frames[0][2] if family == "wan" else made.images[0])


def pipeline_of(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(folder, local_files_only=True)


def weights_of(base: LoadedBase) -> dict[str, torch.Tensor]:
    parts = base.components().items()
    return {f"{part}.{name}": own.detach().clone() for part, model in parts for name, own in model.named_parameters()}


@pytest.fixture(scope="module")
def cells(
    family: str, base: LoadedBase, lora: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[float, np.ndarray]]:
    """The grid's pictures by weight: 0 and 1 of the LoRA at three quarters. The base's weights are as before."""
    before = weights_of(base)
    row = GridRow.of_terms(TermReading().terms(f"{lora}:0.75"), "style")
    out = tmp_path_factory.mktemp("grids") / family
    result = render_grid(base, [row], [1.0], [PROMPT], out=out, seeds=[SEED], sampling=sampling(family))
    after = weights_of(base)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert result.rendered == 2
    yield {weight: np.asarray(Image.open(result.paths("style", weight)[0])) for weight in (0.0, 1.0)}


def test_the_base_is_what_diffusers_draws(family: str, folder: Path, cells: Mapping[float, np.ndarray]) -> None:
    assert np.array_equal(cells[0.0], by_diffusers(family, pipeline_of(folder)))


def test_a_cell_is_the_picture_of_the_merged_weights(
    family: str, folder: Path, lora: Path, cells: Mapping[float, np.ndarray], tmp_path: Path
) -> None:
    merged, weights = tmp_path / "merged", "transformer/diffusion_pytorch_model.safetensors"
    shutil.copytree(folder, merged)
    lt.merge(f"{lora}:0.75").write_into(folder / weights, tmp_path / "transformer.safetensors")
    shutil.copyfile(tmp_path / "transformer.safetensors", merged / weights)
    assert not np.array_equal(cells[1.0], cells[0.0])
    assert np.array_equal(cells[1.0], by_diffusers(family, pipeline_of(merged)))


def test_a_cell_is_near_what_diffusers_makes_of_the_file(
    family: str, folder: Path, lora: Path, cells: Mapping[float, np.ndarray]
) -> None:
    pipeline = pipeline_of(folder)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="style")
    pipeline.set_adapters("style", 0.75)
    apart = np.abs(cells[1.0].astype(int) - by_diffusers(family, pipeline).astype(int))
    assert apart.max() <= 1, "more than rounding"
