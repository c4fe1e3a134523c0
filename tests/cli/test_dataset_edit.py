"""``loratools dataset edit`` as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from loratools.cli.app import LazyGroup
from loratools.dataset.edits.written import read_edit

CAPTIONS = {"a": "1girl, blue hair, highres", "b": "1girl, blue hair, smile", "c": "1girl, shirt, white shirt"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, caption in CAPTIONS.items():
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(caption, encoding="utf-8")
    return tmp_path


def run(*words: object) -> Result:
    return CliRunner().invoke(LazyGroup(name="loratools"), ["dataset", "edit", *map(str, words)])


def texts(folder: Path) -> list[str]:
    return [path.read_text(encoding="utf-8").strip() for path in sorted(folder.glob("*.txt"))]


def test_it_is_shown_then_done_then_undone(folder: Path) -> None:
    shown = run(folder, "remove", "blue_hair", "--where", "share>40% and not smile")
    assert shown.exit_code == 0 and texts(folder) == list(CAPTIONS.values())
    assert "1 of 3 captions change" in shown.output and "--yes does it" in shown.output
    assert "    - 1girl, blue hair, highres\n    + 1girl, highres" in shown.output
    assert "nothing was written" in run(folder, "trigger", "ink", "--yes", "--dry-run").output
    assert "done, as edit 1" in run(folder, "trigger", "ink", "--yes").output
    assert texts(folder)[0] == "ink, 1girl, blue hair, highres"
    assert "1  20" in run(folder, "log").output
    assert "3 captions are as they were" in run(folder, "undo").output
    assert texts(folder) == list(CAPTIONS.values())
    assert "trigger word ink (undone)" in run(folder, "log").output


def test_prune_shows_core_tags_with_their_shares(folder: Path) -> None:
    result = run(folder, "prune", "--junk", "--overlaps", "--core", "50%", "--yes")
    assert "core tags: blue hair 67%" in result.output
    assert texts(folder) == ["1girl", "1girl, smile", "1girl, white shirt"]


def test_every_action_and_its_json(folder: Path) -> None:
    for words in (
        ["add", "hat", "--at", "2"],
        ["replace", "hat", "cap"],
        ["move", "cap", "--to", "end"],
        ["sort", "--by", "name"],
    ):
        result = run(folder, *words, "--yes", "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["edit"]["edit"]["kind"] == words[0]
    assert texts(folder)[0] == "1girl, blue hair, cap, highres"
    (folder / "d.txt").write_text("zebra, 1girl")
    Image.new("RGB", (8, 8)).save(folder / "d.png")
    assert (
        json.loads(run(folder, "replay", "--yes", "--json").output)["captions"]["d.png"]["after"] == "1girl, cap, zebra"
    )


def test_words_in_chinese(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    table = tmp_path_factory.mktemp("words") / "zh.csv"
    table.write_text("blue_hair,0,12345,蓝发|蓝色头发\nsmile,微笑\n", encoding="utf-8")
    result = run(folder, "remove", "蓝色头发", "--where", "not 微笑", "--translations", table, "--yes")
    assert "removed: blue hair (蓝发) (1, 33%)" in result.output
    assert texts(folder)[:2] == ["1girl, highres", "1girl, blue hair, smile"]


def test_the_log_as_a_recipes_edits(folder: Path) -> None:
    run(folder, "remove", "blue_hair", "--where", "not smile", "--yes")
    run(folder, "trigger", "ink", "--yes")
    run(folder, "undo")
    value = yaml.safe_load(run(folder, "log", "--as-recipe").output)
    assert [read_edit(each).edit.text() for each in value["edits"]] == ["remove blue hair where not smile"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["remove", "x", "--where", "(smile"], "a closing bracket is missing"),
        (["remove", "x", "--where", "shar>1"], "did you mean 'share'"),
        (["add", "x", "--at", "middle"], "the place 'middle' is none"),
        (["prune"], "say what to prune"),
        (["prune", "--core", "many"], "is no share"),
        (["prune", "--implications", "none.csv"], "cannot be read"),
        (["remov", "x"], "no command 'remov'"),
        (["undo"], "nothing to undo"),
    ],
)
def test_mistakes(folder: Path, words: list[str], message: str) -> None:
    result = run(folder, *words)
    assert result.exit_code in (1, 2) and message in result.output
    assert texts(folder) == list(CAPTIONS.values())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no folder" in run(tmp_path / "none", "trigger", "ink").output
