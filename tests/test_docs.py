"""The documentation's own promises: what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _names() -> list[str]:
    """Files and folders that the map of the code names in code type, as ``room/...``."""
    rooms = [path.name for path in (ROOT / "loratools").iterdir() if path.is_dir()]
    return sorted(set(re.findall(rf"`((?:{'|'.join(rooms)})/[\w/.-]+)`", ARCHITECTURE)))


@pytest.mark.parametrize("name", _names())
def test_the_map_of_the_code_names_what_is_there(name: str) -> None:
    assert (ROOT / "loratools" / name).exists()


def test_the_map_names_every_room() -> None:
    for room in (path.parent.name for path in (ROOT / "loratools").glob("*/__init__.py")):
        assert re.search(rf"[├┌└]─ {room} ─", ARCHITECTURE), f"loratools/{room} is not on the map"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_of_a_page_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


def _messages() -> list[str]:
    """Messages that the page about errors explains, as it writes them: `...` stands for what differs."""
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"\*\*`([^`]+)`\*\*", page)


def test_the_page_about_errors_explains_messages_that_there_are() -> None:
    sources = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "loratools").rglob("*.py")))
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)  # one text over several lines
    messages = _messages()
    assert len(messages) > 20
    pieces = [piece.strip() for message in messages for piece in message.split("...") if len(piece.strip()) > 7]
    assert [piece for piece in pieces if piece not in joined] == []
