"""What a recipe does beside merging: extract and merge_into as inverses, select by votes, publish."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import Provenance
from loratools.adapter.files.rewrite_header import rewrite_header
from loratools.adapter.header import read_header
from loratools.base.infotext import read_png
from loratools.errors import FileError, FormatError, RecipeError
from loratools.files import sha256
from loratools.recipe.observer import StepResult
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lineage import lineage_of
from loratools.recipe.publish.card import triggers
from loratools.recipe.publish.public import public_text
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.yamlio import load_yaml
from tests.recipe.conftest import MODULES, save_lora

UNET = [name for name in MODULES if name.startswith("unet.")]


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    save_lora(here / "a.safetensors", 1)
    return here


def run(text: str, only: list[str] | None = None, *, force: bool = False) -> dict[str, StepResult]:
    Path("r.yaml").write_text("base: tiny\nsteps:\n" + text, encoding="utf-8")
    planner = make_planner("r.yaml", Path("work"))
    ran = run_steps(planner.plan(only), Path("work"), RunContext(device="cpu", force=force))
    return {done.planned.name: done for done in ran}


def test_what_is_merged_into_a_model_is_extracted_again(folder: Path) -> None:
    text = (
        '  into: {merge_into: {terms: "a:0.5:te=0", into: base}}\n'
        "  back: {extract: {tuned: into, base: BASE, rank: error=0.001, dtype: fp32}}\n"
    ).replace("BASE", "tiny/unet/diffusion_pytorch_model.safetensors")
    run(text)
    lora = read("a.safetensors")
    with (
        safe_open("tiny/unet/diffusion_pytorch_model.safetensors", "pt") as before,  # type: ignore[no-untyped-call]
        safe_open("work/into.safetensors", "pt") as after,  # type: ignore[no-untyped-call]
    ):
        for key in before.keys():  # noqa: SIM118
            name = f"unet.{key.removesuffix('.weight')}"
            asked = 0.5 * lora[name].dense(torch.float64) if name in lora else torch.zeros(())
            difference = after.get_tensor(key).double() - before.get_tensor(key).double()
            assert (
                difference - asked.reshape(difference.shape) if name in lora else difference
            ).norm() <= 1e-6 * asked.norm() + 1e-9
    back = read("work/back.safetensors")
    assert set(back) == set(UNET)
    for name in UNET:
        asked = 0.5 * lora[name].dense(torch.float64)
        assert (back[name].dense(torch.float64) - asked).norm() <= 2e-3 * asked.norm()


def test_a_grid_draws_what_its_options_say(folder: Path) -> None:
    Path("mine.yaml").write_text("MINE: ALL\n", encoding="utf-8")
    text = (
        "  sheet: {grid: {rows: ['a:1:MINE'], presets: mine.yaml, weights: '0,1', prompts: x, steps: 1,\n"
        "    sampler: Euler, size: 64, title: My sheet, labels: {'1': whole}, captions: [one, two],\n"
        "    sheets: webp, full_size: true, embed: true, sliced: true, tiled: false, offload: false, compile: false}}\n"
    )
    run(text)
    record = json.loads(Path("work/sheet/grid.json").read_text(encoding="utf-8"))
    assert record["title"] == "My sheet" and list(record["captions"]) == ["one", "two"]
    assert Path("work/sheet/grid.webp").is_file() and '"whole"' in json.dumps(record)
    assert "data:image/" in Path("work/sheet/grid.html").read_text(encoding="utf-8")
    assert run(text.replace("sliced: true", "sliced: false"))["sheet"].cached  # of no result's business
    assert not run(text.replace("My sheet", "Another"))["sheet"].cached
    with pytest.raises(RecipeError, match="'full_size' goes with 'sheets'"):
        run(text.replace("sheets: webp, ", ""))


def test_block_weights_of_a_subtraction_may_be_a_list(folder: Path) -> None:
    save_lora(folder / "b.safetensors", 2)
    numbers = [0.5] * 17
    run(
        "  one: {subtract: {style: a, base_style: b, blocks: " + json.dumps(numbers) + "}}\n"
        "  two: {subtract: {style: a, base_style: b, blocks: '" + ",".join(map(str, numbers)) + "'}}\n"
    )
    assert read("work/one.safetensors").digest == read("work/two.safetensors").digest


def test_a_dora_and_unknown_keys_are_merged_into_a_model_on_request(folder: Path) -> None:
    tensors = load_file("a.safetensors")
    save_file({**tensors, "odd.weight": torch.zeros(1)}, "odd.safetensors")
    text = '  into: {merge_into: {terms: "odd:1:te=0", into: base}}\n'
    with pytest.raises(FormatError, match="odd"):
        run(text)
    run(text.replace("into: base", "into: base, allow_unknown: true, dora: true"))
    assert Path("work/into.safetensors").is_file()


def votes(path: Path, *, stars: dict[str, int]) -> None:
    """An export of grid.html: one cell for each label, with its stars."""
    cells = {
        label: {"at": {"adapter": label, "weight": "1", "prompt": "x", "seed": "1"}, "file": ""} for label in stars
    }
    votes = {"format": "loratools votes 1", "grid": {}, "saved": "", "cells": cells, "stars": stars, "pairs": []}
    path.write_text(json.dumps(votes), encoding="utf-8")


@pytest.mark.parametrize(
    ("stars", "chosen"),
    [({"x@1": 2, "x@2": 5, "x@3": 3, "final": 5}, 2), ({"x@1": 4, "other@3": 5, "x@3": 1}, 1)],
)
def test_votes_choose_the_epoch(folder: Path, stars: dict[str, int], chosen: int) -> None:
    for number in (1, 2, 3):
        save_lora(folder / f"runs/x/x-{number:06d}.safetensors", number)
    votes(folder / "votes.json", stars=stars)
    run("  best: {select: {run: runs/x, votes: votes.json}}\n")
    assert sha256("work/best.safetensors") == sha256(f"runs/x/x-{chosen:06d}.safetensors")


def test_votes_for_nothing_are_located(folder: Path) -> None:
    save_lora(folder / "runs/x/x-000001.safetensors", 1)
    votes(folder / "votes.json", stars={"final": 5})
    with pytest.raises(
        RecipeError, match=r"r\.yaml, line 3: .*votes for epochs of runs/x; its rows are final"
    ) as error:
        run("  best: {select: {run: runs/x, votes: votes.json}}\n")
    assert "^" in error.value.excerpt


def test_what_is_published_names_no_folder_of_this_machine(folder: Path, tiny_base: Path) -> None:
    """Paths that a recipe names whole stand in the header of its results: in what is handed out, names alone."""
    save_lora(folder / "my files" / "a.safetensors", 1)
    place = (folder / "my files").as_posix()
    text = (
        f"base: {tiny_base.as_posix()}\nlora_dirs: ['{place}']\nsteps:\n"
        f"  first: {{merge: '\"{place}/a.safetensors\":0.8, a:0.1'}}\n"
        "  final: {resize: first}\n"
        "  sheet: {grid: {rows: [final], weights: 1, prompts: x, size: 64, steps: 1}}\n"
        "  drawn: {publish: {lora: final, size: 64, steps: 1, thumbnail: true}}\n"
        "  shown: {publish: {lora: final, preview: sheet}}\n"
    )
    recipe = folder / "my files" / "r.yaml"
    recipe.write_text(text, encoding="utf-8")
    done = run_steps(make_planner(str(recipe), Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    (kept,) = [result.planned.out for result in done if result.planned.name == "final"]
    assert place in kept.read_bytes().decode("utf-8", "replace")
    for name in ("drawn", "shown"):
        file = Path("work") / name / f"{name}.safetensors"
        assert read(file).digest == read(kept).digest
        lineage = lineage_of(file)
        assert lineage is not None and lineage.data["base"] == "tiny" and lineage.data["lora_dirs"] == ["my files"]
        assert lineage.data["steps"]["first"]["merge"] == '"a.safetensors":0.8, a:0.1'
        picture, made = read_png(file.with_suffix(".png"))
        assert "Steps: 1" in picture and made
        for one in file.parent.rglob("*"):
            content = one.read_bytes() if one.is_file() else b""
            assert not any(str(own).encode() in content for own in (place, tiny_base.parent)), one


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/home/ann/my loras/ink.safetensors", "ink.safetensors"),
        ("C:\\Users\\Ann\\ink.safetensors", "ink.safetensors"),
        ("\\\\nas\\share\\ink", "ink"),
        ("~/loras/ink:1:GP1, b:-1", "ink:1:GP1, b:-1"),
        ("/home/ann/ink:1,C:/Users/Ann/b:0.5", "ink:1,b:0.5"),
        ("/home/Doe, Ann/pictures/", "pictures"),
        ("loras/ink:1", "loras/ink:1"),
        ("runwayml/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("1girl, \\m/, and/or, a / b", "1girl, \\m/, and/or, a / b"),
    ],
)
def test_absolute_paths_lose_their_folders(text: str, public: str) -> None:
    assert public_text(text) == public


def test_publish_renders_and_tells(folder: Path) -> None:
    text = (
        '  final: {merge: "a:0.8"}\n'
        "  my_style:\n"
        "    publish: {lora: final, title: My style, description: A test, weight: 0.7,\n"
        "              activation: 'ink_style, 1girl', negative: blurry, notes: See | this, author: me,\n"
        "              license: cc-by-4.0, base_model: some/base, prompt: 'ink_style, smile', seed: 4,\n"
        "              size: 64, steps: 1, sampler: Euler}\n"
    )
    run(text)
    made = Path("work/my_style")
    assert sorted(path.name for path in made.iterdir() if not path.name.startswith(".")) == [
        "README.md",
        "my_style.json",
        "my_style.png",
        "my_style.safetensors",
    ]
    assert json.loads((made / "my_style.json").read_text(encoding="utf-8")) == {
        "description": "A test",
        "sd version": "SD1",
        "activation text": "ink_style, 1girl",
        "preferred weight": 0.7,
        "negative text": "blurry",
        "notes": "See | this",
    }
    lora, final = read(made / "my_style.safetensors"), read("work/final.safetensors")
    assert lora.digest == final.digest == lora.metadata["sshs_model_hash"]
    assert (lora.metadata["ss_output_name"], lora.metadata["modelspec.license"]) == ("my_style", "cc-by-4.0")
    assert Provenance.from_metadata(lora.metadata) == Provenance.from_metadata(final.metadata)
    parameters, _ = read_png(made / "my_style.png")
    assert "ink_style, smile" in parameters and "<lora:my_style:0.7>" in parameters and "Seed: 4" in parameters
    with Image.open(made / "my_style.png") as image:
        assert image.size == (64, 64)
    card = (made / "README.md").read_text(encoding="utf-8")
    front = load_yaml(card.split("---")[1]).data
    assert front["license"] == "cc-by-4.0" and front["base_model"] == "some/base"
    assert front["widget"][0]["output"]["url"] == "my_style.png"
    assert "# My style" in card and "`a.safetensors` x 0.8" in card and "| M00 | 1 |" in card
    assert all(done.cached for done in run(text).values())


def test_publish_shows_a_grids_cell_or_a_picture(folder: Path) -> None:
    Image.new("RGB", (8, 8), "red").save("p.jpg")
    text = (
        '  final: {merge: "a:1"}\n'
        "  sheet: {grid: {rows: [a, final], weights: '0.5,1', prompts: x, steps: 1, sampler: Euler, size: 64}}\n"
        "  one: {publish: {lora: final, preview: sheet, weight: 0.6}}\n"
        "  two: {publish: {lora: a, preview: p.jpg, activation: x, name: named, thumbnail: true}}\n"
        "  three: {publish: {lora: a, preview: none}}\n"
    )
    run(text)
    assert Path("work/one/one.png").read_bytes() == (Path("work/sheet") / _file("final", 0.5)).read_bytes()
    with Image.open("work/two/named.png") as image:
        assert image.format == "PNG" and image.size == (8, 8)
    named, one = read("work/two/named.safetensors"), read("work/one/one.safetensors")
    assert named.metadata["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    assert named.digest == read("a.safetensors").digest and "modelspec.thumbnail" not in one.metadata
    assert named.metadata["sshs_model_hash"] == named.digest
    assert {path.name for path in Path("work/three").iterdir()} >= {"three.safetensors", "three.json", "README.md"}
    assert not list(Path("work/three").glob("*.png"))
    with pytest.raises(RecipeError, match="'thumbnail' puts the preview into the header"):
        run(text.replace("preview: none", "preview: none, thumbnail: true"))
    with pytest.raises(RecipeError, match="no row 'b'; name one of its rows with `row`: a, final"):
        run(text.replace("preview: sheet, weight: 0.6", "preview: sheet, row: b"), ["one"])
    save_lora(folder / "b.safetensors", 9)  # a file may be one of the rows by another name, until they are there
    with pytest.raises(FileError, match="no row 'b'; name one of its rows with `row`: a, final"):
        run(text.replace("lora: final, preview: sheet", "lora: b, preview: sheet"), ["one"])


def _file(label: str, weight: float) -> str:
    record = json.loads(Path("work/sheet/grid.json").read_text(encoding="utf-8"))
    row = [entry["label"] for entry in record["rows"]].index(label)
    return next(cell["file"] for cell in record["cells"] if cell["row"] == row and cell["weight"] == weight)


def test_publish_overwrites_its_own_folder_only(folder: Path) -> None:
    text = "  out: {publish: {lora: a, preview: none, weight: 1}}\n"
    run(text)
    run(text.replace("weight: 1", "weight: 0.5"))
    assert json.loads(Path("work/out/out.json").read_text(encoding="utf-8"))["preferred weight"] == 0.5
    foreign = folder / "work/other/mine.txt"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    with pytest.raises(FileError, match="force=True"):
        run(text.replace("  out:", "  other:"))
    assert foreign.read_text() == "mine"
    assert sorted(path.name for path in foreign.parent.iterdir()) == ["mine.txt"]
    assert not list(Path("work").glob(".*.part"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("lora: b", "'b' is no step"),
        ("lora: a, preview: final", "the step 'final' is a merge, which shows no pictures"),
        ("lora: a, preview: r.yaml", "is no picture"),
        ("lora: a, preview: none, prompt: x", "'prompt' goes with preview: render"),
        ("lora: a, row: x", "'row' goes with a preview that is a grid"),
        ("lora: a, weight: 3", "it must be 2 or less"),
        ("lora: a, sampler: Eular", "Euler"),
        ("lora: a, licence: x", "(did you mean 'license'?)"),
    ],
)
def test_publish_mistakes_are_located(folder: Path, options: str, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        run(f'  final: {{merge: "a:1"}}\n  out: {{publish: {{{options}}}}}\n')
    assert words in str(error.value) and str(error.value).startswith("r.yaml, line 4")
    assert "^" in error.value.excerpt


def test_triggers_are_the_tags_of_every_picture() -> None:
    tags = {"ink": {"ink_style": 12, "1girl": 12, "smile": 5}, "more": {"ink_style": 3, "hat": 2}}
    texts = {
        "ss_tag_frequency": json.dumps(tags),
        "ss_dataset_dirs": json.dumps({"ink": {"n_repeats": 2, "img_count": 12}, "more": {"img_count": 3}}),
    }
    assert triggers(texts) == ("ink_style", "1girl")
    assert triggers({"modelspec.trigger_phrase": "a, b"}) == ("a", "b")
    assert triggers({"ss_tag_frequency": "no json"}) == ()


def test_a_relabelled_file_is_the_very_file_that_would_have_been_written(folder: Path) -> None:
    run('  final: {merge: "a:1"}\n  other: {merge: "a:1"}\n')
    header = read_header("work/final.safetensors")
    rewrite_header("work/final.safetensors", "new.safetensors", dict(header.metadata))
    assert sha256("new.safetensors") == sha256("work/final.safetensors")
    texts = {
        key: text for key, text in read_header("work/other.safetensors").metadata.items() if not key.startswith("sshs_")
    }
    rewrite_header("work/final.safetensors", "renamed.safetensors", texts)
    assert sha256("renamed.safetensors") == sha256("work/other.safetensors")
