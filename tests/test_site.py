"""What the documentation's site makes of the tree's pages and docstrings."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import click
import pytest

import loratools
from loratools.cli import cli

ROOT = Path(__file__).parents[1]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The site's two modules, without the packages of the extra [docs]; nothing is written anywhere."""
    import importlib
    import io

    files, griffe = ModuleType("mkdocs_gen_files"), ModuleType("griffe")
    written: dict[str, io.StringIO | io.BytesIO] = {}

    class Kept(io.StringIO):
        def close(self) -> None:
            """Stays readable."""

    class KeptBytes(io.BytesIO):
        def close(self) -> None:
            """Stays readable."""

    def opened(name: str, mode: str) -> io.StringIO | io.BytesIO:
        written[name] = KeptBytes() if "b" in mode else Kept()
        return written[name]

    files.open, griffe.Extension, griffe.Object = opened, object, object  # type: ignore[attr-defined]
    for name, module in {"mkdocs_gen_files": files, "griffe": griffe}.items():
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("tools.site.pages", "tools.site.docstrings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    pages, docstrings = (importlib.import_module(f"tools.site.{name}") for name in ("pages", "docstrings"))
    pages.written = written
    return pages, docstrings


def test_every_link_of_a_page_leads_to_a_page_of_the_site(site: tuple[Any, Any]) -> None:
    pages, _ = site
    for name, stream in pages.written.items():
        if not name.endswith(".md"):
            continue
        for target in re.findall(r"\]\(([^)#\s]+)", stream.getvalue()):
            if "://" not in target:
                there = pages._normal(PurePosixPath(name).parent / target).as_posix()
                assert there in pages.written or (ROOT / "docs" / there).is_file(), f"{name}: {target}"


def test_links_are_those_of_the_site_or_text(site: tuple[Any, Any]) -> None:
    pages, _ = site
    text = "[how](../docs/blocks.md#x) ![p](../docs/grid.png) [code](../loratools/errors.py) [w](https://a.b/c)"
    made = pages.with_links(text, PurePosixPath("benchmarks/x.md"), PurePosixPath("results/x.md"))
    assert made == "[how](../blocks.md#x) ![p](../grid.png) code [w](https://a.b/c)"


def test_every_page_of_docs_has_its_place(site: tuple[Any, Any]) -> None:
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    pages_of_docs = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages_of_docs <= named
    assert {name for name in named if "/" in name} <= set(site[0].written)


def test_docstrings_are_read_as_they_are_written(site: tuple[Any, Any]) -> None:
    _, docstrings = site
    text = "What.\n\nArgs:\n    a, b: as for :func:`~x.y.read`,\n        and more.\nReturns:\n    a number\n"
    assert docstrings.readable(text) == (
        "What.\n\nArgs:\n    a: as for `read`,\n        and more.\n    b: as for `read`,\n        and more.\n\n"
        "Returns:\n    a number\n"
    )


def test_the_references_are_complete(site: tuple[Any, Any]) -> None:
    written = {name: stream.getvalue() for name, stream in site[0].written.items() if name.endswith(".md")}
    page = written["reference/commands.md"]
    chapters = {line.strip("# ") for line in page.splitlines() if line.startswith("##")}
    for words, command, context in _commands(cli, click.Context(cli, info_name="loratools"), ()):
        assert context.command_path in chapters
        for option in command.get_params(context):
            if isinstance(option, click.Option) and not option.hidden:
                assert all(f"`{name}`" in page or name in ("-h", "--help") for name in option.opts), (
                    words,
                    option.opts,
                )
    assert "Sentinel" not in page and "`None`" not in page
    assert all(
        f".{name}\n" in written["reference/python.md"] for names in loratools._NAMES.values() for name in names.split()
    )


def _commands(
    group: click.Group, context: click.Context, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        own = click.Context(command, parent=context, info_name=name)
        yield (*words, name), command, own
        if isinstance(command, click.Group):
            yield from _commands(command, own, (*words, name))
