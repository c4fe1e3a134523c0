"""Before, after and the base on held-out prompts: ``python -m tools.pictures.hands LORA TUNED OUT.png``.

LORA is what was tuned, TUNED the folder of ``blocks tune``'s result, whose ``tune.json`` has the prompts and seeds that
the search never saw: the first six, each with the first seed, in their order.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

import loratools as lt
from loratools.imaging.colours import INK, PAPER
from loratools.imaging.lettering import Lettering

SIDE, GAP, LABEL, SHOWN = 128, 6, 108, 6


def main(lora: str, folder: Path, out: Path) -> None:
    """Draw three rows of pictures."""
    held = json.loads((folder / "tune.json").read_text(encoding="utf-8"))["held_out"]
    prompts, tuned = held["prompts"][:SHOWN], str(folder / "tuned.safetensors")
    with tempfile.TemporaryDirectory() as work:
        lt.render_grid([lora, tuned], work, base="pocket", prompts=prompts, weights=[0, 1], seeds=held["seeds"][0])
        grid = lt.read_grid(work)
        rows = {
            "before": [_picture(Path(work), grid, 0, 1.0, number) for number in range(len(prompts))],
            "blocks tune": [_picture(Path(work), grid, 1, 1.0, number) for number in range(len(prompts))],
            "the base": [_picture(Path(work), grid, 0, 0.0, number) for number in range(len(prompts))],
        }
    lettering = Lettering(17, "".join(rows))
    size = (LABEL + len(prompts) * (SIDE + GAP) + GAP, GAP + len(rows) * (SIDE + GAP))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (label, pictures) in enumerate(rows.items()):
        top = GAP + row * (SIDE + GAP)
        pen.text((LABEL - 8, top + SIDE // 2), label, fill=INK, font=lettering.font, anchor="rm")
        for place, picture in enumerate(pictures):
            sheet.paste(picture, (LABEL + GAP + place * (SIDE + GAP), top))
    sheet.save(out)


def _picture(folder: Path, grid: lt.Grid, row: int, weight: float, prompt: int) -> Image.Image:
    found = next(
        picture for picture in grid.pictures if (picture.row, picture.weight, picture.prompt) == (row, weight, prompt)
    )
    with Image.open(folder / found.file) as opened:
        return opened.convert("RGB").resize((SIDE, SIDE))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
