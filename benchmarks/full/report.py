"""``benchmarks/results/full.md``, from the parts' JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TEXT = {
    "parity": (
        "One step of SD1.5, UNet and text encoder, random weights in full shapes, latents of 8 x 8, batch 2, "
        "the same noise, timesteps and tokens, float32 on a CPU; sd-scripts' side is its own UNet and the "
        "functions that `train_db.py` calls for a step. `gradient` is the largest over all tensors of |ours - "
        "theirs| / |theirs|, where the divisor is at least 1e-5 of the largest gradient: the attention of one "
        "token, which the middle block has at this size, has gradients of rounding alone. `prior` is a weight "
        "of 0.5 on the second sample. The limit is 1e-4."
    ),
    "sd15": ("SD1.5 at 512, UNet and text encoder, bf16 computing, cached latents."),
    "peer": ("The same by sd-scripts' `train_db.py`."),
    "sdxl": ("SDXL's UNet at 1024, text encoders as they are."),
    "peer-sdxl": ("The same by sd-scripts' `sdxl_train.py`, `full_bf16`."),
    "pocket": (
        "Judged pictures on the pocket base: `style` is the probability of the style, `tags` the share that "
        "is obeyed, `defects` a grade from 0 to 3, `worth` style x tags x (1 - defects / 3), `copies` the "
        "share of pictures that copy a training picture."
    ),
}
MISSING = "Not measured yet: {}."


def write(folder: Path, out: Path) -> None:
    """One table a part that has been measured."""
    lines = ["# Training all weights", "", "Made by `python -m benchmarks.full`; what each part is, its help says.", ""]
    for path in sorted(folder.glob("*.json")):
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        keys = list(dict.fromkeys(key for row in rows for key in row if key not in ("log", "start_s", "error")))
        lines += [
            f"## {path.stem}",
            "",
            TEXT.get(path.stem, ""),
            "",
            f"| {' | '.join(keys)} |",
            f"|{'---|' * len(keys)}",
        ]
        lines += [f"| {' | '.join(_shown(row.get(key, '')) for key in keys)} |" for row in rows]
        lines.append("")
    if lacking := [name for name in TEXT if not (folder / f"{name}.json").is_file()]:
        lines += [MISSING.format(", ".join(lacking)), ""]
    out.write_text("\n".join(lines), encoding="utf-8")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
