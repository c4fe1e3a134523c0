from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratools.dataset.images import open_image
from loratools.errors import DatasetError
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config, read_config
from loratools.train.data.read import read_dataset
from loratools.train.trainer import train


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
    assert [note for note in data.notes if "02.caption" in note and "the .txt of the same name" in note] == [
        *data.notes
    ]
    (folder / "00.caption").write_text("own")
    data = read_dataset(_config(str(folder), caption_extension="caption"), (64, 64))
    assert [item.caption for item in data.items] == ["own", "from caption", "not read"]


def test_missing_and_empty_captions_are_listed_with_the_remedy(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=14)
    for number in range(12):
        (folder / f"{number:02d}.txt").write_text(" \n") if number % 2 else (folder / f"{number:02d}.txt").unlink()
    with pytest.raises(DatasetError, match=r"^12 images have no caption.*00\.png.*09\.png and 2 more.*`allow_unc"):
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


def test_captions_that_are_not_read_are_told_in_one_note_each_and_never_replaced_by_a_name(
    pictures: Callable[..., Path], tmp_path: Path
) -> None:
    folder = pictures("10_ink", 12)
    expected = (
        r"12 images have no .*12 of them have a \.txt, such as 00\.txt, which is not read, since 00\.caption "
        r"is expected; set caption_extension to \.txt"
    )
    with pytest.raises(DatasetError, match=expected):
        read_dataset(_config(str(folder), caption_extension=".caption"), (64, 64))
    known = [{"folder": str(folder), "class_tokens": "cat"}]
    (note,) = read_dataset(_config(known, caption_extension=".caption"), (64, 64)).notes
    assert note == (
        f"not read: 12 .txt in {folder} (00.txt and so on), since captions are expected in .caption; set "
        "caption_extension to .txt to read them"
    )
    listed = tmp_path / "m.json"
    listed.write_text('{"00.png": {"tags": "a"}, "01.png": {"tags": "b"}}')
    data = read_dataset(_config([{"folder": str(folder), "metadata_file": str(listed)}]), (64, 64))
    assert [item.caption[:5] for item in data.items[:3]] == ["a", "b", "1girl"]
    (note,) = data.notes
    assert note == (
        f"not read: 2 .txt in {folder} (00.txt and so on), since {listed} has these images' captions; "
        "leave metadata_file out to read them"
    )


@pytest.mark.parametrize("toml", [False, True])
def test_images_are_found_by_the_paths_of_a_metadata_file(
    pictures: Callable[..., Path], tmp_path: Path, toml: bool
) -> None:
    one, two = pictures("one", 2), pictures("two", 2, captions=False)
    file = tmp_path / "3_m.json"
    file.write_text(json.dumps({str(one / "01.png"): {"tags": "a"}, "two/01": {"caption": "b"}, "one/00.png": {}}))
    if toml:
        (tmp_path / "d.toml").write_text(
            f'[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nmetadata_file = "{file.name}"\nnum_repeats = 2\n'
        )
        settings = read_config(tmp_path / "d.toml", {"base": "x"})[0]
    else:
        settings = _config([{"metadata_file": str(file), "repeats": 2}])
    assert settings.name == "3_m"
    data = read_dataset(settings, (64, 64))
    assert [(item.path, item.caption[:5]) for item in data.items] == [
        (one / "00.png", "1girl"),
        (one / "01.png", "a"),
        (two / "01.png", "b"),
    ]
    assert data.samples_per_epoch == 6 and len(data.notes) == 1 and "not read: 1 .txt" in data.notes[0]
    file.write_text("{}")
    with pytest.raises(DatasetError, match=r"3_m\.json lists no images"):
        read_dataset(settings, (64, 64))
    file.write_text('{"two/01.png": {"tags": "a"}, "gone.png": {"tags": "b"}}')
    with pytest.raises(DatasetError, match=r"1 images that .*3_m\.json lists are not there: gone\.png; take them out"):
        read_dataset(settings, (64, 64))


def test_a_run_tells_its_notes(config: Callable[..., TrainConfig], pictures: Callable[..., Path]) -> None:
    folder, notes = pictures(count=1), list[str]()
    (folder / "00.caption").write_text("unread")
    train(config(folder, epochs=1), progress=False, on_note=notes.append)
    assert len(notes) == 1 and notes[0].startswith("not read: 1 .caption in")


def test_the_error_of_missing_captions_names_the_extension_that_is_expected(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=2, captions=False)
    for config in (
        _config(str(folder), caption_extension="tags"),
        _config([{"folder": str(folder), "caption_extension": "tags"}]),
    ):
        with pytest.raises(DatasetError, match=r"write their tags into 00\.tags and so on, or name another caption_e"):
            read_dataset(config, (64, 64))
    (folder / "00.txt").write_text("")
    (folder / "00.caption").write_text("full")
    with pytest.raises(DatasetError, match=r"2 images.*1 of them have a \.caption, .*since 00\.txt is expected"):
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
            open_image(item.path)


def test_a_caption_that_is_not_utf8_is_named(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=1)
    (folder / "00.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"00\.txt is not utf-16"):
        read_dataset(_config(str(folder)), (64, 64))


def test_transparency_becomes_white_and_rotation_is_applied(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=1)
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(folder / "00.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (128, 64)).save(folder / "01.jpg", exif=turned)
    (folder / "01.txt").write_text("a")
    items = read_dataset(_config(str(folder)), (128, 128)).items
    assert open_image(items[0].path).getpixel((5, 5)) == (255, 255, 255)
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
