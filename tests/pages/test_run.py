"""Commands of the documentation run, page by page and in order, in a folder of the page's own, on the pocket base."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from loratools.cli import cli
from tests.pages.scenes import make
from tests.recipe.test_shipped import smaller
from tools.pages import ROOT, Block, Command, blocks, name_of, pages

pytestmark = pytest.mark.slow
RUN = [page for page in pages() if any(block.commands and not block.remarks.skip for block in blocks(page))]


def arguments(command: Command, block: Block) -> list[str]:
    """A command's arguments with the options (and their values) that the page adds for this test, or gives others."""
    assert command.ours is not None
    words = list(command.ours)
    for name, options in block.remarks.added.items():
        parts = name.split()
        if words[: len(parts)] == parts:
            for option, value in zip(options[::2], options[1::2], strict=True):
                if option in words and option != "--set":  # in its place: one that may be repeated would add to it
                    words[words.index(option) + 1] = value
                else:
                    words += [option, value]
    return words


def run(command: Command, block: Block, *, last: bool) -> str:
    """Run one command; returns what is wrong with how it ended."""
    if command.words[0] == "cp":
        shutil.copy(command.words[1], command.words[2])
        return ""
    words, begun = arguments(command, block), time.perf_counter()
    done = CliRunner().invoke(cli, words, input=block.remarks.typed or None)
    print(f"{time.perf_counter() - begun:6.1f} s  {command}")
    if done.exit_code == (block.remarks.exit_code if last else 0):
        return ""
    return f"line {command.line}: {command}\nadded: {words}\nended with {done.exit_code}:\n{done.output[-2000:]}"


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for recipe in sorted((ROOT / "recipes").glob("*.yaml")):
        (tmp_path / "recipes" / recipe.name).write_text(smaller(recipe.read_text(encoding="utf-8")), encoding="utf-8")
    for block in blocks(page):
        for scene in block.remarks.scenes:
            make(scene, tmp_path)
        if block.remarks.file:
            place = tmp_path / block.remarks.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.text, encoding="utf-8")
        if not block.remarks.skip:
            for command in block.commands:
                assert not (wrong := run(command, block, last=command is block.commands[-1])), wrong
