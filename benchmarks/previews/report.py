"""Writes benchmarks/results/previews.md from the JSON that the parts of the previews benchmark left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import results_page
from benchmarks.previews.bench import ROOT, Bench, Figure, Figures

RESULT = ROOT / "benchmarks/results/previews.md"


def report(keep: Path, parts: Mapping[str, Callable[[Bench], Figures]]) -> None:
    """Write the results page from every one of ``parts`` that is kept; what the page says of others stays."""
    lines = [
        "# Previews",
        "",
        "Written by `python -m benchmarks.previews --report` from its own runs; see it for what each part does.",
        "",
    ]
    before = results_page.split(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    for part in parts:
        path = keep / f"{part}.json"
        if not path.is_file():
            lines += [before[part], ""] if part in before else []
            continue
        record = json.loads(path.read_text())
        lines += [
            f"## {part}",
            "",
            f"{(parts[part].__doc__ or '').splitlines()[0]} ({record['machine']}, {record['seconds']:.0f} s)",
            "",
            "| | | bar | |",
            "|---|---|---|---|",
        ]
        for each in (Figure(**row) for row in record["figures"]):
            verdict = {None: "", True: "met", False: "**missed**"}[each.met]
            last = " ".join([verdict, each.note]).strip()
            lines.append(f"| {each.name} | {each.value:.4g} {each.unit} | {each.bar} | {last} |")
        lines.append("")
    results_page.write(RESULT, "\n".join(lines))
