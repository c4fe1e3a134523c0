"""A folder becomes a set: what came of each picture, what a second run leaves alone, and what a bad file stops."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from loratools.cli.app import LazyGroup
from loratools.dataset.detect.boxes import Box, Boxes
from loratools.dataset.detect.detectors import Detectors, open_detectors
from loratools.dataset.folder import FolderOptions
from loratools.dataset.prepare.manifest import read_manifest
from loratools.dataset.prepare.options import PrepareOptions
from loratools.dataset.prepare.run import prepare
from loratools.dataset.scan import scan
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.errors import DatasetError, FileError, OptionError
from loratools.pocket.draw import Figure, draw, random_figure
from tests.dataset.onnx_graphs import constant_yolo

SMALL = PrepareOptions(resolution=128)


def _figure(number: int, **fixed: str) -> Figure:
    return random_figure(random.Random(number), **fixed)


def _draw(path: Path, figure: Figure, number: int, size: int = 128) -> Image.Image:
    image = draw(figure, number, size).image
    image.save(path)
    path.with_suffix(".txt").write_text(", ".join(figure.tags()), encoding="utf-8")
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A close-up, a half figure, a copy of it, two variants, one transparent, one too long, one too small, a broken
    one, and a JPEG that was turned."""
    root = tmp_path / "downloads"
    root.mkdir()
    _draw(root / "face.png", _figure(1, framing="face_focus"), 1)
    half = _figure(2, framing="cowboy_shot", expression="smile")
    _draw(root / "half.png", half, 2).resize((256, 256)).save(root / "half copy.jpg")
    full = _figure(3, framing="full_body", expression="smile")
    _draw(root / "one.png", full, 3)
    _draw(root / "two.png", replace(full, expression="surprised"), 3)
    clear = _draw(root / "clear.png", _figure(4, framing="cowboy_shot"), 4).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(root / "clear.png")
    (root / "clear.txt").write_text("1girl, transparent_background, cowboy_shot, highres")
    Image.new("RGB", (400, 100), "teal").save(root / "long.png")
    Image.new("RGB", (20, 20), "teal").save(root / "tiny.png")
    (root / "phone.heic").write_bytes(b"x")
    (root / "broken.png").write_bytes((root / "face.png").read_bytes()[:500])
    turned = Image.Exif()
    turned[0x0112] = 6
    draw(_figure(5), 5, 128).image.resize((160, 128)).save(root / "turned.jpg", exif=turned)
    return root


def _files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_original_is_accounted_for_and_none_is_touched(folder: Path, tmp_path: Path) -> None:
    before, out = _files(folder), tmp_path / "set"
    report = prepare(folder, out, SMALL)
    assert _files(folder) == before
    manifest = read_manifest(out)
    assert manifest is not None and set(manifest.entries) == {name for name in before if not name.endswith(".txt")}
    outcomes = {file: entry.outcome for file, entry in manifest.entries.items() if entry.outcome != "used"}
    assert outcomes == {
        "half.png": "unused",  # its copy is larger
        "long.png": "unused",
        "tiny.png": "unused",
        "broken.png": "refused",
        "phone.heic": "refused",
    }
    assert report.classes() == {"face": 1, "main": 3, "full_variants": 2}
    made = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.suffix in (".png", ".jpg")}
    assert made == {
        *("1_face/face.png", "1_main/half copy.jpg", "1_main/clear.png", "1_main/turned.png"),
        *("1_full_variants/one.png", "1_full_variants/two.png"),
        *("unused/half.png", "unused/long.png", "unused/tiny.png"),
    }
    reasons = (out / "unused/reasons.txt").read_text()
    for words in (
        "half.png: the same picture as half copy.jpg",
        "beyond 3:1",
        "would be blown up 6.4 x",
        "broken.png:",
        "HEIC is not read",
    ):
        assert words in reasons


