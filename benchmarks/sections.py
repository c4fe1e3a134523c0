"""Results pages of several sections, each written by a run of its own: the others stay as they are."""

from __future__ import annotations

from pathlib import Path

from benchmarks import by_hand


def split(page: str) -> dict[str, str]:
    """The sections of a page by their headings, each with its heading; what was written by hand is none of them."""
    own = page.partition(by_hand.HEADING)[0].split("\n## ")[1:]
    return {text.partition("\n")[0]: f"## {text.strip()}" for text in own}


def put(page: Path, heading: str, text: str) -> None:
    """Write ``text`` as the section ``heading`` of ``page``, in the place of an earlier one or after all others."""
    before = page.read_text(encoding="utf-8") if page.is_file() else "# Parity\n"
    head = before.partition(by_hand.HEADING)[0].partition("\n## ")[0].rstrip()
    own = split(before) | {heading: f"## {heading}\n\n{text.strip()}"}
    by_hand.write(page, "\n\n".join([head, *own.values()]))
