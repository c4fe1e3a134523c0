"""``benchmarks/results/full.md``, from the parts' JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(folder: Path, out: Path) -> None:
    """One table a part that has been measured."""
    lines = ["# Training all weights", "", "Made by `python -m benchmarks.full`; what each part is, its help says.", ""]
    for path in sorted(folder.glob("*.json")):
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("log", "start_s", "error")))
        lines += [f"## {path.stem}", "", f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
        lines += [f"| {' | '.join(_shown(row.get(key, '')) for key in keys)} |" for row in rows]
        lines.append("")
    out.write_text("\n".join(lines), encoding="utf-8")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