def test_pixels_and_tags_follow_one_another(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    prepare(folder, out, SMALL)
    clear = Image.open(out / "1_main/clear.png")
    assert clear.mode == "RGB" and clear.getpixel((3, 0)) == (255, 255, 255)
    assert (out / "1_main/clear.txt").read_text() == "1girl, white background, simple background, cowboy shot\n"
    assert Image.open(out / "1_main/turned.png").size == (128, 160)
    assert (out / "1_face/face.png").read_bytes() == (folder / "face.png").read_bytes()
    caption = (out / "1_main/half copy.txt").read_text()
    assert "cowboy shot" in caption, "a copy without tags takes those of the one that it stands for"
    pictures = {picture.file: picture for picture in DatasetFolder.open(out).pictures()}
    one, two = pictures["1_full_variants/one.png"], pictures["1_full_variants/two.png"]
    assert one.group == two.group != "" and one.framing_class == "full"
    assert pictures["1_main/clear.png"].set_aside[0].name == "highres"


def test_training_reads_what_was_prepared(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    prepare(folder, out, SMALL)
    found = scan([FolderOptions(path=out)], 0)
    assert len(found.items) == 6 and {item.path.parent.name for item in found.items} == {
        *("1_face", "1_main", "1_full_variants"),
    }


def test_a_second_run_works_on_what_is_new_and_keeps_what_a_person_did(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert prepare(folder, out, SMALL).done == 6
    (out / "1_face/face.txt").write_text("trigger, my own words")
    (out / "1_main/turned.png").unlink()
    (out / "1_main").rename(out / "5_main")
    before = _files(out)
    again = prepare(folder, out, SMALL)
    assert again.done == 0
    assert _files(out) == before
    _draw(folder / "new.png", _figure(7, framing="cowboy_shot"), 7)
    _draw(folder / "three.png", replace(_figure(3, framing="full_body"), expression="frown"), 3)
    more = prepare(folder, out, SMALL)
    assert more.done == 2
    assert (out / "5_main/new.png").is_file() and (out / "1_full_variants/three.png").is_file()
    assert (out / "1_face/face.txt").read_text() == "trigger, my own words"
    assert not (out / "1_main").exists() and not (out / "5_main/turned.png").exists()
    after = _files(out)
    changed = {name for name in before if before[name] != after[name]}
    assert {Path(name).name for name in changed} <= {"manifest.jsonl", "tags.jsonl", "facts.npz", "crops.npz"}


def test_a_variant_that_arrives_later_moves_the_first_to_it(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    (folder / "two.png").rename(tmp_path / "two.png")
    prepare(folder, out, SMALL)
    assert (out / "1_full/one.png").is_file()
    (tmp_path / "two.png").rename(folder / "two.png")
    prepare(folder, out, SMALL)
    assert {path.name for path in (out / "1_full_variants").iterdir()} == {"one.png", "one.txt", "two.png", "two.txt"}
    assert not (out / "1_full/one.png").exists()


def test_an_original_that_is_gone_takes_its_picture_out_but_not_away(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    prepare(folder, out, SMALL)
    (folder / "face.png").unlink()
    report = prepare(folder, out, SMALL)
    assert (out / "unused/face.png").is_file() and (out / "unused/face.txt").is_file()
    assert any("face.png was moved to unused" in note for note in report.notes)
    assert "1_face/face.png" not in DatasetFolder.open(out).recorded()


def test_other_settings_make_everything_anew_and_keep_edited_captions(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    prepare(folder, out, SMALL)
    (out / "1_face/face.txt").write_text("my own words")
    report = prepare(folder, out, replace(SMALL, resolution=160))
    assert report.done == 6 and Image.open(out / "1_face/face.png").size == (160, 160)
    assert (out / "1_face/face.txt").read_text().strip() == "my own words"


@pytest.mark.parametrize("done", [0, 1])
def test_a_run_that_is_killed_is_gone_on_with_and_loses_no_edit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    from loratools.dataset.prepare import run

    def killed(number: int, total: int) -> None:
        if number > total * 2 // 3 + done * (total // 3 // 6):  # of the third part, in which pieces are made
            raise KeyboardInterrupt

    out = tmp_path / "set"
    monkeypatch.setattr(run, "_CHUNK", 1)
    with pytest.raises(KeyboardInterrupt):
        prepare(folder, out, SMALL, on_progress=killed)
    assert prepare(folder, out, SMALL).classes() == {"face": 1, "main": 3, "full_variants": 2}
    captions = sorted(out.glob("1_*/*.txt"))
    for path in captions:
        path.write_text("my own words")
    with pytest.raises(KeyboardInterrupt):  # other settings make everything anew
        prepare(folder, out, replace(SMALL, resolution=160), on_progress=killed)
    (folder / "face.png").unlink()
    report = prepare(folder, out, replace(SMALL, resolution=160))
    assert report.classes() == {"main": 3, "full_variants": 2} and (out / "unused/face.png").is_file()
    assert {path.read_text().strip() for path in out.glob("1_*/*.txt")} == {"my own words"}
    assert prepare(folder, out, replace(SMALL, resolution=160)).done == 0
    assert "stale" not in (out / "manifest.jsonl").read_text()


class _Given(Detectors):
    def __init__(self, **boxes: Boxes) -> None:
        super().__init__((), {f"{name}.png": value for name, value in boxes.items()})


def _figure_boxes(size: int) -> Boxes:
    unit = size / 128
    return Boxes(
        head=(Box(40 * unit, 4 * unit, 60 * unit, 24 * unit),),
        person=(Box(30 * unit, 2 * unit, 72 * unit, 124 * unit),),
    )


def test_figures_are_cropped_into_their_classes_with_tags_of_their_own(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "set"
    root.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (512, 512, 3), dtype=np.uint8)).resize((1024, 1024)).save(root / "a.png")
    (root / "a.txt").write_text("1girl, full body, smile, shoes, skirt, blue hair")
    report = prepare(root, out, PrepareOptions(resolution=256), _Given(a=_figure_boxes(1024)))
    assert report.classes() == {"face": 1, "main": 1, "full": 1}
    captions = {path.stem: path.read_text().strip() for path in out.rglob("a*.txt")}
    assert captions == {
        "a": "1girl, full body, smile, shoes, skirt, blue hair",
        "a_main1": "1girl, upper body, smile, skirt, blue hair",
        "a_face1": "1girl, portrait, smile, blue hair",
    }
    manifest = read_manifest(out)
    assert manifest is not None
    crops = {piece.name: piece for piece in manifest.entries["a.png"].pieces}
    assert crops["a_face1.png"].crop == (280, 0, 520, 232)
    left, top, right, bottom = crops["a_main1.png"].crop or (0, 0, 0, 0)
    assert (right - left) / (bottom - top) == pytest.approx(2 / 3, abs=0.02)
    assert Image.open(out / "1_face/a_face1.png").size == (260, 252)  # enlarged to the pixels of 256 x 256


def test_crops_that_would_be_blown_up_are_refused_and_said(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "set"
    root.mkdir()
    _draw(root / "a.png", _figure(1, framing="full_body"), 1, 256)
    prepare(root, out, PrepareOptions(resolution=512), _Given(a=_figure_boxes(256)))
    reasons = (out / "unused/reasons.txt").read_text()
    assert "a face crop of 60x" in reasons and "would be blown up" in reasons
    assert not list(out.rglob("a_face1*"))


def test_crops_that_show_the_same_are_kept_once(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "set"
    root.mkdir()
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    one = Image.fromarray(pixels).resize((512, 512), Image.Resampling.BICUBIC)
    two = one.copy()
    two.paste(Image.fromarray(rng.integers(0, 255, (32, 64, 3), dtype=np.uint8)).resize((512, 256)), (0, 256))
    one.save(root / "a.png")
    two.save(root / "b.png")
    boxes = Boxes(head=(Box(200, 60, 280, 140),), person=(Box(150, 40, 330, 500),))
    report = prepare(root, out, PrepareOptions(resolution=128), _Given(a=boxes, b=boxes))
    assert report.left_out()["b_face1.png"] == "shows the same as a_face1.png"
    assert (out / "unused/b_face1.png").is_file() and (out / "1_face/a_face1.png").is_file()
    assert prepare(root, out, PrepareOptions(resolution=128), _Given(a=boxes, b=boxes)).done == 0
    assert (out / "1_face/a_face1.png").is_file() and not (out / "1_face/b_face1.png").exists()


def test_pictures_that_come_later_are_judged_by_the_figures_of_the_first_run(tmp_path: Path) -> None:
    """A figure of two and a half heads that touches the lower edge is whole in a folder of such figures."""
    root, out, options = tmp_path / "in", tmp_path / "set", PrepareOptions(resolution=64, crops=False)
    root.mkdir()
    inside = Boxes(head=(Box(40, 10, 80, 50),), person=(Box(20, 10, 100, 110),))
    cut = Boxes(head=(Box(40, 28, 80, 68),), person=(Box(20, 28, 100, 128),))
    rng, boxes = np.random.default_rng(2), dict[str, Boxes]()

    def add(name: str, at: Boxes) -> None:
        Image.fromarray(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(root / f"{name}.png")
        boxes[name] = at

    for number in range(5):
        add(f"inside{number}", inside)
    prepare(root, out, options, _Given(**boxes))
    add("cut", cut)
    assert prepare(root, out, options, _Given(**boxes)).done == 1
    assert (out / "1_full/cut.png").is_file()
    prepare(root, tmp_path / "alone", options, _Given(cut=cut))  # the same picture where nothing says how tall they are
    assert (tmp_path / "alone/1_main/cut.png").is_file()


def test_masks_are_written_for_all_and_training_reads_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    report = prepare(folder, out, SMALL, _Given(face=Boxes(text=(Box(10, 100, 60, 120),))))
    assert report.masked and "mask_folder" in report.text()
    found = scan([FolderOptions(path=out, mask_folder=out / "masks")], 0)
    assert all(item.mask is not None for item in found.items)
    mask = np.asarray(Image.open(out / "masks/face.png"))
    assert mask[110, 30] == 0 and mask[50, 50] == 255 and (mask == 0).sum() == 50 * 20
    assert np.asarray(Image.open(out / "masks/clear.png")).min() == 255


def test_a_full_disk_is_told_by_file_and_the_next_run_goes_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import loratools.dataset.prepare.make as make

    real = make._copy

    def fails(source: Path, path: Path) -> None:
        if path.name == "face.png":
            raise OSError(28, "No space left on device")
        real(source, path)

    monkeypatch.setattr(make, "_copy", fails)
    out = tmp_path / "set"
    report = prepare(folder, out, SMALL)
    assert report.done == 5 and len(report.problems) == 1
    assert "face.png cannot be written (No space left on device)" in report.problems[0]
    monkeypatch.undo()
    assert prepare(folder, out, SMALL).done == 1
    assert (out / "1_face/face.png").is_file()


def test_names_that_other_systems_cannot_have(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "set"
    names = ["🦊 fox", "a" * 240, "con", "what?", "sub/same", "same", "dot.", "dot._face1"]
    for number, name in enumerate(names):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _draw(path, _figure(number + 20), number + 20)
    report = prepare(root, out, SMALL)
    made = sorted(path.stem for path in out.rglob("*.png"))
    assert len(made) == len(names) == sum(report.classes().values())
    assert {"🦊 fox", "_con", "what_", "dot"} <= set(made)
    assert all(len(name.encode()) <= 180 and not set(name) & set('<>:"/\\|?*') for name in made)
    assert sum(name.startswith("same") for name in made) == 2


def test_what_is_not_ours_is_not_written_over(folder: Path, tmp_path: Path) -> None:
    for wrong in (folder, folder / "set", tmp_path):
        with pytest.raises(FileError, match="lie in one another"):
            prepare(folder, wrong, SMALL)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("x")
    with pytest.raises(FileError, match="was not prepared by this command"):
        prepare(folder, other, SMALL)
    prepare(folder, other, SMALL, force=True)
    assert (other / "mine.txt").read_text() == "x"
    (other / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(DatasetError, match=r"manifest\.jsonl, line 1"):
        prepare(folder, other, SMALL)
    with pytest.raises(OptionError, match="below 64"):
        PrepareOptions(resolution=8)


def test_the_command(folder: Path, tmp_path: Path) -> None:
    arguments = ["dataset", "prepare", str(folder), "-o", str(tmp_path / "set"), "--resolution", "128", "--json"]
    result = CliRunner().invoke(LazyGroup("loratools"), arguments)
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["classes"] == {"face": 1, "main": 3, "full_variants": 2} and value["done"] == 6
    refused = CliRunner().invoke(LazyGroup("loratools"), [*arguments[:4], str(folder), *arguments[5:]])
    assert refused.exit_code == 1 and "lie in one another" in str(refused.exception) + refused.output


def test_a_picture_of_a_named_class_folder_stays_in_its_class(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "set"
    (root / "10_face").mkdir(parents=True)
    _draw(root / "10_face/a.png", _figure(3, framing="full_body"), 3)
    prepare(root, out, SMALL)
    assert (out / "1_face/a.png").is_file()
    assert Picture("10_face/a.png").framing_class == "face"


def _one(root: Path, caption: str = "1girl, smile, cowboy shot", ending: str = ".png") -> Path:
    """A folder of one original."""
    path = root / f"a{ending}"
    root.mkdir(parents=True)
    draw(_figure(1, framing="cowboy_shot"), 1, 128).image.save(path)
    path.with_suffix(".txt").write_text(caption)
    return path


def _made(out: Path) -> dict[str, str]:
    return {picture.file: picture.caption() for picture in DatasetFolder.open(out).pictures()}


TEXT = Detectors((), {name: Boxes(text=(Box(50, 50, 90, 70),)) for name in ("a.png", "a.jpg")})


def test_a_mask_goes_with_the_text_that_is_not_masked_any_more(tmp_path: Path) -> None:
    _one(tmp_path / "raw")
    assert prepare(tmp_path / "raw", tmp_path / "set", SMALL, TEXT).masked
    assert not prepare(tmp_path / "raw", tmp_path / "set", replace(SMALL, text="keep"), TEXT).masked
    assert not list((tmp_path / "set" / "masks").iterdir())


def test_a_piece_that_becomes_another_kind_of_file_keeps_its_caption_and_its_mask(tmp_path: Path) -> None:
    _one(tmp_path / "raw", ending=".jpg")
    out = tmp_path / "set"
    prepare(tmp_path / "raw", out, SMALL, TEXT)
    assert _made(out) == {"1_main/a.jpg": "1girl, smile, cowboy shot"}
    prepare(tmp_path / "raw", out, replace(SMALL, resolution=256), TEXT)  # enlarged, and so a PNG
    assert _made(out) == {"1_main/a.png": "1girl, smile, cowboy shot"}
    assert not (out / "unused").exists() and not (out / "1_main" / "a.jpg").exists()
    mask = Image.open(out / "masks" / "a.png")
    assert mask.size == (256, 256) and mask.getpixel((120, 120)) == 0 and mask.getpixel((10, 10)) == 255
    (out / "1_main" / "a.txt").write_text("mine")
    prepare(tmp_path / "raw", out, SMALL, TEXT)  # and back again
    assert _made(out) == {"1_main/a.jpg": "mine"}


@pytest.mark.parametrize("first", ["cowboy shot", "portrait"])
def test_a_piece_of_another_class_takes_the_place_of_the_one_before(tmp_path: Path, first: str) -> None:
    """Whichever of the two folders comes first by name, the new pixels and the new caption stay, once."""
    original, out = _one(tmp_path / "raw", first), tmp_path / "set"
    folders = {"cowboy shot": "1_main", "portrait": "1_face"}
    second = next(name for name in folders if name != first)
    prepare(tmp_path / "raw", out, SMALL)
    assert list(_made(out)) == [f"{folders[first]}/a.png"]
    original.with_suffix(".txt").write_text(second)
    Image.new("RGB", (128, 128), "teal").save(original)
    prepare(tmp_path / "raw", out, SMALL)
    assert _made(out) == {f"{folders[second]}/a.png": second}
    assert [path.name for path in out.rglob("a.*")].count("a.png") == 1
    assert Image.open(out / folders[second] / "a.png").getpixel((5, 5)) == (0, 128, 128)


def test_another_caption_of_an_original_is_taken_unless_its_piece_was_edited(tmp_path: Path) -> None:
    original, out = _one(tmp_path / "raw"), tmp_path / "set"
    prepare(tmp_path / "raw", out, SMALL)
    original.with_suffix(".txt").write_text("1girl, frown, cowboy shot")
    assert prepare(tmp_path / "raw", out, SMALL).done == 1
    assert _made(out) == {"1_main/a.png": "1girl, frown, cowboy shot"}
    assert prepare(tmp_path / "raw", out, SMALL).done == 0
    (out / "1_main" / "a.txt").write_text("mine")
    original.with_suffix(".txt").write_text("1girl, cry, cowboy shot")
    prepare(tmp_path / "raw", out, SMALL)
    assert _made(out) == {"1_main/a.png": "mine"}


def test_a_crop_without_the_text_of_its_picture_has_no_tags_of_text(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    draw(_figure(9, framing="full_body"), 9, 512).image.save(tmp_path / "raw" / "a.png")
    (tmp_path / "raw" / "a.txt").write_text("1girl, full body, speech bubble, smile")
    given = {"a.png": Boxes(text=(Box(10, 490, 100, 505),), head=(Box(210, 50, 310, 150),))}
    prepare(tmp_path / "raw", tmp_path / "set", replace(SMALL, text="keep"), Detectors((), given))
    made = _made(tmp_path / "set")
    assert made.pop("1_full/a.png") == "1girl, full body, speech bubble, smile"
    assert made and not any("speech bubble" in caption for caption in made.values())


def test_another_model_in_a_file_of_the_same_name_makes_everything_anew(tmp_path: Path) -> None:
    _one(tmp_path / "raw")
    for number in range(2):
        model = constant_yolo(tmp_path / "model.onnx", [[10.0], [10.0], [4.0], [4.0], [0.9 - number / 10]])
        detectors = open_detectors([f"head={model}"])
        assert prepare(tmp_path / "raw", tmp_path / "set", SMALL, detectors).done == 1
        assert prepare(tmp_path / "raw", tmp_path / "set", SMALL, detectors).done == 0
