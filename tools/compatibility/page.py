"""The table of docs/compatibility.md, written between its two marks from the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tools.compatibility.environment import ROOT, package_names
from tools.compatibility.record import Record

PAGE = ROOT / "docs/compatibility.md"
BEGIN, END = "<!-- made by python -m tools.compatibility table -->", "<!-- end of what is made -->"


def write(records: Mapping[str, Record], page: Path = PAGE) -> None:
    """Put the records' table into the page, and leave what a person wrote around it."""
    text = page.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    page.write_text(f"{head}{BEGIN}\n\n{table(records)}\n\n{END}{tail}", encoding="utf-8")


def table(records: Mapping[str, Record]) -> str:
    """The runs, then which versions each had."""
    ordered = [records[name] for name in sorted(records)]
    runs = [
        "| Python | versions | torch | modules imported | tests passed | skipped | failed | tree, date |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(own) for own in ordered),
    ]
    titles = " | ".join(own.name for own in ordered)
    versions = [f"| package | {titles} |", "|---|" + "---|" * len(ordered)]
    for name in package_names():
        cells = " | ".join(own.versions.get(name, "-") for own in ordered)
        versions.append(f"| {name} | {cells} |")
    return "\n".join([*runs, "", *versions])


def _row(own: Record) -> str:
    by_file = Counter(name.partition("::")[0].rpartition(".")[2] for name in own.failed)
    failed = ", ".join(f"{count} of `{name}`" for name, count in sorted(by_file.items())) or "none"
    return (
        f"| {own.python} | {own.resolution} | {own.versions.get('torch', '-')} | {own.modules} | {own.passed} | "
        f"{own.skipped} | {failed} | {own.commit}, {own.date} |"
    )
