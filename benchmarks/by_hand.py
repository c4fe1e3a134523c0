"""What a person wrote below the tables of a results page stays when the page is written again."""

from __future__ import annotations

from pathlib import Path

HEADING = "## By hand"


def write(page: Path, text: str) -> None:
    """Write ``text``, and below it what stands under :data:`HEADING` in the page that is there."""
    _, heading, kept = page.read_text(encoding="utf-8").partition(HEADING) if page.is_file() else ("", "", "")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{text.rstrip()}\n" + (f"\n{heading}{kept}" if heading else ""), encoding="utf-8")
    print(page)
