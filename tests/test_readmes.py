"""The three READMEs say the same: the same commands, code, pictures, links and chapters, in their own words."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
OTHERS = {"zh": "README.zh.md", "ru": "README.ru.md"}
_LINES = 150


def code(text: str) -> list[str]:
    """Blocks of code, without their comments, which are words."""
    blocks = re.findall(r"```\w+\n(.*?)```", text, re.DOTALL)
    return [re.sub(r"\s+#.*", "", block) for block in blocks]


def targets(text: str) -> Counter[str]:
    """What links and pictures lead to; a README's links to its other languages are left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return Counter(target for target in found if not target.startswith("README"))


def first_cells(text: str) -> list[str]:
    """The commands that the table of commands names."""
    return re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)


def numbers(text: str) -> Counter[str]:
    """Figures of the table of other tools."""
    table = re.search(r"^\|[^|]*\| SuperMerger.*?\n\n", text, re.DOTALL | re.MULTILINE)
    assert table is not None
    return Counter(re.findall(r"[-+]?\d+(?:[.,]\d+)?", table[0].replace(",", ".")))


@pytest.mark.parametrize("language", OTHERS)
def test_another_languages_readme_says_the_same(language: str) -> None:
    text = (ROOT / OTHERS[language]).read_text(encoding="utf-8")
    assert code(text) == code(ENGLISH)
    assert targets(text) == targets(ENGLISH)
    assert first_cells(text) == first_cells(ENGLISH)
    assert text.count("\n## ") == ENGLISH.count("\n## ")
    assert f"]({OTHERS[language]})" in ENGLISH


@pytest.mark.parametrize("name", ["README.md", *OTHERS.values()])
def test_a_readme_is_short_enough_to_be_read(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < _LINES
