from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from loratools.train.config.read import make_config, presets
from loratools.train.data.read import read_dataset
from loratools.train.dry_run import estimate
from loratools.train.dry_run.advice import advice, outlasting


def _warned(root: Path, preset: str = "default", **settings: object) -> str:
    config = make_config({"base": "x", "images": str(root), "preset": preset, **settings}, "test")
    return "\n".join(advice(config, read_dataset(config, (64, 64))))


def test_a_good_set_has_no_warning(pictures: Callable[..., Path]) -> None:
    root = pictures("root/80_main", 5).parent
    pictures("root/25_face", 4)
    assert _warned(root, "style-004") == ""


def test_the_guides_rules(pictures: Callable[..., Path]) -> None:
    root = pictures("root/2_main", 5).parent
    face = pictures("root/5_face", 4)
    shutil.copy(face / "00.png", face / "copy.png")
    pictures("root/1_wide", 2, (64, 256))
    text = _warned(root, "style-004", allow_uncaptioned=True, epochs=4)
    for part in (
        "0.4 to 1 an epoch",
        "37 samples an epoch are few",
        "4 epochs; guide 004",
        "2 images (",
        "over 3:1",
        "copy.png",
        "1 images are there more than once",
        "no caption",
    ):
        assert part in text
    assert "are many" in _warned(
        root, "style-004", allow_uncaptioned=True, images=[{"folder": str(face), "repeats": 900}]
    )
    assert "of a character" in _warned(face, "character-002", allow_uncaptioned=True)


def test_the_sum_is_counted_by_the_guides_factor_which_can_be_set(pictures: Callable[..., Path]) -> None:
    root = pictures("root/60_main", 5).parent  # 300 samples
    assert _warned(root) == ""
    assert "300 x 2 = 600" in _warned(root, flip=True) and "are few" in _warned(root, guide_factor=2)
    assert "300 x 10 = 3000" in _warned(root, guide_factor=10) and "are many" in _warned(root, guide_factor=10)


def test_every_other_class_stays_below_the_faces(pictures: Callable[..., Path]) -> None:
    root = pictures("root/40_main", 4).parent
    pictures("root/10_face", 4)
    pictures("root/15_full", 4)
    assert _warned(root).splitlines()[1:] == [  # the first says that the classes have the same drawings
        "15_full: shown more often than the faces; guide 004 keeps every other class below them",
        "to fulfil guide 004's rules rename 40_main to 42_main, 15_full to 10_full and 10_face to 11_face: 252 "
        "images x repeats",
    ]


def test_a_warm_up_without_effect_is_warned_of(pictures: Callable[..., Path]) -> None:
    root = pictures("root/60_main", 5).parent
    assert "use constant_with_warmup" in _warned(root, lr_scheduler="constant", lr_warmup=100)
    assert _warned(root, lr_scheduler="constant_with_warmup", lr_warmup=100) == ""


@pytest.mark.parametrize("schedule", ["constant_with_warmup", "cosine", "linear"])
def test_what_outlasts_the_run_is_outlasts(schedule: str, pictures: Callable[..., Path]) -> None:
    def outlasts(**settings: object) -> str:
        values = {"base": "x", "images": str(pictures(f"a{next(number)}", 5)), "lr_scheduler": schedule, **settings}
        config = make_config(values, "test")
        return "\n".join(outlasting(config, read_dataset(config, (64, 64)), 10, 20))

    number = itertools.count()
    assert outlasts(lr_warmup=180).startswith(
        "lr_warmup is 180 steps and the whole run 10, so that the rates only rise, to 5%"
    )
    assert "to 90%" in outlasts(lr_warmup=10)
    assert not outlasts(lr_warmup=9) and not outlasts(lr_warmup="100%") and not outlasts(lr_warmup=0.5)
    assert not outlasts(lr_warmup=180, lr_scheduler="constant")
    assert "token_warmup is 20 batches and the whole run 20" in outlasts(token_warmup=20)
    assert not outlasts(token_warmup=19) and not outlasts(token_warmup=0.5)


def test_a_set_at_two_resolutions_is_meant_so(pictures: Callable[..., Path], tmp_path: Path) -> None:
    folder, other = pictures("ink", 2), tmp_path / "copy"
    shutil.copytree(folder, other)

    def twice(*parts: dict[str, object]) -> bool:
        config = make_config({"base": "x", "datasets": list(parts), "preset": "object"}, "test")
        return any("more than once" in text for text in advice(config, read_dataset(config, (64, 64))))

    assert not twice({"images": str(folder), "resolution": 64}, {"images": str(folder), "resolution": 128})
    assert not twice({"images": str(folder), "resolution": 64}, {"images": str(other), "resolution": 128})
    assert twice({"images": str(folder), "resolution": 64}, {"images": str(folder), "resolution": 64})
    assert twice({"images": [str(folder), str(other)], "resolution": 64})


def test_a_set_without_colour_is_told_unless_its_captions_say_so(pictures: Callable[..., Path]) -> None:
    folder = pictures(count=3)
    colour = "images are without colour"
    assert colour not in _warned(folder)
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.convert("L").convert("RGB").save(path)
    assert "all 3 images are without colour, and 3 captions do not say so" in _warned(folder)
    for path in folder.glob("*.txt"):
        path.write_text("1girl, Greyscale")
    assert colour not in _warned(folder)
    (folder / "00.txt").write_text("1girl")
    assert "and 1 captions do not say so" in _warned(folder, "object")
    Image.new("RGB", (64, 64), "red").save(folder / "02.png")
    assert colour not in _warned(folder)


@pytest.mark.parametrize(
    ("tags", "resolution", "pixels"),
    [
        ("1girl, wide_shot", 512, 37),
        ("2boys, wide shot, very wide shot", 512, 18),
        ("a woman, from afar", 512, 37),
        ("1girl, wide_shot", 640, None),
        ("scenery, wide_shot", 512, None),
        ("1girl, full_body", 512, None),
    ],
)
def test_tiny_faces_are_reckoned_from_tags(
    tags: str, resolution: int, pixels: int | None, pictures: Callable[..., Path]
) -> None:
    folder = pictures(count=2)
    (folder / "01.txt").write_text(tags)
    text = _warned(folder, resolution=resolution)
    assert (f"01.png): faces of {pixels} pixels" in text) == (pixels is not None) and ("faces of" in text) == bool(
        pixels
    )
    assert "faces of" not in _warned(folder, "scene", resolution=resolution)


def test_presets_have_the_guides_numbers() -> None:
    settings = {name: preset.settings for name, preset in presets().items()}
    style, two, three = settings["style-004"], settings["character-002"], settings["character-003"]
    assert (style["epochs"], style["noise_offset"], style["keep_tokens"]) == (8, 0.1, 3)
    assert style["learning_rate"] == style["unet_lr"] == style["te_lr"] == 1e-4
    assert (two["unet_lr"], two["te_lr"], two["keep_tokens"], two["dim"], two["alpha"]) == (1e-4, 5e-5, 2, 32, 1)
    assert (three["unet_lr"], three["alpha"], three["dim"], three["clip_skip"]) == (2e-3, 1, 64, 2)
    assert (
        settings["pose"]["flip"]
        and settings["scene"]["te_lr"] == 1e-5
        and settings["scene"]["repeats"] == 50
        and not settings["object"].get("flip")
    )


def test_times_are_spelled_for_people() -> None:
    assert [estimate.spelled(s) for s in (0.2, 40, 720, 12600)] == ["1 s", "40 s", "12 min", "3.5 h"]
    assert estimate.throughput(torch.device("cpu"), torch.float32, 64) > 0
