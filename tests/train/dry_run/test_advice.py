from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from loratools.train.config.read import make_config, presets
from loratools.train.data.read import read_dataset
from loratools.train.dry_run import estimate
from loratools.train.dry_run.advice import advice


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
    sentence = "15_full: shown more often than the faces; guide 004 keeps every other class below them"
    assert _warned(root).splitlines()[1:] == [sentence]  # the first says that the classes have the same drawings


def test_a_warm_up_without_effect_is_warned_of(pictures: Callable[..., Path]) -> None:
    root = pictures("root/60_main", 5).parent
    assert "use constant_with_warmup" in _warned(root, lr_scheduler="constant", lr_warmup=100)
    assert _warned(root, lr_scheduler="constant_with_warmup", lr_warmup=100) == ""


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
