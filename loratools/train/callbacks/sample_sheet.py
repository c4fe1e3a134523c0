"""``sheet.png``: the samples of a run side by side, one row a prompt, one column for each time they were drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.base.infotext import read_png
from loratools.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

PAPER, INK, GREY = "#fbfaf7", "#1d1d20", "#77757a"
_TILE = 256  # longest side of a picture on the sheet
_GAP, _LETTERS = 8, 15
_MOST = 24  # columns; of more, the first, the last, and some between


def draw_sheet(folder: Path, prompts: Sequence[str]) -> Path | None:
    """Draw the sheet of all samples in ``folder``; None where there are none.

    Args:
        prompts: of the rows, in the order of the samples' numbers.
    """
    found = _found(folder)
    if not found:
        return None
    steps = _spread(sorted({step for step, _ in found}))
    titles = [next(told for (own, _), (_, told) in found.items() if own == step) for step in steps]
    rows = [[_tile(found.get((step, number))) for step in steps] for number in range(1, len(prompts) + 1)]
    sheet = _composed(rows, titles, prompts)
    path = folder / "sheet.png"
    with replacing(path) as part:
        sheet.save(part, format="PNG")
    return path


def _found(folder: Path) -> dict[tuple[int, int], tuple[Path, str]]:
    """(step, number) -> picture and its column's title, of every sample."""
    found = {}
    for path in sorted(folder.glob("*.png")):
        sample = read_png(path)[1].get("sample")
        if isinstance(sample, Mapping):
            found[int(sample["step"]), int(sample["number"])] = path, _title(path, sample)
    return found


def _title(path: Path, sample: Mapping[str, Any]) -> str:
    if path.name.startswith("s"):
        return f"step {sample['step']}"
    return f"epoch {sample['epoch']}" if sample["epoch"] else "base"


def _spread(steps: Sequence[int]) -> list[int]:
    if len(steps) <= _MOST:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (_MOST - 1))] for place in range(_MOST)]


def _tile(found: tuple[Path, str] | None) -> Image | None:
    from PIL import Image as images
    from PIL.Image import Resampling

    if found is None:
        return None
    with images.open(found[0]) as opened:
        image = opened.convert("RGB")
    longest = max(image.size)
    if longest <= _TILE:
        factor = max(1, _TILE // longest)
        return image.resize((image.width * factor, image.height * factor), Resampling.NEAREST)
    size = max(1, round(image.width * _TILE / longest)), max(1, round(image.height * _TILE / longest))
    return image.resize(size, Resampling.LANCZOS)


def _composed(rows: Sequence[Sequence[Image | None]], titles: Sequence[str], prompts: Sequence[str]) -> Image:
    from PIL import Image as images
    from PIL import ImageDraw, ImageFont

    tiles = [tile for row in rows for tile in row if tile is not None]
    across, down = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    line = round(_LETTERS * 1.4)
    width = _GAP + len(titles) * (across + _GAP)
    sheet = images.new("RGB", (width, _GAP + line + len(rows) * (down + line + _GAP)), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LETTERS)
    for column, title in enumerate(titles):
        pen.text((_GAP + column * (across + _GAP) + across // 2, _GAP), title, fill=INK, font=font, anchor="ma")
    for number, row in enumerate(rows):
        top = _GAP + line + number * (down + line + _GAP)
        pen.text((_GAP, top), _cut(f"{number + 1}: {prompts[number]}", font, width - 2 * _GAP), fill=GREY, font=font)
        for column, tile in enumerate(row):
            if tile is not None:
                left = _GAP + column * (across + _GAP)
                sheet.paste(tile, (left + (across - tile.width) // 2, top + line))
    return sheet


def _cut(text: str, font: Any, room: int) -> str:
    """``text`` on one line of ``room`` pixels."""
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}...") > room:
        text = text[:-1]
    return f"{text}..."
