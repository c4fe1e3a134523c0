"""The repeats that a dry run advises fulfil the rules that it warns by, and are the least that do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.train.config.read import make_config
from loratools.train.data.read import read_dataset
from loratools.train.dry_run.advice import advice
from loratools.train.dry_run.repeats import PictureClass, fulfilling, picture_classes


def classes(**images: int) -> list[PictureClass]:
    return [PictureClass(Path(f"1_{name}"), count, 1, True) for name, count in images.items()]


@pytest.mark.parametrize(
    ("images", "factor", "plan"),
    [
        ({"ink": 3}, 4, (84,)),
        ({"ink": 61}, 2, (9,)),
        ({"ink": 500}, 4, (1,)),
        ({"ink": 501}, 4, None),
        ({"face": 10}, 4, (25,)),
        ({"main": 20, "face": 10}, 4, (10, 5)),
        ({"main": 20, "face": 10, "full": 8}, 4, (10, 5, 6)),
        ({"main": 20, "face": 10, "full": 400}, 4, None),
    ],
)
def test_known_sets(images: dict[str, int], factor: float, plan: tuple[int, ...] | None) -> None:
    assert fulfilling(classes(**images), factor) == plan


@pytest.mark.parametrize("main", [1, 4, 30, 90])
@pytest.mark.parametrize("face", [1, 7, 20])
@pytest.mark.parametrize("full", [1, 9, 25])
@pytest.mark.parametrize("factor", [2, 4])
def test_every_plan_keeps_the_rules(main: int, face: int, full: int, factor: int) -> None:
    given = classes(main=main, face=face, full=full)
    plan = fulfilling(given, factor)
    if plan is None:  # then none is found either by trying all, with the third class shown once
        tried = ((m, f) for m in range(1, 501) for f in range(1, main * m // (3 * face) + 1) if full < face * f)
        near = ((m, f) for m, f in tried if main * m <= 5 * face * f)
        assert not any(1000 <= factor * (main * m + face * f + full) <= 2000 for m, f in near)
        return
    counts = [each.images * repeats for each, repeats in zip(given, plan, strict=True)]
    assert 1000 <= factor * sum(counts) <= 2000 and 3 <= counts[0] / counts[1] <= 5 and counts[2] < counts[1]


def test_a_run_is_advised_what_its_own_rules_accept(pictures: Callable[..., Path]) -> None:
    root = pictures("root/2_main", 5).parent
    pictures("root/5_face", 4)
    pictures("root/1_wide", 3)

    def advised(**settings: object) -> list[str]:
        values = {"base": "x", "images": str(root), "preset": "style-004", **settings}
        config = make_config(values, "test")
        return [text for text in advice(config, read_dataset(config, (64, 64))) if "guide 004" in text]

    (plan,) = [text for text in advised() if text.startswith("to fulfil")]
    for before, after in re.findall(r"(\d+_\w+) to (\d+_\w+)", plan):
        (root / before).rename(root / after)
    assert advised() == []


def test_repeats_that_no_name_says_are_to_be_set(pictures: Callable[..., Path]) -> None:
    folder = pictures("ink", 3)
    config = make_config({"base": "x", "images": [{"folder": str(folder), "repeats": 2}]}, "test")
    texts = advice(config, read_dataset(config, (64, 64)))
    assert texts[-1] == "to fulfil guide 004's rules set the repeats of ink to 84: 252 images x repeats"


def test_a_folder_of_two_data_sets_is_one_class_and_regularisation_is_none(pictures: Callable[..., Path]) -> None:
    folder, prior = pictures("10_ink", 3), pictures("1_girl", 4)
    images = [str(folder), {"folder": str(prior), "regularisation": True}]
    parts = [{"images": images, "resolution": 64}, {"images": str(folder), "resolution": 128}]
    config = make_config({"base": "x", "datasets": parts}, "test")
    (one,) = picture_classes(read_dataset(config, (64, 64)))
    assert (one.images, one.repeats, one.count, one.by_name) == (6, 10, 60, True)
