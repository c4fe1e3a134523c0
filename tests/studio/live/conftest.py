"""A tiny base and LoRAs on it, as wishes name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from loratools.adapter.files.save import write
from loratools.base.load import load_base
from loratools.studio.live.wish import PictureWish, Quality, SamplingWish, TermWish
from tests.base.patching.test_patch import random_deltas
from tests.tiny import save_tiny_base


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors are slower on several threads, and much slower where cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD1-shaped Diffusers folder; read only."""
    return save_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def loras(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two LoRAs of every module; read only."""
    base, out = load_base(folder, device="cpu"), tmp_path_factory.mktemp("loras")
    for name, seed in (("a", 1), ("b", 2)):
        write(random_deltas(base, seed=seed), out / f"{name}.safetensors", family="sd1")
    return out / "a.safetensors", out / "b.safetensors"


class Wishes:
    """Makes wishes on one base for one file, of which a vector or a strength moves."""

    def __init__(self, base: str, loras: tuple[Path, ...], **sampling: object) -> None:
        self.base, self.loras = base, loras
        self.sampling: dict[str, object] = {"prompt": "1girl, red hair", "steps": 8} | sampling

    def __call__(
        self,
        quality: Quality = "drag",
        vector: Mapping[str, float] | str | None = None,
        weight: float = 0.7,
        dtype: str = "fp16",
        **sampling: object,
    ) -> PictureWish:
        terms = tuple(TermWish(path, weight / (n + 1), vector) for n, path in enumerate(self.loras))
        own = SamplingWish(**{**self.sampling, **sampling})  # type: ignore[arg-type]
        return PictureWish(terms, self.base, own, quality, dtype)


@pytest.fixture(scope="session")
def wishes(folder: Path, loras: tuple[Path, Path]) -> Wishes:
    return Wishes(str(folder), loras)
