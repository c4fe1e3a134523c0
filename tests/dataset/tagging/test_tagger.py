"""Taggers of each family on graphs with known answers: preprocessing, labels, batches, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.dataset.tagging.labels import read_labels
from loratools.dataset.tagging.preprocess import deepdanbooru_input, model_input, wd_input
from loratools.dataset.tagging.probabilities import Scores
from loratools.dataset.tagging.tagger import Tagger, find_tagger
from loratools.errors import FileError, FormatError
from tests.dataset.onnx_graphs import node, save_graph
from tests.dataset.tagging.graphs import cl_tagger, deepdanbooru, wd_tagger

ORANGE = (255, 102, 0)


def rows(path: Path, *images: Image.Image) -> np.ndarray:
    tagger = Tagger(find_tagger(str(path)))
    return tagger.probabilities([tagger.prepared(image) for image in images])


def test_wd_pads_with_white_in_the_middle_and_is_bgr() -> None:
    tall = Image.new("RGB", (3, 8), ORANGE)
    values = wd_input(tall, 8)
    assert values.shape == (8, 8, 3) and values.dtype == np.float32
    assert (values[:, 2:5] == ORANGE[::-1]).all()  # the left margin is the smaller half of 5
    assert (values[:, :2] == 255).all() and (values[:, 5:] == 255).all()
    assert wd_input(Image.new("RGB", (100, 40), ORANGE), 8).shape == (8, 8, 3)


def test_wd_is_resized_bicubic_after_the_padding() -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8))
    expected = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC), dtype=np.float32)[:, :, ::-1]
    assert np.array_equal(wd_input(image, 8), expected)
    assert np.allclose(model_input(image, "cl", 8), expected / 127.5 - 1)


def test_deepdanbooru_pads_with_black_and_is_rgb() -> None:
    values = deepdanbooru_input(Image.new("RGB", (40, 20), ORANGE), 16)
    assert values.shape == (16, 16, 3)
    assert np.allclose(values[4:12], np.array(ORANGE) / 255) and (values[:4] == 0).all() and (values[12:] == 0).all()


def test_wd_gives_the_known_probabilities(tmp_path: Path) -> None:
    orange, blue = Image.new("RGB", (8, 8), ORANGE), Image.new("RGB", (30, 30), (0, 0, 255))
    values = rows(wd_tagger(tmp_path / "wd-swinv2-tagger-v3"), orange, blue)
    assert np.allclose(values[0], [0, 0.36, 0.8, 0, 0.95, 0, 0.24, 0.3, 0.9, 0.06], atol=1e-5)
    assert np.allclose(values[1], [0.9, 0, 0, 0, 0.95, 0.7, 0, 0.3, 0, 0.06], atol=1e-5)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_graph_with_a_fixed_batch(tmp_path: Path, batch: int) -> None:
    tagger = Tagger(find_tagger(str(wd_tagger(tmp_path / "wd", batch=batch))))
    assert tagger.batch == batch
    assert tagger.probabilities([tagger.prepared(Image.new("RGB", (8, 8), "blue"))]).shape == (1, 10)


def test_another_input_size_is_read_from_the_graph(tmp_path: Path) -> None:
    assert Tagger(find_tagger(str(wd_tagger(tmp_path / "a", side=24)))).side == 24
    assert Tagger(find_tagger(str(wd_tagger(tmp_path / "b", side=None)))).side == 448


@pytest.mark.parametrize("nested", [True, False])
def test_cl_has_its_sigmoid_outside_and_channels_first(tmp_path: Path, nested: bool) -> None:
    path = cl_tagger(tmp_path / "cl", nested=nested)
    (row,) = rows(path, Image.new("RGB", (8, 8), (255, 0, 0)))
    logits = np.array([2, -2, -4, 4, 3, 1, 4, 3, 1, -1])
    assert np.allclose(row, 1 / (1 + np.exp(-logits)), atol=1e-5)
    labels = read_labels(tmp_path / "cl/tag_mapping.json")
    assert labels.names[:2] == ("rating:general", "rating:explicit")
    assert labels.categories == (
        "rating",
        "rating",
        "general",
        "general",
        "character",
        "copyright",
        "artist",
        "meta",
        "quality",
        "quality",
    )


def test_deepdanbooru_gives_the_known_probabilities(tmp_path: Path) -> None:
    (row,) = rows(deepdanbooru(tmp_path / "dd"), Image.new("RGB", (32, 16), ORANGE))
    assert np.allclose(row, [0.5, 0.2, 0.9], atol=1e-5)  # half of the square is black
    labels = read_labels(tmp_path / "dd/deepdanbooru_tags.csv")
    assert (labels.family, labels.names) == ("deepdanbooru", ("red dress", "green eyes", "rating:safe"))


def test_the_originals_plain_list_of_tags(tmp_path: Path) -> None:
    (tmp_path / "tags.txt").write_text("long_hair\n^_^\nrating:safe\n")
    labels = read_labels(tmp_path / "tags.txt")
    assert labels.names == ("long hair", "^_^", "rating:safe") and labels.categories[2] == "rating"


def test_names_of_taggers(tmp_path: Path) -> None:
    assert find_tagger(str(wd_tagger(tmp_path / "wd-eva02-large-tagger-v3"))).name == "wd-eva02-large-tagger-v3"
    assert find_tagger(str(deepdanbooru(tmp_path / "x"))).name == "deepdanbooru"
    assert find_tagger(str(tmp_path / "wd-eva02-large-tagger-v3")).model.name == "model.onnx"


def test_a_list_of_tags_of_another_model(tmp_path: Path) -> None:
    path = wd_tagger(tmp_path / "wd", tags=8)
    with pytest.raises(FormatError, match=r"gives 10 values a picture, and .*names 8 tags; take both files"):
        rows(path, Image.new("RGB", (8, 8)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (["n", 8, 12, 3], "takes pictures of 12 x 8 pixels"),
        (["n", 3], "takes any x 3 values"),
        (["n", 8, 8, 4], "takes any x 8 x 8 x 4 values"),
    ],
)
def test_a_graph_that_takes_no_pictures(tmp_path: Path, shape: list[int | str], message: str) -> None:
    wd_tagger(tmp_path)
    save_graph(tmp_path / "model.onnx", [node("Identity", ["input"], ["out"])], shape, {}, {"out": shape})
    with pytest.raises(FormatError, match=message):
        Tagger(find_tagger(str(tmp_path)))


def test_what_is_no_probability(tmp_path: Path) -> None:
    wd_tagger(tmp_path)
    labels = read_labels(tmp_path / "selected_tags.csv")
    for value in (2.5, float("nan"), -1.0):
        with pytest.raises(FormatError, match="are no probabilities"):
            Scores.of(np.full(10, value), labels)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("selected_tags.csv", "a,b\n1,2\n", "has the columns a, b and no name and category"),
        ("selected_tags.csv", "", "no name and category"),
        ("selected_tags.csv", "name,category\n1girl,0\nx\n", "line 3 has no tag"),
        ("selected_tags.csv", "name,category\n", "has no tags"),
        ("tag_mapping.json", "{", "is no list of a tagger's tags"),
        ("tag_mapping.json", "[]", "is no list of a tagger's tags"),
        (
            "tag_mapping.json",
            '{"0": {"tag": "a", "category": "General"}, "2": {"tag": "b", "category": "x"}}',
            "no tag for some",
        ),
    ],
)
def test_broken_lists_of_tags(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(FormatError, match=message):
        read_labels(tmp_path / name)


def test_taggers_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no tagger"):
        find_tagger(str(tmp_path / "none.onnx"))
    with pytest.raises(FileError, match=r"has no model\.onnx"):
        find_tagger(str(tmp_path))
    model = wd_tagger(tmp_path)
    (tmp_path / "selected_tags.csv").unlink()
    with pytest.raises(FileError, match=r"the tags of .* are not beside it"):
        find_tagger(str(model))
    with pytest.raises(FileError, match="cannot be had from the Hugging Face cache"):
        find_tagger("nobody/no-such-tagger", offline=True)


def test_a_tagger_of_the_hub_comes_from_the_cache(hub: Callable[[str, Path], Path], tmp_path: Path) -> None:
    wd_tagger(tmp_path / "a")
    hub("SmilingWolf/wd-swinv2-tagger-v3", tmp_path / "a")
    files = find_tagger("SmilingWolf/wd-swinv2-tagger-v3", offline=True)
    assert files.name == "wd-swinv2-tagger-v3" and files.facts().family == "wd"
    cl_tagger(tmp_path / "b/cl_tagger_1_02")
    hub("cella110n/cl_tagger", tmp_path / "b")
    inside = find_tagger("cella110n/cl_tagger/cl_tagger_1_02", offline=True)
    assert (inside.name, inside.labels.name) == ("cl_tagger/cl_tagger_1_02", "tag_mapping.json")
