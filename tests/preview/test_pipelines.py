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
from loratools.adapter.files.file import read
from loratools.base.any_base import load_any_base
from loratools.base.model import LoadedBase
from loratools.base.patching.patch import Patcher
from loratools.base.pipelines.model import PipelineBase
from loratools.errors import BaseModelError, GridError, MemoryShortError, PromptError
from loratools.library.terms import TermReading
from loratools.measures.request import parse_measures
from loratools.ops.merging.terms import Term
from loratools.preview.block_effect import analyze_effect
from loratools.preview.plan.jobs import Stack
from loratools.preview.plan.plan import settings_on
from loratools.preview.render import pipeline_drawer
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import ModelRequest, SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.request.setting import CellSetting
from loratools.preview.run import render_grid
from loratools.preview.session import Session
from loratools.tune.dry_run.make import tune_dry_run
from loratools.tune.problem.request import TuneRequest
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


def test_a_pipeline_without_weights_is_the_same_but_for_the_numbers(
    folder: Path, base: LoadedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outlines(own: LoadedBase) -> list[tuple[str, str, torch.Size, torch.dtype]]:
        parts = own.components().items()
        return [(part, name, p.shape, p.dtype) for part, model in parts for name, p in model.named_parameters()]

    monkeypatch.setattr("diffusers.ModelMixin.from_pretrained", None)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    empty = load_any_base(folder, device="cpu", weights=False)
    assert outlines(empty) == outlines(base)
    assert all(own.is_meta for part in empty.components().values() for own in part.parameters())
    for name in ("family", "resolution", "defaults", "digest", "name", "source", "size_step", "call"):
        assert getattr(empty, name) == getattr(base, name), name


def test_a_dry_run_of_a_tune_knows_the_weights_of_a_pipeline_and_no_more(lora: Path, folder: Path) -> None:
    request = TuneRequest(("hands",), ("1girl", "2girls", "a hat"), parse_measures(["python=math:sqrt"]))
    empty = load_any_base(folder, device="cpu", weights=False)
    planned = tune_dry_run(empty, [Term(read(lora), 1.0, label="x")], request, folder.parent / "out", owner="test")
    weights = sum(own.nbytes for part in empty.components().values() for own in part.parameters())
    vae = sum(own.nbytes for own in empty.pipeline.vae.parameters())
    assert weights + vae < planned.memory.weights <= 2 * weights + vae
    assert planned.method == "pictures" and planned.memory.drawing is None and planned.time is None
    assert "and more for the pictures" in planned.text() and not (folder.parent / "out").exists()


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


@pytest.fixture(scope="module")
def z_image(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedBase, Path]:
    """A tiny Z-Image, and a LoRA of its two layers in ComfyUI's fused names."""
    base = load_any_base(save_pipeline("z-image", tmp_path_factory.mktemp("z") / "z-image"), device="cpu")
    g, tensors = torch.Generator().manual_seed(5), {}
    for layer in range(2):
        stem = f"diffusion_model.layers.{layer}.attention.qkv"
        tensors[f"{stem}.lora_A.weight"] = torch.randn(2, 32, generator=g) / 2
        tensors[f"{stem}.lora_B.weight"] = torch.randn(96, 2, generator=g) / 2
    path = tmp_path_factory.mktemp("loras") / "fused.safetensors"
    save_file(tensors, path)
    return base, path


def row(lora: Path, vector: str = "") -> GridRow:
    return GridRow.of_terms(TermReading().terms(f"{lora}:1{vector and ':' + vector}"), vector or "style")


@SEVERAL
def test_texts_are_encoded_once_and_equal_pictures_drawn_once(
    z_image: tuple[LoadedBase, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, lora = z_image
    assert isinstance(base, PipelineBase)
    read: list[int] = []
    handle = base.pipeline.text_encoder.register_forward_hook(lambda *_: read.append(1))
    asked = SamplingRequest(negative="hat", steps=1, cfg=2, size=SIZE)
    rows = [row(lora), row(lora, "layers.00=1,layers.01=1")]  # one sum by two names
    with handle:
        made = render_grid(base, rows, [0.5, 1.0], [PROMPT, "smile"], out=tmp_path / "a", seeds=[1, 2], sampling=asked)
    assert made.rendered == 4 + 8, "the base once, and the LoRA at two weights once"
    assert len(read) == 2 * 2, "each prompt with its negative one"
    again = render_grid(base, rows, [0.5, 1.0], [PROMPT, "smile"], out=tmp_path / "a", seeds=[1, 2], sampling=asked)
    assert (again.rendered, again.reused) == (0, 12)


@SEVERAL
def test_noise_is_the_seeds_in_any_dtype(z_image: tuple[LoadedBase, Path], tmp_path: Path) -> None:
    base, _ = z_image
    half = load_any_base(base.source, device="cpu", dtype="bf16")
    pictures = {}
    for name, own in (("full", base), ("half", half)):
        asked = SamplingRequest(steps=4, cfg=1, size=SIZE)
        grid = render_grid(own, [GridRow("base", {})], [], [PROMPT], out=tmp_path / name, seeds=[1, 2], sampling=asked)
        first, second = (np.asarray(Image.open(path), dtype=int) for path in grid.paths("base", 0.0))
        pictures[name] = first
        assert np.abs(first - second).mean() > 10
    assert np.abs(pictures["full"] - pictures["half"]).mean() < 4, "rounding, and not other noise"


@SEVERAL
def test_a_blocks_effect_is_measured(z_image: tuple[LoadedBase, Path], tmp_path: Path) -> None:
    base, lora = z_image
    asked = SamplingRequest(steps=1, cfg=1, size=SIZE)
    effect = analyze_effect(base, read(lora), [PROMPT], out=tmp_path, seeds=[1, 2], sampling=asked)
    assert list(effect.blocks) == ["layers.00", "layers.01"] and effect.whole.mean > 0
    assert effect.rendered == 2 * (1 + 1 + 2), "without the first block is the second alone"


@SEVERAL
def test_a_lora_of_a_text_encoder_is_read_by_it(tmp_path: Path) -> None:
    folder = save_pipeline("flux", tmp_path / "flux")
    base, g, tensors = load_any_base(folder, device="cpu"), torch.Generator().manual_seed(5), {}
    for part in ("q_proj", "v_proj"):
        stem = f"text_encoder.text_model.encoder.layers.0.self_attn.{part}"
        tensors[f"{stem}.lora_A.weight"] = torch.randn(2, 32, generator=g)
        tensors[f"{stem}.lora_B.weight"] = torch.randn(32, 2, generator=g)
    save_file(tensors, tmp_path / "words.safetensors")
    words = row(tmp_path / "words.safetensors")
    made = render_grid(base, [words], [1.0], [PROMPT], out=tmp_path / "g", seeds=[SEED], sampling=sampling("flux"))
    plain, changed = (np.asarray(Image.open(made.paths("style", weight)[0])) for weight in (0.0, 1.0))
    pipeline = pipeline_of(folder)
    assert np.array_equal(plain, by_diffusers("flux", pipeline))
    with Patcher(base).applied(read(tmp_path / "words.safetensors")):
        pipeline.text_encoder.load_state_dict(base.components()["text_encoder"].state_dict())
    assert np.array_equal(changed, by_diffusers("flux", pipeline)) and not np.array_equal(plain, changed)


@SEVERAL
def test_short_memory_is_saved_before_it_is_an_error(
    z_image: tuple[LoadedBase, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, lora = z_image
    assert isinstance(base, PipelineBase)
    before, said, left = weights_of(base), list[str](), [1]
    draw = pipeline_drawer.draw

    def short(*args: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("no memory")
        return draw(*args, **options)

    monkeypatch.setattr(pipeline_drawer, "draw", short)
    job = PictureJob(PROMPT, 1, settings_on(base, CellSetting(PROMPT, 1, steps=1, size=SIZE)))
    with PopulationRenderer(base, say=said.append) as renderer:
        assert len(list(renderer.draw([Stack(read(lora))], [job]))) == 1
        assert said == ["memory is short: pictures are decoded in tiles from now on"]
        left[0] = 9
        with pytest.raises(MemoryShortError, match="one picture does not fit the memory of cpu"):
            list(renderer.draw([Stack(read(lora))], [job]))
    after = weights_of(base)
    assert all(torch.equal(before[name], after[name]) for name in before)


@SEVERAL
def test_what_belongs_to_stable_diffusion_is_refused(z_image: tuple[LoadedBase, Path], tmp_path: Path) -> None:
    base, lora = z_image
    one = {"out": tmp_path, "sampling": SamplingRequest(steps=1, size=SIZE)}
    with pytest.raises(GridError, match="knows no `mixed`"):
        render_grid(base, [row(lora)], [1.0], ["a"], options=EngineOptions(mixed=True), **one)
    with pytest.raises(PromptError, match="weighs words as the WebUI does"):
        render_grid(base, [row(lora)], [1.0], ["(a:1.2)"], **one)
    with pytest.raises(PromptError, match="embeddings are for SD"):
        render_grid(base, [row(lora)], [1.0], ["a"], embeddings=tmp_path, **one)
    with pytest.raises(BaseModelError, match="another VAE can stand in SD"), Session() as session:
        session.load(base.source, ModelRequest(device="cpu", vae=Path(base.source) / "vae"))
    with pytest.raises(BaseModelError, match="draw with it, and nothing else"), Session() as session:
        session.load_unet(base.source, ModelRequest(device="cpu"))
    assert not list(tmp_path.iterdir()), "nothing is left of any of them"


@SEVERAL
def test_a_lora_of_another_family_is_named(z_image: tuple[LoadedBase, Path], tmp_path: Path) -> None:
    base, _ = z_image
    tensors = {}
    for part, shape in (("lora_A", (2, 64)), ("lora_B", (64, 2))):
        tensors[f"transformer.transformer_blocks.0.attn.to_q.{part}.weight"] = torch.ones(shape)
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(BaseModelError, match=r"lacks 1 of the adapter.s 1 modules .*another base family"):
        render_grid(base, [row(tmp_path / "other.safetensors")], [1.0], ["a"], out=tmp_path / "g")
