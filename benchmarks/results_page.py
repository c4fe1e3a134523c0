"""A results page: its sections, each written by a run of its own, and what a person wrote below them, which stays."""

from __future__ import annotations

from pathlib import Path

HEADING = "## By hand"


def write(page: Path, text: str) -> None:
    """Write ``text``, and below it what stands under :data:`HEADING` in the page that is there."""
    _, heading, kept = page.read_text(encoding="utf-8").partition(HEADING) if page.is_file() else ("", "", "")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{text.rstrip()}\n" + (f"\n{heading}{kept}" if heading else ""), encoding="utf-8")
    print(page)


def split(page: str) -> dict[str, str]:
    """The sections of a page by their headings, each with its heading; what was written by hand is none of them."""
    own = page.partition(HEADING)[0].split("\n## ")[1:]
    return {text.partition("\n")[0]: f"## {text.strip()}" for text in own}


def put(page: Path, heading: str, text: str) -> None:
    """Write ``text`` as the section ``heading`` of ``page``, in the place of an earlier one or after all others."""
    before = page.read_text(encoding="utf-8") if page.is_file() else "# Parity\n"
    head = before.partition(HEADING)[0].partition("\n## ")[0].rstrip()
    own = split(before) | {heading: f"## {heading}\n\n{text.strip()}"}
    write(page, "\n\n".join([head, *own.values()]))
