"""Every way of running the UNet on CUDA shows the same pictures: fused, compiled, graphs, rows of their own and shared.

Run where there is a GPU; compiling is real, so they take a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.parity.paths import PATHS, EnginePath
from benchmarks.parity.pictures import Subject, compare, full_precision
from loratools.base.compiled.blocks import CompiledUNet
from loratools.base.compiled.store import CompiledStore
from loratools.base.fused.group_norm import triton_works
from loratools.base.fused.modules import FusedModules
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora
from loratools.base.patching.summands import RowAdapters
from loratools.base.sampling.cuda_graph import UNetGraphs
from loratools.base.sampling.sample import decode, plain_unet
from loratools.preview.plan.jobs import Stack
from loratools.preview.render.drawer import render_jobs
from loratools.preview.render.engine import Engine
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.request.options import EngineOptions
from tests.base.patching.test_batched_lora import adapter, inputs, patched, summed
from tests.base.tiny_xl import save_tiny_xl
from tests.preview.render.test_engine import jobs, pixels

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def pair(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Base, Base]:
    """The same base in fp16 on CUDA, and in fp32 on the CPU."""
    path = folder if request.param == "sd1" else save_tiny_xl(tmp_path_factory.mktemp("xl") / "tiny")
    return load_base(path, device="cuda", dtype="fp16"), load_base(path, device="cpu")


def on_cuda(given: tuple) -> tuple:  # type: ignore[type-arg]
    x, time, hidden, added = given
    moved = None if added is None else {name: value.cuda().half() for name, value in added.items()}
    return x.cuda().half(), time.cuda(), hidden.cuda().half(), moved


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.double().cpu(), other.double().cpu()
    return float((one - other).norm() / other.norm())


def test_triton_works_here() -> None:
    assert triton_works(torch.device("cuda"))


@torch.no_grad()
def test_fused_forwards_are_as_near_to_fp32_as_torchs(pair: tuple[Base, Base]) -> None:
    half, full = pair
    given = inputs(full, 3)
    expected = plain_unet(full)(*given)
    plain = far(plain_unet(half)(*on_cuda(given)), expected)
    with FusedModules([half.unet]).applied():
        fused = far(plain_unet(half)(*on_cuda(given)), expected)
    assert fused <= max(1.5 * plain, 2e-3)
    latents = torch.randn(2, 4, 8, 8)
    with FusedModules([half.vae.decoder]).applied():
        assert float((decode(half, latents.cuda()).cpu().float() - decode(full, latents)).abs().max()) < 0.02


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
def test_branches_fused_compiled_and_captured(pair: tuple[Base, Base], tmp_path: Path, shared: bool) -> None:
    half, full = pair
    stacks = [summed((str(n), adapter(full, n), 0.5)) for n in range(3)]
    lora, said = BatchedLora(half, shared=shared), list[str]()
    lora.register([stacks[:2], stacks[1:]])
    lora.reserve(2)
    runs = {"plain": plain_unet(half), "compiled": CompiledUNet(half, CompiledStore(tmp_path), said.append)}
    graphs = {name: UNetGraphs(run) for name, run in runs.items()}
    given = inputs(full, 2)
    with FusedModules([half.unet]).applied():
        for first in (0, 1):
            pictures = [RowAdapters(stacks[first]), RowAdapters(stacks[first + 1], -0.5)]
            expected = patched(full, pictures)
            lora.fill(pictures, [0, 1])
            with lora.attached():
                for run in (*runs.values(), *graphs.values()):
                    assert far(run(*on_cuda(given)), expected) < 5e-3
    assert far(plain_unet(full)(*given), expected) > 0.02  # the control
    assert len(said) == 2 and "failed" not in said[1]
    again = CompiledUNet(half, CompiledStore(tmp_path), said.append)
    with FusedModules([half.unet]).applied(), lora.attached():  # branches hang on the fused forwards
        assert far(again(*on_cuda(given)), expected) < 5e-3
    assert len(said) == 2  # read, not compiled


def test_an_engine_makes_the_same_pictures_on_every_path(
    pair: tuple[Base, Base], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORATOOLS_CACHE", str(tmp_path / "cache"))
    half, full = pair
    stacks = [Stack(), *(Stack(adapter(full, n), weight, f"{n}") for n in (1, 2) for weight in (1.0, 0.5, -0.5))]
    made = {}
    for name, base, options in (
        ("cpu", full, EngineOptions()),
        ("patched", half, EngineOptions(mixed=False, fused=False, compiled=False)),
        ("mixed", half, EngineOptions(compiled=False)),
        ("compiled", half, EngineOptions(compiled=True)),
        ("small", half, EngineOptions(batch=2, compiled=False)),
        ("offload", half, EngineOptions(offload=True, sliced=True, tiled=True)),
    ):
        own = jobs(tmp_path / name, stacks, steps=8, sampler="Euler a")
        with Engine(base, options) as engine:
            assert render_jobs(engine, own, PictureStore(tmp_path / name)) == len(own)
        made[name] = np.stack([pixels(job.file) for job in own])
    for name, shown in made.items():
        assert np.abs(shown - made["cpu"]).mean() < 1.5, name
    assert np.abs(made["cpu"][0] - made["cpu"][2]).mean() > 3  # the control: a stack changes its picture


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled blocks are kept from one test to the next, and nowhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORATOOLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("path", PATHS[1:], ids=lambda path: path.name)
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_every_path_draws_the_merged_file_and_diffusers_picture(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, path: EnginePath, family: str, dtype: str
) -> None:
    """In float32 to the last level; in half precision as far as half precision itself moves a picture."""
    place = folder if family == "sd1" else save_tiny_xl(tmp_path_factory.mktemp("xl") / "tiny")
    size = (512, 512) if path.capped else None  # where one picture more or less is felt
    subject = Subject(family, place, dtype, size, (PATHS[0], path))
    with full_precision():
        rows = list(compare(subject, "cuda", tmp_path / "work"))
    assert all(row.agrees for row in rows), [row.text() for row in rows]
    assert not path.capped or "are made at once in place of" in rows[-1].note or "memory is short" in rows[-1].note
