"""The parts of a preparation: enlarging by tiles, text, tags of crops."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from loratools.dataset.detect.boxes import Box
from loratools.dataset.prepare.crops import needed_factor
from loratools.dataset.prepare.enlarge import enlarged, open_upscaler
from loratools.dataset.prepare.tags import of_crop, on_white, without_text
from loratools.dataset.prepare.text import mask_of, remove_text
from loratools.dataset.tags.tag import Tag
from loratools.errors import FileError, FormatError, UnavailableError
from tests.dataset.onnx_graphs import node, save_graph


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def _upscaler(path: Path, side: int | None = None) -> Path:
    """Blurs 3 x 3 and doubles: what is at a tile's edge depends on its neighbours."""
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[range(3), range(3)] = 1 / 9
    constants = {"kernel": kernel, "scales": np.array([1, 1, 2, 2], np.float32)}
    exact = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    nodes = [
        node("Conv", ["input", "kernel"], ["blurred"], pads=[1, 1, 1, 1]),
        node("Resize", ["blurred", "", "scales"], ["output"], **exact),
    ]
    return save_graph(path, nodes, [1, 3, side, side], constants, {"output": [1, 3, None, None]})


def _by_hand(image: Image.Image) -> np.ndarray:
    values = np.pad(np.asarray(image, np.float64), ((1, 1), (1, 1), (0, 0)), mode="symmetric")
    height, width = image.height, image.width
    total = sum(values[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
    return np.rint(total).repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize("side", [None, 96])
@pytest.mark.parametrize("size", [(70, 50), (20, 150), (96, 96)])
def test_tiles_join_without_seams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], side: int | None
) -> None:
    monkeypatch.setattr("loratools.dataset.prepare.enlarge._TILE", 64)
    image = _noise(*size)
    result = open_upscaler(_upscaler(tmp_path / "2x.onnx", side), "cpu").enlarge(image)
    assert np.abs(np.asarray(result, np.float64) - _by_hand(image)).max() <= 1


def test_a_model_runs_until_it_is_enough_and_lanczos_fits_the_size(tmp_path: Path) -> None:
    upscaler = open_upscaler(_upscaler(tmp_path / "2x.onnx"), "cpu")
    image = _noise(20, 30)
    assert enlarged(image, (70, 105), upscaler).size == (70, 105)
    assert np.array_equal(np.asarray(enlarged(image, (40, 60), upscaler)), np.asarray(upscaler.enlarge(image)))
    plain = enlarged(image, (40, 60), None)
    assert np.array_equal(np.asarray(plain), np.asarray(image.resize((40, 60), Image.Resampling.LANCZOS)))


def test_what_is_no_upscaler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileError, match="there is no upscaler"):
        open_upscaler(tmp_path / "none.pth")
    flat = save_graph(tmp_path / "flat.onnx", [node("Relu", ["input"], ["o"])], [1, 7], {}, {"o": [1, 7]})
    with pytest.raises(FormatError, match="takes no picture"):
        open_upscaler(flat, "cpu")
    nodes = [node("ReduceMean", ["input"], ["o"], keepdims=1)]
    small = save_graph(tmp_path / "small.onnx", nodes, [1, 3, None, None], {}, {"o": [1, 1, 1, 1]})
    with pytest.raises(FormatError, match="an upscaler made"):
        open_upscaler(small, "cpu").enlarge(_noise(9, 9))
    (tmp_path / "a.pth").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(UnavailableError, match="torchvision that fits your torch"):
        open_upscaler(tmp_path / "a.pth")


