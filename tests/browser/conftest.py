"""A browser for the tests of this folder, and the grid that they look at. ``pytest tests/browser`` runs them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loratools.preview.page import write_page
from tests.browser.chrome import Page, chrome
from tests.preview.page.pages import page_grid


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chrome(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, tmp_path: Path) -> Iterator[Page]:
    """A fresh grid (its folder is ``tmp_path``) in the browser; a script that throws fails the test."""
    write_page(tmp_path, page_grid(tmp_path))
    browser.problems.clear()
    browser.open(tmp_path / "grid.html")
    browser.js("localStorage.clear()")
    browser.open(tmp_path / "grid.html")
    yield browser
    assert browser.problems == []
