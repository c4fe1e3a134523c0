from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratools.errors import DatasetError
from loratools.train.config import TrainConfig
from loratools.train.dataset import open_image
from loratools.train.read_config import make_config
from loratools.train.read_dataset import read_dataset


def _config(images: Any, **settings: Any) -> TrainConfig:
    return make_config({"base": "x", "images": images, **settings}, "test")


def test_every_image_is_seen_exactly_repeats_times_an_epoch(pictures: Callable[..., Path]) -> None:
    root = pictures("root/3_a", 5).parent
    pictures("root/2_b", 4, (128, 64))
    data = read_dataset(_config(str(root)), (64, 64))
    for epoch in (1, 2):
        batches = data.epoch(epoch, 7, 4)
        seen = Counter(sample.item for batch in batches for sample in batch)
        assert [seen[i] for i in range(9)] == [2] * 4 + [3] * 5  # folders by name: 2_b, then 3_a
        assert len(batches) == data.batches_per_epoch(4)
        for batch in batches:
            assert len({data.items[sample.item].bucket for sample in batch}) == 1


def test_order_and_captions_are_functions_of_seed_and_epoch(pictures: Callable[..., Path]) -> None:
    images = str(pictures(count=8))
    data = read_dataset(_config(images, flip=True), (64, 64))
    assert data.epoch(1, 7, 2) == read_dataset(_config(images, flip=True), (64, 64)).epoch(1, 7, 2)
    assert data.epoch(1, 7, 2) != data.epoch(2, 7, 2) and data.epoch(1, 7, 2) != data.epoch(1, 8, 2)
    assert {sample.flipped for batch in data.epoch(1, 7, 2) for sample in batch} == {True, False}


def test_each_repeat_has_its_own_shuffle(pictures: Callable[..., Path]) -> None:
    data = read_dataset(_config(str(pictures(count=1)), repeats=12), (64, 64))
    assert len({sample.caption for batch in data.epoch(1, 1, 4) for sample in batch}) > 6


def test_caption_files(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=3)
    (folder / "00.txt").write_bytes("\ufeffa, b\nc,\n\n d\n".encode())
    (folder / "01.txt").unlink()
    (folder / "01.caption").write_text("from caption")
    (folder / "02.caption").write_text("not read")
    data = read_dataset(_config(str(folder)), (64, 64))
    assert [item.caption for item in data.items[:2]] == ["a, b, c, d", "from caption"]
    assert any("02.caption" in note and "02.txt" in note for note in data.notes)
    (folder / "00.caption").write_text("own")
    data = read_dataset(_config(str(folder), caption_extension="caption"), (64, 64))
    assert [item.caption for item in data.items] == ["own", "from caption", "not read"]


def test_missing_and_empty_captions_are_listed_with_the_remedy(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=14)
    for number in range(12):
        (folder / f"{number:02d}.txt").write_text(" \n") if number % 2 else (folder / f"{number:02d}.txt").unlink()
    with pytest.raises(DatasetError, match=r"^12 images have no caption.*00\.png.*09\.png and 2 more.*--allow-unc"):
        read_dataset(_config(str(folder)), (64, 64))
    data = read_dataset(_config(str(folder), allow_uncaptioned=True), (64, 64))
    assert data.items[0].caption == "" and data.items[13].caption.startswith("1girl")
    data = read_dataset(_config([{"folder": str(folder), "class_tokens": "cat"}]), (64, 64))
    assert data.items[0].caption == "cat"


def test_a_named_folder_without_any_caption_trains_its_name(pictures: Callable[..., Path]) -> None:
    folder = pictures("5_sks girl", 2, captions=False)
    data = read_dataset(_config(str(folder)), (64, 64))
    assert [item.caption for item in data.items] == ["sks girl"] * 2 and data.samples_per_epoch == 10
    assert any("sks girl" in note for note in data.notes)
    (folder / "00.txt").write_text("a")  # one caption: then the other is missing
    with pytest.raises(DatasetError, match=r"01\.png"):
        read_dataset(_config(str(folder)), (64, 64))


@pytest.mark.parametrize("what", ["missing", "empty", "nested"])
def test_folders_without_images(what: str, tmp_path: Path, pictures: Callable[..., Path]) -> None:
    folder = tmp_path / "root"
    if what != "missing":
        folder.mkdir()
    if what == "nested":
        pictures("root/style", 1)
    expected = {"missing": "no folder", "empty": "holds no images", "nested": "rename it to 1_style"}[what]
    with pytest.raises(DatasetError, match=expected):
        read_dataset(_config(str(folder)), (64, 64))


@pytest.mark.parametrize("data", [b"", b"not an image", None])
def test_an_unreadable_image_is_named(data: bytes | None, pictures: Callable[..., Path]) -> None:
    folder = pictures(count=2)
    path = folder / "01.png"
    path.write_bytes(path.read_bytes()[:60] if data is None else data)
    with pytest.raises(DatasetError, match=r"01\.png cannot be read"):
        for item in read_dataset(_config(str(folder)), (64, 64)).items:
            open_image(item)


def test_a_caption_that_is_not_utf8_is_named(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=1)
    (folder / "00.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"00\.txt is not UTF-8"):
        read_dataset(_config(str(folder)), (64, 64))


def test_transparency_becomes_white_and_rotation_is_applied(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=1)
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(folder / "00.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (128, 64)).save(folder / "01.jpg", exif=turned)
    (folder / "01.txt").write_text("a")
    items = read_dataset(_config(str(folder)), (128, 128)).items
    assert open_image(items[0]).getpixel((5, 5)) == (255, 255, 255)
    assert items[1].size == (64, 128)


def test_the_digest_is_of_content_not_of_place(pictures: Callable[..., Path]) -> None:
    one, two = pictures("one", 3), pictures("two", 3)
    first = read_dataset(_config(str(one)), (64, 64)).digest
    assert first == read_dataset(_config(str(two)), (64, 64)).digest
    (two / "00.txt").write_text("changed")
    assert first != read_dataset(_config(str(two)), (64, 64)).digest


@pytest.mark.parametrize("lines", [False, True])
def test_captions_from_a_metadata_file(pictures: Callable[..., Path], tmp_path: Path, lines: bool) -> None:
    folder = pictures(count=2, captions=False)
    file = tmp_path / ("m.jsonl" if lines else "m.json")
    if lines:
        file.write_text('{"image_path": "/else/00.png", "tags": "a, b"}\n{"image_path": "01.png", "caption": "c"}\n')
    else:
        file.write_text('{"/else/00": {"tags": ["a", " b"]}, "01.png": {"caption": "c", "image_size": [64, 64]}}')
    data = read_dataset(_config([{"folder": str(folder), "metadata_file": str(file)}]), (64, 64))
    assert [item.caption for item in data.items] == ["a, b", "c"]
    file.write_text("{")
    with pytest.raises(DatasetError, match=r"m\.json.* not JSON"):
        read_dataset(_config([{"folder": str(folder), "metadata_file": str(file)}]), (64, 64))
