"""Copies and variants are found among drawings, by what they show and not by how they were saved."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from loratools.dataset.facts.facts import PRINT_SIDE, picture_facts, print_of
from loratools.dataset.facts.measure import measure
from loratools.dataset.similar.groups import find_groups
from loratools.dataset.similar.pairs import Pair, find_pairs
from loratools.errors import DatasetError
from loratools.pocket.draw import draw, random_figure


@pytest.fixture(scope="module")
def drawing() -> Image.Image:
    return draw(random_figure(random.Random(5), framing="cowboy_shot", expression="smile"), 5, 256).image


def _kinds(images: list[Image.Image]) -> dict[tuple[int, int], str]:
    ratios = [image.width / image.height for image in images]
    return {(one.first, one.second): one.kind for one in find_pairs([print_of(image) for image in images], ratios)}


def test_a_copy_is_one_however_it_was_saved(drawing: Image.Image, tmp_path: Path) -> None:
    drawing.save(tmp_path / "a.jpg", quality=60)
    copies = [
        Image.open(tmp_path / "a.jpg").convert("RGB"),
        drawing.resize((128, 128)),
        drawing.resize((400, 400), Image.Resampling.BICUBIC),
        ImageEnhance.Brightness(drawing).enhance(0.93),
    ]
    kinds = _kinds([drawing, *copies])
    assert {kinds.get((0, index)) for index in range(1, 5)} == {"duplicate"}


def test_a_variant_is_none_and_another_scene_is_neither() -> None:
    figure = random_figure(random.Random(5), framing="cowboy_shot", expression="smile", clothes_color="red_clothes")
    images = [
        draw(figure, 5, 256).image,
        draw(replace(figure, expression="surprised"), 5, 256).image,
        draw(replace(figure, accessory="hat" if figure.accessory != "hat" else "scarf"), 5, 256).image,
        draw(random_figure(random.Random(6), framing="cowboy_shot"), 6, 256).image,
    ]
    kinds = _kinds(images)
    assert kinds[0, 1] == kinds[0, 2] == kinds[1, 2] == "variant"
    assert not any(3 in pair for pair in kinds)


def test_the_ratio_tells_pictures_apart(drawing: Image.Image) -> None:
    assert not _kinds([drawing, drawing.resize((256, 300))])


def test_flat_pictures_are_copies_of_their_like_alone() -> None:
    kinds = _kinds([Image.new("RGB", (64, 64), colour) for colour in ("white", "white", "black")])
    assert set(kinds) <= {(0, 1)}


def test_only_new_pairs_are_looked_for(drawing: Image.Image) -> None:
    prints = [print_of(drawing)] * 3
    assert {(pair.first, pair.second) for pair in find_pairs(prints, [1, 1, 1], since=2)} == {(0, 2), (1, 2)}
    assert find_pairs(prints[:1], [1]) == []


def test_more_pictures_than_are_compared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    prints = [rng.integers(0, 255, (PRINT_SIDE, PRINT_SIDE, 3), dtype=np.uint8) for _ in range(9)]
    prints.append(prints[2])
    whole = find_pairs(prints, [1.0] * 10)
    monkeypatch.setattr("loratools.dataset.similar.pairs._ROWS", 4)
    monkeypatch.setattr("loratools.dataset.similar.pairs._BATCH", 1)
    assert find_pairs(prints, [1.0] * 10) == whole
    assert [(pair.first, pair.second, pair.kind) for pair in whole] == [(2, 9, "duplicate")]


def test_groups_join_pairs_and_sites() -> None:
    pairs = [Pair(0, 1, "duplicate", 1), Pair(1, 2, "variant", 0.5), Pair(3, 4, "duplicate", 1)]
    groups = find_groups(
        8, pairs, {5: "danbooru:1", 6: "danbooru:1", 4: "pixiv:9", 7: "pixiv:9"}, [1, 0, 2, 0, 1, 0, 0, 0]
    )
    assert groups.duplicates == ((0, 1), (3, 4))
    assert dict(zip(groups.variants, groups.said_by, strict=True)) == {
        (1, 2): "look",
        (5, 6): "danbooru:1",
        (3, 7): "pixiv:9",
    }


def _messy(folder: Path) -> dict[str, Path]:
    gradient = Image.linear_gradient("L").resize((64, 48))
    rgb = Image.merge("RGB", [gradient, gradient.transpose(Image.Transpose.FLIP_TOP_BOTTOM), gradient])
    rgb.save(folder / "good.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg", quality=70)
    Image.fromarray(np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)).save(folder / "deep.png")
    rgb.save(folder / "moves.gif", save_all=True, append_images=[rgb.rotate(90)])
    turned = Image.Exif()
    turned[0x0112] = 6
    rgb.save(folder / "turned.jpg", exif=turned)
    whole = (folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "none.png").write_bytes(b"")
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize((64, 48)))
    alpha.save(folder / "alpha.png")
    return {path.stem: path for path in folder.iterdir()}


def test_facts_of_a_messy_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = _messy(tmp_path)
    measured = measure(sorted(paths.values()))
    facts = {path.stem: one for path, one in measured.facts.items()}
    assert {path.stem for path in measured.refused} == {"cut", "none"}
    assert all("cannot be read" in reason for reason in measured.refused.values())
    assert facts["turned"].size == (48, 64) and facts["good"].size == (64, 48)
    assert facts["moves"].animated and facts["deep"].grey and not facts["good"].grey
    assert facts["alpha"].transparent and not facts["good"].transparent
    assert 60 <= (facts["cmyk"].quality or 0) <= 80 and facts["good"].quality is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # above twice of which a file is a bomb
    with pytest.raises(DatasetError, match="cannot be read"):
        picture_facts(paths["good"])
