"""Boxes by small ONNX graphs, by packages and by hand, and the class that they make."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from loratools.dataset.detect.boxes import Box, Boxes, head_of, suppress
from loratools.dataset.detect.detectors import Detectors, given_boxes, open_detectors
from loratools.dataset.detect.framing import framing_class, usual_heads_tall
from loratools.dataset.detect.yolo import YoloDetector
from loratools.errors import DatasetError, FormatError, OptionError, UnavailableError
from tests.dataset.onnx_graphs import constant_yolo, node, save_graph


def test_centres_and_sizes_are_boxes_of_the_whole_picture(tmp_path: Path) -> None:
    columns = [(32, 16, 20, 8, 0.9), (33, 16, 20, 8, 0.6), (10, 50, 8, 8, 0.5), (50, 50, 8, 8, 0.1)]
    path = constant_yolo(tmp_path / "m.onnx", [list(row) for row in zip(*columns, strict=True)])
    boxes = YoloDetector(path, "face", "cpu").boxes(Image.new("RGB", (128, 256)))
    assert [box.json() for box in boxes] == [[44, 48, 84, 80], [12, 184, 28, 216]]
    assert [round(box.score, 3) for box in boxes] == [0.9, 0.5]


def test_the_best_of_several_classes_counts(tmp_path: Path) -> None:
    path = constant_yolo(tmp_path / "m.onnx", [[32.0] * 5, [32.0] * 5, [10.0] * 5, [10.0] * 5, [0.1] * 5, [0.8] * 5])
    (box,) = YoloDetector(path, "head", "cpu").boxes(Image.new("RGB", (64, 64)))
    assert box.score == pytest.approx(0.8)


def test_corners_after_suppression_are_read_too(tmp_path: Path) -> None:
    rows = [[0.0, 0, 32, 32, 0.9, 0], [40, 40, 80, 80, 0.8, 0], [0, 0, 9, 9, 0.1, 0], *[[0.0] * 6] * 5]
    boxes = YoloDetector(constant_yolo(tmp_path / "m.onnx", rows), "person", "cpu").boxes(Image.new("RGB", (64, 64)))
    assert [box.json() for box in boxes] == [[0, 0, 32, 32], [40, 40, 64, 64]]


def test_an_open_graph_gets_pictures_in_whole_strides(tmp_path: Path) -> None:
    shape = [node("Shape", ["input"], ["sizes"]), node("Cast", ["sizes"], ["output"], to=1)]
    path = save_graph(tmp_path / "m.onnx", shape, [1, 3, None, None], {}, {"output": [4]})
    detector = YoloDetector(path, "head", "cpu")
    assert detector._input_size((100, 33)) == (128, 64)
    assert detector._input_size((2432, 1000)) == (1216, 512)
    with pytest.raises(FormatError, match="are no boxes"):
        detector.boxes(Image.new("RGB", (64, 64)))


def test_the_models_own_threshold_is_read(tmp_path: Path) -> None:
    path = constant_yolo(tmp_path / "m.onnx", [[32.0] * 5] * 4 + [[0.45] * 5])
    assert YoloDetector(path, "head", "cpu").boxes(Image.new("RGB", (64, 64)))
    (tmp_path / "threshold.json").write_text('{"f1_score": 0.94, "threshold": 0.46}')
    assert not YoloDetector(path, "head", "cpu").boxes(Image.new("RGB", (64, 64)))
    (tmp_path / "threshold.json").write_text("{}")
    with pytest.raises(FormatError, match=r"threshold\.json names no 'threshold'"):
        YoloDetector(path, "head", "cpu")


def test_suppression_keeps_the_surest() -> None:
    boxes = [Box(0, 0, 10, 10, 0.5), Box(0, 0, 10, 9, 0.9), Box(20, 0, 30, 10, 0.1), Box(5, 5, 5, 9)]
    assert [box.score for box in suppress(boxes, 0.5)] == [0.9, 0.1]
    assert suppress([], 0.5) == ()


def test_boxes_by_hand_count_before_a_detectors(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({"a.png": {"face": [[1, 2, 30, 40]]}}))
    path = constant_yolo(tmp_path / "m.onnx", [[32.0] * 5, [32.0] * 5, [10.0] * 5, [10.0] * 5, [0.8] * 5])
    detectors = open_detectors([f"face={path}"], tmp_path / "boxes.json", "cpu")
    image = Image.new("RGB", (64, 64))
    assert detectors.boxes("some/a.png", image).json() == {"face": [[1, 2, 30, 40]]}
    assert detectors.boxes("b.png", image).json() == {"face": [[27, 27, 37, 37]]}
    assert detectors.names == ("face=m.onnx",) and not detectors.finds_text and not Detectors()


@pytest.mark.parametrize("value", ['{"a.png": {"nose": []}}', '{"a.png": {"face": [[3, 0, 1, 9]]}}', "[]", "{"])
def test_wrong_boxes_by_hand_are_named(tmp_path: Path, value: str) -> None:
    (tmp_path / "boxes.json").write_text(value)
    with pytest.raises(DatasetError, match=r"boxes\.json"):
        given_boxes(tmp_path / "boxes.json")


def test_what_is_no_detector_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("nose=x.onnx", "x.onnx"):
        with pytest.raises(OptionError, match="is no detector"):
            open_detectors([wrong])
    with pytest.raises(FormatError, match="there is no file"):
        open_detectors([f"face={tmp_path / 'none.onnx'}"])
    monkeypatch.setitem(sys.modules, "animeface", None)
    with pytest.raises(UnavailableError, match=r"loratools\[face\]"):
        open_detectors(["animeface"])
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(UnavailableError, match=r"loratools\[text\]"):
        open_detectors(["rapidocr"])


FACE_ALONE = Boxes(face=(Box(100, 60, 200, 160),))
HEAD = (Box(200, 40, 300, 140),)


@pytest.mark.parametrize(
    ("boxes", "tags", "wanted"),
    [
        (Boxes(head=(Box(50, 20, 450, 420),)), "full body", ("face", "boxes")),
        (Boxes(head=HEAD, person=(Box(150, 40, 350, 480),)), "", ("full", "boxes")),
        (Boxes(head=HEAD, person=(Box(50, 40, 450, 512),)), "", ("main", "boxes")),
        (Boxes(head=(Box(220, 5, 290, 75),), person=(Box(150, 0, 350, 512),)), "", ("full", "boxes")),
        (Boxes(head=(Box(200, 40, 240, 80),)), "full body", ("full", "tags")),
        (Boxes(halfbody=(Box(0, 0, 300, 300),)), "", ("main", "boxes")),
        (Boxes(), "1girl, portrait, upper body", ("face", "tags")),
        (Boxes(), "cowboy shot", ("main", "tags")),
        (Boxes(), "1girl", ("other", "ratio")),
    ],
)
def test_the_class_of_a_picture(boxes: Boxes, tags: str, wanted: tuple[str, str]) -> None:
    kind = framing_class((512, 512), [tag.strip() for tag in tags.split(",")], boxes)
    assert (kind.name, kind.witness) == wanted


def test_without_boxes_and_tags_the_ratio_decides() -> None:
    sizes = {(400, 800): "full", (400, 600): "main", (512, 512): "other", (900, 400): "other"}
    assert {size: framing_class(size, ()).name for size in sizes} == sizes


def figure(heads: float, bottom: float, top: float = 40) -> Boxes:
    """A person so many heads tall, with ``bottom`` as its lower end in a picture of 512 x 512."""
    head = (bottom - top) / heads
    return Boxes(
        head=(Box(256 - head / 2, top, 256 + head / 2, top + head),), person=(Box(256 - head, 20, 256 + head, bottom),)
    )


@pytest.mark.parametrize("whole", [2.4, 6.5])
def test_a_figure_at_the_lower_edge_is_as_whole_as_the_folders_own_are_tall(whole: float) -> None:
    """Chibi figures of two and a half heads and adults of six: the folder says which it has."""
    size = (512, 512)
    folder = [(size, figure(whole * factor, 480)) for factor in (0.97, 0.99, 1.0, 1.01, 1.04)]
    tall = usual_heads_tall(folder)
    assert tall == pytest.approx(whole, rel=0.03)
    classes = {heads: framing_class(size, (), figure(heads, 512), tall).name for heads in (whole, whole * 0.85)}
    assert classes == {whole: "full", whole * 0.85: "main"}
    assert framing_class(size, (), figure(3, 512), tall).name == "main"  # of another style than the folder's
    assert framing_class(size, (), figure(7, 512), tall).name == "full"
    assert framing_class(size, ["full body"], figure(whole * 0.85, 512), tall).witness == "tags"


def test_a_folder_of_few_figures_or_of_several_styles_says_nothing() -> None:
    size = (512, 512)
    assert usual_heads_tall([(size, figure(2.5, 480))] * 4) is None
    assert usual_heads_tall([(size, figure(2.5, 480)), (size, figure(7, 480))] * 4) is None
    assert usual_heads_tall([(size, figure(2.5, 512)), (size, Boxes()), (size, Boxes(head=HEAD))] * 4) is None
    assert framing_class(size, (), figure(2.5, 512), None).name == "main"


def test_a_persons_own_head_counts_and_not_that_of_another() -> None:
    near = Box(300, 100, 500, 300)  # a large head of which no body was found, beside a small whole figure
    whole = Boxes(head=(near, Box(120, 40, 170, 90)), person=(Box(60, 30, 260, 470),))
    assert framing_class((512, 512), (), whole).name == "full"


def test_a_head_is_around_its_face() -> None:
    face = Box(100, 100, 150, 150, 0.7)
    head = head_of(face)
    assert head.holds(face) and head.width == 100 and head.score == 0.7 and 150 - head.top > head.bottom - 150


def test_animeface_runs_on_pictures_of_every_size() -> None:
    pytest.importorskip("animeface")
    from loratools.dataset.detect.packages import AnimeFaceDetector

    detector = AnimeFaceDetector()
    assert [detector.boxes(Image.new("RGB", size, "white")) for size in ((1, 1), (40, 60), (900, 30))] == [()] * 3


def test_a_pillow_that_animeface_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("animeface")
    from loratools.dataset.detect.packages import AnimeFaceDetector

    detector = AnimeFaceDetector()
    monkeypatch.delattr(Image.Image, "getdata")
    with pytest.raises(UnavailableError, match="does not work with this Pillow"):
        detector.boxes(Image.new("RGB", (8, 8)))


@pytest.mark.slow
def test_rapidocr_finds_drawn_text() -> None:
    pytest.importorskip("rapidocr")
    from loratools.dataset.detect.packages import TextDetector
    from loratools.pocket.draw import draw, random_figure

    image = draw(random_figure(random.Random(1)), 1, 512).image
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(28)
    pen.text((40, 20), "SAMPLE TEXT", font=font, fill="white", stroke_width=2, stroke_fill="black")
    planted = Box(*pen.textbbox((40, 20), "SAMPLE TEXT", font=font))
    boxes = TextDetector().boxes(image)
    assert any(box.overlap(planted) / planted.area > 0.9 for box in boxes)


def test_boxes_by_hand_of_pictures_that_are_not_there_are_told() -> None:
    detectors = Detectors((), {"a.png": FACE_ALONE, "gone.png": FACE_ALONE})
    assert detectors.notes(["sub/a.png"]) == ("boxes by hand of 1 pictures that are not there (gone.png) are left out",)
    assert detectors.notes(["a.png", "gone.png"]) == () == Detectors().notes(["a.png"])
    assert detectors.given_digest("sub/a.png") == detectors.given_digest("gone.png") != detectors.given_digest("b.png")


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7])
def test_however_many_corners_there_are_they_are_corners(tmp_path: Path, count: int) -> None:
    """Five or six rows of six look like centres of six boxes with one or two classes."""
    rows = [[9.0 * n, 0.0, 9.0 * n + 8, 8.0, 0.9, 0.0] for n in range(count)]
    path = constant_yolo(tmp_path / "m.onnx", rows or [[0.0] * 6])
    boxes = YoloDetector(path, "face", "cpu").boxes(Image.new("RGB", (64, 64)))
    assert sorted(box.json() for box in boxes) == sorted([9 * n, 0, 9 * n + 8, 8] for n in range(count))


def test_boxes_by_a_name_that_several_pictures_have_are_told(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({"a.png": {"text": [[0, 0, 9, 9]]}, "sub\\b.png": {}}))
    detectors = Detectors((), given_boxes(tmp_path / "boxes.json"))
    assert detectors.notes(["a.png", "sub/b.png"]) == ()  # a path as Windows writes it is one too
    (note,) = detectors.notes(["a.png", "sub/a.png", "sub/b.png"])
    assert "have a name that several pictures have (a.png)" in note
