"""``NAME-verdict/epochs.png``: the base and every epoch side by side, a row for each prompt, at the first seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from loratools.files import replacing
from loratools.imaging.fit import fit
from loratools.imaging.picture_table import picture_table
from loratools.tune.epochs.reasons import RULED_OUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loratools.measures.measure import Shown
    from loratools.tune.epochs.result import EpochVerdict

NAME = "epochs.png"
_TILE = 192  # longest side of a picture on the sheet


def draw_sheet(verdict: EpochVerdict) -> Path:
    """Draw it, and return where; titles say which epoch is recommended, and which are ruled out and why."""
    columns = [_first_seed(own) for own in (verdict.drawn.base, *verdict.drawn.epochs)]
    tiles = [[fit(column[row].image, (_TILE, _TILE)) for column in columns] for row in range(len(columns[0]))]
    path = verdict.drawn.folder / NAME
    sheet = picture_table(tiles, ["base", *_titles(verdict)], [own.prompt for own in columns[0]])
    with replacing(path) as part:
        sheet.save(part, format="PNG")
    return path


def _first_seed(pictures: Sequence[Shown]) -> list[Shown]:
    """One picture for each prompt."""
    first: dict[str, Shown] = {}
    for picture in pictures:
        first.setdefault(picture.prompt, picture)
    return list(first.values())


def _titles(verdict: EpochVerdict) -> list[str]:
    titles = []
    for epoch in verdict.files.epochs:
        why = verdict.decision.reasons[epoch.number].why
        said = " · best" if why == "recommended" else f" · {why}" if why in RULED_OUT else ""
        titles.append(f"epoch {epoch.number}{said}")
    return titles
