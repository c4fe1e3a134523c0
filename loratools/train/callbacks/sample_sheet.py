"""``sheet.png``: the samples of a run side by side, one row a prompt, one column for each time they were drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.base.infotext import read_png
from loratools.files import replacing
from loratools.imaging.fit import fit
from loratools.imaging.picture_table import picture_table

if TYPE_CHECKING:
    from PIL.Image import Image

_TILE = 256  # longest side of a picture on the sheet
_MOST_COLUMNS = 24  # of more, the first, the last, and some between


@dataclass(frozen=True)
class _Column:
    """One time at which samples were drawn: its title, and its pictures by their prompts' numbers from 1."""

    title: str
    files: Mapping[int, Path]


def draw_sheet(folder: Path, prompts: Sequence[str]) -> Path | None:
    """Draw the sheet of the samples in ``folder``; None where there are none of these prompts.

    Args:
        prompts: of the rows, in the order of the samples' numbers.
    """
    columns = _columns(folder, len(prompts))
    if not columns:
        return None
    tiles = [[_tile(column.files.get(number)) for column in columns] for number in range(1, len(prompts) + 1)]
    sheet = picture_table(tiles, [column.title for column in columns], prompts)
    path = folder / "sheet.png"
    with replacing(path) as part:
        sheet.save(part, format="PNG")
    return path


def _columns(folder: Path, count: int) -> list[_Column]:
    """One for each step that samples with the numbers 1 to ``count`` were drawn at, in order."""
    titles: dict[int, str] = {}
    files: dict[int, dict[int, Path]] = {}
    for path in sorted(folder.glob("*.png")):
        sample = read_png(path)[1].get("sample")
        if isinstance(sample, Mapping) and 1 <= int(sample["number"]) <= count:
            step = int(sample["step"])
            titles.setdefault(step, _title(path, sample))
            files.setdefault(step, {})[int(sample["number"])] = path
    return [_Column(titles[step], files[step]) for step in _spread(sorted(files))]


def _title(path: Path, sample: Mapping[str, Any]) -> str:
    if path.name.startswith("s"):
        return f"step {sample['step']}"
    return f"epoch {sample['epoch']}" if sample["epoch"] else "base"


def _spread(steps: Sequence[int]) -> list[int]:
    """At most ``_MOST_COLUMNS`` of ``steps``, evenly, with the first and the last."""
    if len(steps) <= _MOST_COLUMNS:
        return list(steps)
    return [steps[round(column * (len(steps) - 1) / (_MOST_COLUMNS - 1))] for column in range(_MOST_COLUMNS)]


def _tile(path: Path | None) -> Image | None:
    from PIL import Image as images

    if path is None:
        return None
    with images.open(path) as opened:
        return fit(opened.convert("RGB"), (_TILE, _TILE))
