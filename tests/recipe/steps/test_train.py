"""A recipe's train step, before it runs: what it reads, from where, and how many pictures it will show."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from loratools.errors import RecipeError
from loratools.recipe.run.runner import make_planner


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    return here


def save(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (64, 64), (number * 40, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("1girl")


@pytest.mark.parametrize(
    ("images", "shown"),
    [
        ("img", 60),
        ("img/10_ink", 60),
        ("[img/10_ink, {folder: prior, regularisation: true}]", 120),
        ("[img, {folder: prior, held_out: true}]", 60),
        ("{folder: prior, validation_split: 0.5, repeats: 3}", 12),
        ("[pictures, img]", 64),
    ],
)
def test_the_pictures_that_it_will_show_are_counted_for_estimates(folder: Path, images: str, shown: int) -> None:
    save(folder / "img/10_ink", 3)
    save(folder / "prior", 4)
    Path("r.yaml").write_text(
        "base: tiny\nsteps:\n  pictures: {draw: {style: ink, count: 2, size: 64}}\n"
        f"  style: {{train: {{images: {images}, epochs: 2}}}}\n"
    )
    assert make_planner("r.yaml").step("style").draft.units == shown


def test_what_lies_beside_the_recipe_comes_before_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (folder / "conf", folder / "cwd"):
        save(place / "imgs", 1)
        save(place / "masks", 1)
        (place / "tags.json").write_text('{"0.png": {"tags": "a"}}')
        (place / "prompts.txt").write_text("1girl\n")
    recipe = folder / "conf/r.yaml"
    recipe.write_text(
        f"base: {folder / 'tiny'}\nsteps:\n  s: {{train: {{sample_prompts: prompts.txt, "
        "images: {folder: imgs, mask_folder: masks, metadata_file: tags.json}}}\n"
    )
    monkeypatch.chdir(folder / "cwd")
    draft = make_planner(recipe, folder / "work").step("s").draft
    _, images, *beside = draft.inputs
    assert {source.path.parent for source in (images, *beside)} == {folder / "conf"} and len(beside) == 2
    before = make_planner(recipe, folder / "work").step("s").key
    Image.new("RGB", (64, 64), "white").save(folder / "conf/masks/0.png")
    assert make_planner(recipe, folder / "work").step("s").key != before


def test_numbered_folders_do_not_count_where_names_mean_nothing(folder: Path) -> None:
    save(folder / "img/10_ink", 3)
    Path("r.yaml").write_text("base: tiny\nsteps:\n  s: {train: {images: {folder: img, plain_name: true}}}\n")
    with pytest.raises(RecipeError, match="'img' holds no pictures; name a folder inside it, such as img/10_ink"):
        make_planner("r.yaml").plan()
