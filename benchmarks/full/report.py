"""``benchmarks/results/full.md``, from the parts' JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import results_page

MOVED = (
    "`moved_gb` is what a step has to move at the least, no activation counted: weights read in both passes, gradients "
    "written and read, masters and states read and written; `floor_s` is the time of that at the speed of a copy."
)
TEXT = {
    "parity": (
        "One step of SD1.5, UNet and text encoder, random weights in full shapes, latents of 8 x 8, batch 2, "
        "the same noise, timesteps and tokens, float32 on a CPU; sd-scripts' side is its own UNet and the "
        "functions that `train_db.py` calls for a step. `gradient` is the largest over all tensors of |ours - "
        "theirs| / |theirs|, where the divisor is at least 1e-5 of the largest gradient: the attention of one "
        "token, which the middle block has at this size, has gradients of rounding alone. `prior` is a weight "
        "of 0.5 on the second sample. The limit is 1e-4."
    ),
    "sd15": (f"SD1.5 at 512, UNet and text encoder, bf16 computing, cached latents. {MOVED}"),
    "peer": ("The same by sd-scripts' `train_db.py`, weights in fp32."),
    "sdxl": ("SDXL's UNet at 1024, text encoders as they are, weights of bf16, Adafactor within the backward pass."),
    "peer-sdxl": ("The same by sd-scripts' `sdxl_train.py`: its `full_bf16`, `fused_backward_pass`, checkpointing."),
    "peer-sdxl-plain": ("The same without checkpointing."),
    "pocket": (
        "Judged pictures on the pocket base: `style` is the probability of the style, `tags` the share that "
        "is obeyed, `defects` a grade from 0 to 3, `worth` style x tags x (1 - defects / 3), `copies` the "
        "share of pictures that copy a training picture."
    ),
}
MISSING = "Not measured yet: {}."
ADAM, EIGHT = "SD1.5, AdamW, fp32 weights, graph", "SD1.5, AdamW8bit, fp32 weights, graph of both passes"
SPEEDS = (  # ours, sd-scripts', rows, the issue's bar
    (ADAM, "sd-scripts train_db, AdamW", 1, 3.0),
    (ADAM, "sd-scripts train_db, AdamW", 4, 2.2),
    (EIGHT, "sd-scripts train_db, AdamW8bit", 1, 3.0),
    (EIGHT, "sd-scripts train_db, AdamW8bit", 4, 2.2),
    (
        "SDXL UNet, Adafactor, bf16 weights, in backward, graph, checkpointing",
        "sd-scripts sdxl_train, Adafactor with checkpointing",
        1,
        2.0,
    ),
)


def write(folder: Path, out: Path) -> None:
    """One table a part that has been measured."""
    lines = ["# Training all weights", "", "Made by `python -m benchmarks.full`; what each part is, its help says.", ""]
    parts: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        part = "pocket" if path.stem.startswith("pocket-") else path.stem
        parts.setdefault(part, []).extend(json.loads(path.read_text(encoding="utf-8")))
    lines += _goals([row for rows in parts.values() for row in rows])
    for part, rows in parts.items():
        keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("log", "start_s", "error")))
        lines += [
            f"## {part}",
            "",
            TEXT.get(part, ""),
            "",
            f"| {' | '.join(keys)} |",
            f"|{'---|' * len(keys)}",
        ]
        lines += [f"| {' | '.join(_shown(row.get(key, '')) for key in keys)} |" for row in rows]
        lines.append("")
    if lacking := [name for name in TEXT if name not in parts]:
        lines += [MISSING.format(", ".join(lacking)), ""]
    results_page.write(out, "\n".join(lines))


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _goals(rows: list[dict[str, Any]]) -> list[str]:
    """Steps a second beside sd-scripts', one row a goal."""
    seconds = {(row["name"], row.get("batch")): row["s_per_step"] for row in rows if "s_per_step" in row}
    lines = ["## Speed", "", "| | batch | ours, s a step | sd-scripts' | times | goal |", "|---|---|---|---|---|---|"]
    for own, theirs, batch, bar in SPEEDS:
        one, two = seconds.get((own, batch)), seconds.get((theirs, batch))
        if one is None or two is None:
            times = "not measured"
        else:
            times = f"{two / one:.2f} ({'met' if two / one >= bar else '**missed**'})"
        lines.append(f"| {own} | {batch} | {_seconds(one)} | {_seconds(two)} | {times} | {bar} |")
    return [*lines, ""]


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
