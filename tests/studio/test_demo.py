"""``studio --demo``: what is there at once, what is queued, and what the next folder gets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from loratools.cli.studio.studio import command
from loratools.errors import FileError
from loratools.files import user_cache
from loratools.recipe.schema.recipe import read_recipe
from loratools.studio import serve
from loratools.studio.context import Options
from loratools.studio.demo import FOLDER, prepare
from loratools.version import __version__
from tests.loras import lora_tensors, save
from tests.studio.served import served


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATOOLS_CACHE", str(tmp_path / "cache"))


def finish(folder: Path) -> None:
    """What the jobs would have left."""
    (folder / "ink").mkdir()
    for number in range(1, 6):
        save(folder / f"ink/ink-{number:06d}.safetensors", lora_tensors(rank=2, seed=number))
    (folder / "ink/ink.jsonl").write_text('{"kind": "run", "owner": "train:ink", "settings": {"epochs": 5}}\n')
    (folder / "ink/ink.verdict.json").write_text("{}")
    (folder / "epochs").mkdir()
    (folder / "epochs/grid.json").write_text("{}")


def test_pictures_and_a_recipe_are_there_at_once_and_the_rest_is_queued(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    train, verdict, grid = prepare(folder)
    pictures = sorted((folder / "pictures").glob("*.png"))
    assert len(pictures) == 16 and all(
        path.with_suffix(".txt").read_text().startswith("ink_style") for path in pictures
    )
    assert Image.open(pictures[0]).size == (128, 128)
    assert train.text.startswith("loratools train --base pocket --images pictures -o ink --name ink")
    assert verdict.text == "loratools epochs ink/ink --base pocket" and verdict.run == folder / "ink/ink"
    assert grid.text.startswith("loratools grid ink/ink --base pocket") and train.heavy and grid.heavy
    read_recipe(folder / "style.yaml")


def test_what_was_made_is_kept_for_the_next_folder(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    prepare(one)
    finish(one)
    assert prepare(one) == []
    (one / "style.yaml").write_text("mine")
    assert prepare(two) == []
    assert (two / "ink/ink-000005.safetensors").read_bytes() == (one / "ink/ink-000005.safetensors").read_bytes()
    assert (two / "style.yaml").read_text() != "mine"
    assert prepare(one) == [] and (one / "style.yaml").read_text() == "mine"


def test_a_run_without_a_verdict_is_judged_though_it_was_kept_by_an_earlier_version(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        prepare(folder)
        finish(folder)
    (one / "ink/ink.verdict.json").unlink()
    kept = user_cache(FOLDER) / __version__
    shutil.copytree(one, kept)
    assert [command.kind for command in prepare(one)] == ["epochs"]
    assert prepare(two) == [] and (kept / "ink/ink.verdict.json").exists()


@pytest.mark.slow
def test_its_jobs_are_queued_once(tmp_path: Path) -> None:
    here = served(tmp_path, options=Options(demo=True))
    for _ in range(2):
        serve._add_demo(here.studio)
    assert [record.title for record in here.studio.queue.jobs()] == [
        "train ink",
        "judge the epochs of ink",
        "epochs x weights",
    ]
    assert here.sign_in().client.get("/api/state").json()["demo"] is True


def test_its_folder_is_made_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, ...]] = []
    monkeypatch.setattr(serve, "serve", lambda folders, *given, **named: opened.append(tuple(folders)))
    folder = tmp_path / "new" / "demo"
    assert CliRunner().invoke(command, [str(folder), "--demo", "--no-browser"]).exit_code == 0
    assert opened == [(str(folder),)] and folder.is_dir()
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(command, [str(tmp_path / "file" / "demo"), "--demo", "--no-browser"])
    assert isinstance(done.exception, FileError) and "choose another place" in str(done.exception)
