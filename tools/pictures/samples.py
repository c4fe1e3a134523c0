"""Pictures of the pocket base for random tags, none selected: ``python -m tools.pictures.samples OUT.png``."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import loratools as lt
from loratools.pocket.draw import random_figure

COLUMNS, ROWS = 16, 4


def main(out: Path) -> None:
    """Draw the base alone once for each of 64 captions of its drawing program, and put the pictures side by side."""
    prompts = [", ".join(random_figure(random.Random(number)).tags()) for number in range(COLUMNS * ROWS)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "prompts.txt").write_text("\n".join(prompts), encoding="utf-8")
        words = ["grid", "--base", "pocket", "--prompt", str(folder / "prompts.txt"), "--x", "cfg: 5"]
        words += ["-o", str(folder / "grid")]
        subprocess.run([sys.executable, "-m", "loratools", *words], check=True)
        drawn = sorted(lt.read_grid(folder / "grid").pictures, key=lambda picture: picture.prompt)
        pictures = [Image.open(folder / "grid" / picture.file).convert("RGB") for picture in drawn]
    side = pictures[0].width
    sheet = Image.new("RGB", (COLUMNS * side, ROWS * side))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % COLUMNS * side, number // COLUMNS * side))
    sheet.save(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
