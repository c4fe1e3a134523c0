"""Downloads and the set that is made of them, side by side: ``python -m tools.pictures.dataset OUT.png``.

Nine files as sites have them (a copy, two variants of one scene, one with a signature, one that is clear in parts, a
banner) are drawn by the pocket's program, and prepared by the command of docs/dataset.md, with boxes by hand in a
detector's place.
"""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from loratools.imaging.colours import GREY, INK, PAPER
from loratools.imaging.lettering import Lettering
from loratools.pocket.draw import draw, random_figure

SIDE, GAP = 104, 10
_FRAMING = {"face": "face_focus", "half": "cowboy_shot", "signed": "cowboy_shot", "clear": "cowboy_shot"}


def main(out: Path) -> None:
    """Make the folders, prepare them, and draw both."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        boxes = _downloads(root / "downloads")
        (root / "boxes.json").write_text(json.dumps(boxes), encoding="utf-8")
        words = ["dataset", "prepare", "downloads", "-o", "pictures", "--resolution", "256", "--boxes", "boxes.json"]
        subprocess.run([sys.executable, "-m", "loratools", *words], cwd=root, check=True)
        files = [file for file in sorted((root / "downloads").iterdir()) if file.suffix in (".png", ".jpg")]
        made = sorted((root / "pictures").glob("1_*/*.png")) + sorted((root / "pictures/masks").rglob("signed*.png"))
        _sheet(out, root, files, made)


def _downloads(folder: Path) -> dict[str, dict[str, list[list[int]]]]:
    """Draw the downloads; returns boxes by hand."""
    folder.mkdir()
    for number, name in enumerate(("face", "half", "signed", "clear", "smile", "large")):
        figure = random_figure(random.Random(40 + number), framing=_FRAMING.get(name, "full_body"))
        size = 768 if name == "large" else 256
        picture = draw(figure, number, size).image
        if name == "smile":
            other = dataclasses.replace(
                figure, expression="open_mouth" if figure.expression != "open_mouth" else "smile"
            )
            draw(other, number, size).image.save(folder / "surprised.png")
        if name == "half":
            picture.resize((192, 192)).save(folder / "half_copy.jpg")
        if name == "signed":
            pen = ImageDraw.Draw(picture)
            pen.text((10, size - 16), "@artist 2026", fill="white")
        if name == "clear":
            picture = picture.convert("RGBA")
            alpha = Image.new("L", picture.size, 255)
            ImageDraw.Draw(alpha).rectangle((0, 0, 40, size), fill=0)
            picture.putalpha(alpha)
        picture.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(", ".join(figure.tags()), encoding="utf-8")
    Image.linear_gradient("L").resize((900, 200)).save(folder / "banner.png")
    return {"large.png": {"head": [[250, 60, 520, 330]]}, "signed.png": {"text": [[8, 238, 84, 254]]}}


def _sheet(out: Path, root: Path, files: list[Path], made: list[Path]) -> None:
    columns = max(len(files), len(made))
    small, head = Lettering(12, "".join(str(file) for file in files + made)), Lettering(16, "downloads pictures")
    below = 2 * GAP + head.line + SIDE + small.line
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), 2 * below + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (title, paths, start) in enumerate((("downloads", files, "downloads"), ("pictures", made, "pictures"))):
        top = GAP + row * below
        pen.text((GAP, top), title, fill=INK, font=head.font)
        for column, path in enumerate(paths):
            left = GAP + column * (SIDE + GAP)
            with Image.open(path) as opened:
                picture = opened.convert("RGBA")
            picture.thumbnail((SIDE, SIDE))
            sheet.paste(picture, (left, top + head.line + GAP + (SIDE - picture.height) // 2), picture)
            label = path.relative_to(root / start)
            text = label.parent.name if row and label.parts[0] != "masks" else label.as_posix()
            pen.text((left, top + head.line + GAP + SIDE + 3), text, fill=GREY, font=small.font)
    sheet.save(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
