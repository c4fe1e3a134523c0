"""Writes benchmarks/results/training.md from the JSON that the parts of the training benchmark left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results_page

Row = Mapping[str, Any]

PEERS = {"sdxl": ("peer-sdxl", "sd-scripts sdxl_train_network")}  # part of ours -> the peer's part and row
SD15 = ("peer", "sd-scripts train_network")
# (part, row, batch) of ours, and the bar on the peer's seconds over ours; None: measured and reported, no bar
BARS: tuple[tuple[str, str, int, float | None], ...] = (
    ("ours", "ours, graph", 1, 6.0),
    ("ours", "ours, graph", 4, 3.5),
    ("compile", "ours, compile and graph", 4, 5.0),
    ("sdxl", "SDXL, graph", 1, None),
    ("sdxl", "SDXL, graph", 4, None),
)
LIMITS = (
    ("memory", "SD1.5: load and encode", 6.0),
    ("memory", "SD1.5, checkpointing, graph on", 6.0),
    ("sdxl", "SDXL: load and encode", 12.0),
    ("sdxl", "SDXL, small card: checkpointing, UNet only, graph", 12.0),
    ("sdxl", "SDXL, small card: checkpointing, UNet only, AdamW8bit, graph off", 12.0),
)


def write(folder: Path, target: Path) -> None:
    """Tables of every part there is, then each bar beside the figure that it is about."""
    parts = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    parts = {part: rows for part, rows in parts.items() if part == "cpu" or not _rehearsed(rows)}
    lines = [
        "# Training",
        "",
        "Written by `python -m benchmarks.training --report` from its own runs; what each part does is in its head.",
        "Seconds a step are medians of the second half of a run; `start` is what the first steps (warm-up, capture,",
        "compilation) cost on top of that. Weights are random, of the real models' sizes. A row with `peer_s_per_step`",
        "is of an earlier run than the others, and is compared with the peer in that run.",
        "",
        *_bars(parts),
    ]
    for part, rows in parts.items():
        lines += [f"## {part}", "", *_table(rows), ""]
    results_page.write(target, "\n".join(lines))


def _bars(parts: Mapping[str, Sequence[Row]]) -> list[str]:
    """The table of bars; empty where nothing was measured.

    A row of another run than the peer's carries the peer's seconds of its own run as ``peer_s_per_step``.
    """
    lines = ["| bar | figure | |", "|---|---|---|"]
    for part, name, batch, bar in BARS:
        peer_part, peer_name = PEERS.get(part, SD15)
        ours = _find(parts.get(part, ()), name, batch)
        peer = _find(parts.get(peer_part, ()), peer_name, batch)
        if ours and peer and ours["device"] == peer["device"]:
            ratio = ours.get("peer_s_per_step", peer["s_per_step"]) / ours["s_per_step"]
            wanted = f": at least {bar} x sd-scripts' steps/s" if bar else " against sd-scripts' steps/s"
            lines.append(f"| {name}, batch {batch}{wanted} | {ratio:.2f} x | {_verdict(ratio >= bar) if bar else ''} |")
            memory = ours["peak_gib"] / peer["peak_gib"]
            lines.append(f"| the same, at most 1.1 x its peak memory | {memory:.2f} x | {_verdict(memory <= 1.1)} |")
    for row in parts.get("check", ()):
        if "equal_to_the_bit" in row and row["name"].startswith("graph against eager"):
            lines.append(
                f"| {row['name']}: the same weights after {row['steps']} steps | {row['weights']:.2g} apart | "
                f"{_verdict(row['equal_to_the_bit'] or row['weights'] < 1e-4)} |"
            )
    for row in parts.get("cpu", ()):
        lines.append(
            f"| {row['name']}, batch {row['batch']}: no slower than bare diffusers + PEFT | "
            f"{row['ratio']:.2f} x its steps/s | {_verdict(row['ratio'] >= 1)} |"
        )
    for part, name, limit in LIMITS:
        measured = _find(parts.get(part, ()), name, None)
        if measured:
            peak = measured["peak_gib"]
            lines.append(f"| {name}: within {limit:g} GiB | {peak:.2f} GiB | {_verdict(peak <= limit)} |")
    several = [row for row in parts.get("ddp", ()) if "images_per_s" in row]
    if len(several) == 2:
        ratio = several[1]["images_per_s"] / several[0]["images_per_s"]
        lines.append(
            f"| two GPUs, four images each: at least 1.7 x one's images/s | {ratio:.2f} x | {_verdict(ratio >= 1.7)} |"
        )
    return [*lines, ""] if len(lines) > 2 else []


def _rehearsed(rows: Sequence[Row]) -> bool:
    """A GPU part that ran on a CPU shows that it runs, and nothing else."""
    return any(row["device"].startswith("CPU") for row in rows)


def _find(rows: Sequence[Row], name: str, batch: int | None) -> Row | None:
    return next((row for row in rows if row["name"] == name and batch in (None, row.get("batch"))), None)


def _table(rows: Sequence[Row]) -> list[str]:
    keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("log", "error")))
    lines = [f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
    return [*lines, *(f"| {' | '.join(_cell(row.get(key, '')) for key in keys)} |" for row in rows)]


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"
