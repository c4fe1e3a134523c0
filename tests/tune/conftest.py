"""A tiny base, a run that was trained on it, and a run of another trainer's; made once, and copied by each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import save_tiny_base


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors are slower on several threads, and much slower where cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="session")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images`` and ``runs/ink``: three epochs, two of four pictures held out."""
    from loratools.train.config.read import make_config
    from loratools.train.trainer import train

    place = tmp_path_factory.mktemp("trained")
    images = place / "images"
    images.mkdir()
    rng = np.random.default_rng(5)
    for number in range(4):
        values = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(values).resize((64, 64), Image.Resampling.NEAREST).save(images / f"{number:02d}.png")
        (images / f"{number:02d}.txt").write_text(f"1girl, red hair, smile, tag{number} (x)\n", encoding="utf-8")
    settings = {
        "base": str(tiny),
        "images": str(images),
        "out": str(place / "runs/ink"),
        "name": "ink",
        "epochs": 3,
        "batch_size": 2,
        "dim": 2,
        "learning_rate": 2e-2,
        "validation_split": 0.5,
        "device": "cpu",
    }
    train(make_config(settings, "test"), progress=False)
    return place


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run's folder."""
    return Path(shutil.copytree(trained / "runs/ink", tmp_path / "ink"))


@pytest.fixture
def foreign(run: Path, tmp_path: Path) -> Path:
    """The same files as another trainer would leave them: no provenance, no log, the last one without a number."""
    from loratools.adapter.files.file import read
    from loratools.adapter.header import read_header

    folder = tmp_path / "foreign"
    folder.mkdir()
    for number, name in ((1, "f-000001"), (2, "f-000002"), (3, "f")):
        source = run / f"ink-{number:06d}.safetensors"
        _without_provenance(source, folder / f"{name}.safetensors", read_header(source).data_start)
        assert len(read(folder / f"{name}.safetensors")) > 0
    return folder


def _without_provenance(source: Path, target: Path, start: int) -> None:
    from loratools.adapter.header import encode_header, read_header

    header = read_header(source)
    metadata = {key: text for key, text in header.metadata.items() if key.startswith("ss_")}
    target.write_bytes(encode_header(metadata, header.tensors) + source.read_bytes()[start:])
