"""Every picture of the documentation has a command that makes it, and is shown somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from tests.pages.test_commands import parse
from tools.pages import ROOT, blocks, pages
from tools.pictures.table import PICTURES, Picture

DOCS = ROOT / "docs"
KINDS = ("png", "webp", "jpg", "svg", "gif")


def test_every_picture_is_in_the_table_and_on_a_page() -> None:
    there = {path.relative_to(DOCS).as_posix() for kind in KINDS for path in DOCS.rglob(f"*.{kind}")}
    shown = {
        (page.parent / target).resolve().relative_to(DOCS).as_posix()
        for page in pages()
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        if (page.parent / target).resolve().is_relative_to(DOCS)
    }
    assert there == {picture.name for picture in PICTURES} == shown
    assert len(PICTURES) == len(there)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_its_commands_are_there(picture: Picture) -> None:
    assert bool(picture.commands) != bool(picture.page) and (picture.made or picture.earlier)
    for command in map(shlex.split, picture.commands):
        if command[0] == "loratools":
            parse(command[1:])
        else:
            assert command[:2] == ["python", "-m"] and importlib.util.find_spec(command[2])
    if picture.page:
        asked = [block for block in blocks(ROOT / picture.page) if block.commands and picture.until in block.text]
        made = [shlex.join(command.words) for block in blocks(ROOT / picture.page) for command in block.commands]
        assert asked and any(f"-o {Path(picture.made).parent.as_posix()}" in command for command in made)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blocks-gp1.png", "dataset-prepare.webp"])
def test_a_picture_that_takes_no_model_is_what_its_commands_make(name: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tools.pictures", name, "--work", tmp_path / "work", "--out", tmp_path]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    with Image.open(tmp_path / name) as made, Image.open(DOCS / name) as shown:
        assert made.size == shown.size
        assert (
            max(high for _, high in ImageChops.difference(made.convert("RGB"), shown.convert("RGB")).getextrema()) < 40
        )
