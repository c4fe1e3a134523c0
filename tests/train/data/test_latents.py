from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.errors import RecipeError
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Sample
from loratools.train.data.latents import LatentStore
from loratools.train.data.read import read_dataset


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny), device="cpu", dtype="fp32")


def _store(base: Base, config: TrainConfig) -> LatentStore:
    return LatentStore(base, read_dataset(config, (64, 64)), cache=config.cache_latents)


def _encodings(store: LatentStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    encode = store.encoded
    monkeypatch.setattr(store, "encoded", lambda pixels: counts.append(len(pixels)) or encode(pixels))  # type: ignore[func-returns-value]
    return counts


def _changed(path: Path) -> None:
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(path)


def _other_vae(base: Base) -> None:
    with torch.no_grad():
        next(base.vae.parameters()).add_(0.01)


def test_disk_equals_memory_and_is_read_by_the_next_run(
    base: Base, config: Callable[..., TrainConfig], pictures: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, batch = pictures(), [Sample(0, "", False), Sample(3, "", True)]
    memory = _store(base, config(folder, flip=True))
    memory.fill()
    first = _store(base, config(folder, flip=True, cache_latents="disk"))
    first.fill()
    second = _store(base, config(folder, flip=True, cache_latents="disk"))
    counts = _encodings(second, monkeypatch)
    second.fill()
    assert counts == [] and torch.equal(second.moments(batch).mean, memory.moments(batch).mean)
    assert torch.equal(second.moments(batch).deviation, memory.moments(batch).deviation)


@pytest.mark.parametrize(
    ("change", "again"),
    [("image", 1), ("vae", 4), ("bucket", 4), ("interpolation", 4), ("truncated", 1), ("bit", 1), ("foreign", 1)],
)
def test_what_was_made_from_something_else_is_made_again(
    tiny: Path,
    config: Callable[..., TrainConfig],
    pictures: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: str,
    again: int,
) -> None:
    base, folder = load_base(str(tiny), device="cpu", dtype="fp32"), pictures()
    settings: dict[str, Any] = {"cache_latents": "disk", "cache_dir": str(tmp_path / "cache")}
    _store(base, config(folder, **settings)).fill()
    entries = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(entries) == 4
    data = bytearray(entries[0].read_bytes())
    if change == "image":
        _changed(folder / "00.png")
    elif change == "vae":
        _other_vae(base)
    elif change == "bucket":
        settings["resolution"] = 128
    elif change == "interpolation":
        settings["resize_interpolation"] = "nearest"
    elif change == "truncated":
        entries[0].write_bytes(data[:-9])
    elif change == "bit":
        data[-5] ^= 4
        entries[0].write_bytes(data)
    else:
        entries[0].write_bytes(entries[1].read_bytes())
    store = _store(base, config(folder, **settings))
    counts = _encodings(store, monkeypatch)
    store.fill()
    assert sum(counts) == again


def test_an_entry_that_goes_while_training_is_made_again(
    base: Base, config: Callable[..., TrainConfig], pictures: Callable[..., Path], tmp_path: Path
) -> None:
    store = _store(base, config(pictures(), cache_latents="disk", cache_dir=str(tmp_path / "cache")))
    store.fill()
    before = store.moments([Sample(1, "", False)]).mean
    for entry in (tmp_path / "cache").rglob("*.safetensors"):
        entry.unlink()
    again = store.moments([Sample(1, "", False)]).mean
    assert torch.allclose(again, before, atol=1e-5)  # alone now, in a batch of four before


def test_random_crops_and_colours_differ_by_use_and_are_functions_of_it(
    config: Callable[..., TrainConfig], pictures: Callable[..., Path]
) -> None:
    settings = config(
        pictures(count=1, size=(192, 64)),
        random_crop=True,
        color_aug=True,
        cache_latents=False,
        buckets=False,
        repeats=12,
    )
    data = read_dataset(settings, (64, 64))
    samples = [sample for batch in data.epoch(1, 1, 4) for sample in batch]
    pixels = [data.image(sample).tobytes() for sample in samples]
    assert len(set(pixels)) > 8 and pixels == [data.image(sample).tobytes() for sample in samples]
    lefts = {data.time_ids(sample)[3] for sample in samples}
    assert len(lefts) > 6 and all(0 <= left <= 128 for left in lefts)
    with pytest.raises(RecipeError, match=r"random_crop changes an image at every use.*cache_latents: false"):
        config(pictures("b"), random_crop=True)
