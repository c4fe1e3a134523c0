"""Preview equals merge, and diffusers' picture of the merged file, on every path of the engine, for both families.

Quick where blocks are "compiled" by a stand-in that runs their traced graph; torch's own compiler runs in the slow one,
and in :mod:`benchmarks.parity.pictures`, whose code this is. On CUDA: ``test_cuda_paths.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from benchmarks.parity import paths
from benchmarks.parity.paths import PATHS, PLAIN, EnginePath, Files, Pictures, diffusers_pictures, draw
from benchmarks.parity.pictures import far
from benchmarks.previews.bench import random_lora
from loratools.base.fused.modules import FusedModules
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora
from tests.base.compiled.test_blocks import Fake
from tests.base.tiny_xl import save_tiny_xl

LAST_LEVEL, MEAN = 1, 0.05  # of 255
ON_CPU = [path for path in PATHS if path.name not in ("one graph", "offload, sliced")]  # these are patching there


@dataclass
class Drawn:
    """A tiny base, the files that are drawn on it, what diffusers draws, and what patching draws."""

    base: Base
    files: Files
    theirs: Pictures
    plain: Pictures

    def draw(self, path: EnginePath, said: list[str] | None = None) -> Pictures:
        return draw(self.base, path, self.files, self.base.resolution, [] if said is None else said)


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def drawn(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drawn]:
    work = tmp_path_factory.mktemp("paths")
    place = folder if request.param == "sd1" else save_tiny_xl(work / "tiny")
    base = load_base(place, device="cpu")
    files = Files.of(base, [random_lora(base, work / f"{n}.safetensors", 4, n, 1.0) for n in (1, 2)], work)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "STEPS", 3)
        theirs = diffusers_pictures(place, base, files, base.resolution)
        yield Drawn(base, files, theirs, draw(base, PLAIN, files, base.resolution, []))


def check(drawn: Drawn, made: Pictures) -> None:
    """The live sum is its file on this path, patching's picture and diffusers' of the file, and changes the base's."""
    alone, live, file = made[:1], made[1::2], made[2::2]
    for one, other in (
        (live, file),
        (made, drawn.plain),
        (np.concatenate([alone, live]), drawn.theirs),
    ):
        mean, most = far(one, other)
        assert mean < MEAN and most <= LAST_LEVEL
    assert far(live[:1], alone)[0] > 1 < far(live[:1], live[1:])[0]  # the controls: the sum, and its weight


@pytest.mark.parametrize("path", ON_CPU, ids=lambda path: path.name)
def test_every_path_draws_the_merged_file(drawn: Drawn, path: EnginePath, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, filled, fused = Fake(monkeypatch), list[bool](), list[FusedModules]()
    fill, applied = BatchedLora.fill, FusedModules.applied
    monkeypatch.setattr(BatchedLora, "fill", lambda own, *given: (filled.append(own.shared), fill(own, *given))[1])
    monkeypatch.setattr(FusedModules, "applied", lambda own: (fused.append(own), applied(own))[1])
    said: list[str] = []
    check(drawn, drawn.draw(path, said))
    assert bool(filled) == bool(path.options.mixed) and path.shared in (None, *filled)
    assert bool(fused) == bool(path.options.fused)
    assert bool(fake.made) == bool(path.options.compiled)
    assert any(text.startswith("memory is short") for text in said) == path.capped


@pytest.mark.slow
def test_torchs_compiler_draws_the_merged_file(drawn: Drawn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORATOOLS_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))  # not what a killed run left half written
    for path in (own for own in PATHS if own.options.compiled):
        said: list[str] = []
        check(drawn, drawn.draw(path, said))
        assert any(text.startswith("compiled ") for text in said) and not any("failed" in text for text in said)


@pytest.mark.slow
def test_half_precision_beside_a_decoder_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDXL's VAE stays in float32, in diffusers' picture too; that is as far from ours as half precision moves it."""
    monkeypatch.setattr(paths, "STEPS", 2)
    place = save_tiny_xl(tmp_path / "tiny")
    base = load_base(place, device="cpu", dtype="fp16")
    assert base.vae.dtype != base.dtype
    files = Files.of(base, [random_lora(base, tmp_path / f"{n}.safetensors", 4, n, 1.0) for n in (1, 2)], tmp_path)
    made = draw(base, PLAIN, files, base.resolution, [])
    theirs = diffusers_pictures(place, base, files, base.resolution)
    assert far(np.concatenate([made[:1], made[1::2]]), theirs)[0] < 1.5 < far(made[1], made[0])[0]
