"""Pages that the site has beside ``docs``: README as its start, measured figures, and references made of the code.

mkdocs-gen-files runs this file while the site is built. Nothing is written into the tree; a page of ``docs`` that links
to what lies outside of it gets links that hold on the site, and plain text where the site has no such page.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path, PurePosixPath

import mkdocs_gen_files

import loratools

ROOT = Path(__file__).parents[2]
RESULTS, POCKET_CARD = ROOT / "benchmarks/results", "loratools/pocket/weights/README.md"
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)#\s]+)(#[^)]*)?\)")
_SHOWN = {".md", ".png", ".webp", ".txt", ".svg"}


def address(path: PurePosixPath) -> PurePosixPath | None:
    """Where a file of the tree is on the site; None where it is not there."""
    text = path.as_posix()
    if text == "README.md":
        return PurePosixPath("index.md")
    if text == POCKET_CARD:
        return PurePosixPath("pocket.md")
    for folder, there in (("docs", ""), ("benchmarks/results", "results")):
        if path.is_relative_to(folder) and path.suffix in _SHOWN:
            return PurePosixPath(there) / path.relative_to(folder)
    return None


def with_links(text: str, source: PurePosixPath, page: PurePosixPath) -> str:
    """Markdown of the tree's file ``source`` as the site's ``page``: links lead to pages of the site, or are text."""

    def link(match: re.Match[str]) -> str:
        picture, label, target, anchor = match.groups()
        if "://" in target:
            return match[0]
        there = address(_normal(source.parent / target))
        if there is None:
            return label
        return f"{picture}[{label}]({_relative(there, page.parent)}{anchor or ''})"

    return _LINK.sub(link, text)


def _normal(path: PurePosixPath) -> PurePosixPath:
    """Without ``..``."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return PurePosixPath(*parts)


def _relative(path: PurePosixPath, start: PurePosixPath) -> str:
    common = 0
    for one, other in zip(path.parts, start.parts, strict=False):
        if one != other:
            break
        common += 1
    return "/".join([".."] * (len(start.parts) - common) + list(path.parts[common:]))


def _copy_pages() -> None:
    files = [
        ROOT / "README.md",
        ROOT / POCKET_CARD,
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted(RESULTS.rglob("*")),
    ]
    for file in files:
        source = PurePosixPath(file.relative_to(ROOT).as_posix())
        page = address(source)
        if page is None or not file.is_file():
            continue
        if file.suffix == ".md":
            with mkdocs_gen_files.open(page.as_posix(), "w") as stream:
                stream.write(with_links(file.read_text(encoding="utf-8"), source, page))
        else:
            with mkdocs_gen_files.open(page.as_posix(), "wb") as stream:
                stream.write(file.read_bytes())


def _commands() -> None:
    """One page of all commands."""
    beside = runpy.run_path(str(Path(__file__).with_name("commands.py")))  # mkdocs does not look here for modules
    with mkdocs_gen_files.open("reference/commands.md", "w") as stream:
        stream.write(beside["reference"]())


def _python() -> None:
    """One page of what ``import loratools`` hands on, from docstrings."""
    with mkdocs_gen_files.open("reference/python.md", "w") as stream:
        stream.write("# Python\n\n`import loratools as lt`; [the library](../library.md) has examples.\n\n")
        for module, names in loratools._NAMES.items():
            for name in names.split():
                stream.write(f"::: loratools.{module}.{name}\n\n")


_copy_pages()
_commands()
_python()