def test_spandrels_models_are_run_by_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class _Loader:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def load_from_file(self, path: str) -> torch.nn.Module:
            if Path(path).stem == "bad":
                raise ValueError("unknown architecture")
            return torch.nn.Upsample(scale_factor=2, mode="nearest")

    module = types.ModuleType("spandrel")
    module.ModelLoader = _Loader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spandrel", module)
    for name in ("good", "bad"):
        (tmp_path / f"{name}.pth").touch()
    image = _noise(33, 21)
    result = open_upscaler(tmp_path / "good.pth", "cpu").enlarge(image)
    assert np.array_equal(np.asarray(result), np.asarray(image).repeat(2, axis=0).repeat(2, axis=1))
    with pytest.raises(FormatError, match="unknown architecture"):
        open_upscaler(tmp_path / "bad.pth", "cpu")


def test_what_must_be_enlarged() -> None:
    assert needed_factor((512, 512), 512) == needed_factor((1024, 300), 512) == 1
    assert needed_factor((256, 256), 512) == 2
    assert needed_factor((508, 508), 512) == 1  # nearly


def _flat(width: int = 200, height: int = 100) -> Image.Image:
    return Image.new("RGB", (width, height), (40, 90, 160))


def test_text_at_an_edge_is_cut_off_where_least_is_lost() -> None:
    image = _noise(200, 100)
    without = remove_text(image, [Box(20, 90, 120, 98), Box(5, 40, 15, 60)], "crop")
    assert without.cut == (15, 0, 200, 90) and not without.masked and without.actions == ("cut off 2",)
    assert np.array_equal(np.asarray(without.image), np.asarray(image)[:90, 15:])


def test_text_that_cannot_be_cut_off_is_masked() -> None:
    without = remove_text(_noise(200, 100), [Box(80, 40, 120, 60), Box(0, 95, 50, 100), Box(2, 2, 198, 50)], "crop")
    assert len(without.masked) == 2 and without.cut == (0, 0, 200, 95)
    assert without.actions == ("cut off 1", "masked 2")


def test_text_on_a_flat_ground_is_filled_and_elsewhere_masked() -> None:
    image = _flat()
    ImageDraw.Draw(image).rectangle((50, 40, 99, 59), fill="white")
    image.paste(_noise(60, 60), (130, 20))
    without = remove_text(image, [Box(50, 40, 100, 60), Box(150, 40, 170, 50)], "fill")
    assert np.array_equal(np.asarray(without.image)[:, :120], np.asarray(_flat())[:, :120])
    assert [box.json() for box in without.masked] == [[150, 40, 170, 50]]
    assert without.actions == ("filled 1", "masked 1")


def test_text_is_left_if_asked_and_nothing_is_done_without_any() -> None:
    image = _flat()
    for boxes, action in (([Box(1, 1, 9, 9)], "keep"), ([], "mask")):
        without = remove_text(image, boxes, action)  # type: ignore[arg-type]
        assert without.image is image and not without.masked and not without.actions


def test_a_mask_is_black_in_whole_pixels() -> None:
    mask = np.asarray(mask_of((20, 10), [Box(2.4, 3.0, 5.5, 6.2)]))
    assert mask.shape == (10, 20) and (mask == 0).sum() == 4 * 4 and mask[3:7, 2:6].max() == 0


def _tags(text: str) -> tuple[Tag, ...]:
    return tuple(Tag(name.strip()) for name in text.split(","))


def _names(tags: tuple[Tag, ...]) -> str:
    return ", ".join(tag.name for tag in tags)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("face", "1girl, full body, smile, boots, skirt", "1girl, portrait, smile"),
        ("main", "1girl, Full Body, boots, skirt, cowboy shot", "1girl, upper body, skirt"),
        ("full", "1girl, smile, boots", "1girl, smile, boots, full body"),
    ],
)
def test_a_crop_has_its_own_framing(kind: str, before: str, after: str) -> None:
    assert _names(of_crop(_tags(before), kind)) == after


def test_white_and_text_in_tags() -> None:
    assert _names(on_white(_tags("a, transparent background, b"))) == "a, white background, simple background, b"
    assert _names(on_white(_tags("a, simple background"))) == "a, simple background, white background"
    assert on_white(()) == ()
    assert _names(without_text(_tags("a, watermark, Signature, b"))) == "a, b"
