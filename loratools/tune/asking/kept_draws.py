"""Drawn pictures that are kept as files: what was measured can be shown to a person, and measured anew by what they
said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loratools.errors import FileError
from loratools.files import replacing
from loratools.measures.measure import Shown
from loratools.tune.arrays import Array
from loratools.tune.drawing import Draws, OnPicture
from loratools.tune.problem.prompts import Shot


@dataclass(frozen=True, eq=False)
class KeptDraws:
    """Draws by ``draws`` what ``folder`` does not hold yet, and keeps it there, a PNG for each picture."""

    draws: Draws
    folder: Path

    def __call__(
        self, points: Sequence[Array | None], shots: Sequence[Shot], *, fine: bool, on_picture: OnPicture
    ) -> list[list[Shown]]:
        known = [[self._read(picture_key(point, shot, fine), shot) for shot in shots] for point in points]
        lacking: dict[tuple[int, ...], list[int]] = {}
        for number, own in enumerate(known):
            missing = tuple(n for n, shown in enumerate(own) if shown is None)
            lacking.setdefault(missing, []).append(number)
            for _ in range(len(own) - len(missing)):
                on_picture()
        for missing, numbers in lacking.items():
            if missing:
                self._draw(known, missing, numbers, points, shots, fine, on_picture)
        return [[shown for shown in own if shown is not None] for own in known]

    def path(self, key: str) -> Path:
        """Where the picture of a key lies, see :func:`picture_key`."""
        return self.folder / f"{key}.png"

    def opened(self, key: str, shot: Shot) -> Shown:
        """The picture of a key that was drawn.

        Raises:
            FileError: if it is missing or damaged.
        """
        return open_kept(self.path(key), shot)

    def _draw(
        self,
        known: list[list[Shown | None]],
        missing: Sequence[int],
        numbers: Sequence[int],
        points: Sequence[Array | None],
        shots: Sequence[Shot],
        fine: bool,
        on_picture: OnPicture,
    ) -> None:
        """The ``missing`` shots of the points ``numbers``, into ``known`` and the folder."""
        own = [shots[n] for n in missing]
        drawn = self.draws([points[n] for n in numbers], own, fine=fine, on_picture=on_picture)
        for number, pictures in zip(numbers, drawn, strict=True):
            for n, shot, shown in zip(missing, own, pictures, strict=True):
                known[number][n] = shown
                self.folder.mkdir(parents=True, exist_ok=True)
                with replacing(self.path(picture_key(points[number], shot, fine))) as part:
                    shown.image.save(part, format="PNG")

    def _read(self, key: str, shot: Shot) -> Shown | None:
        path = self.path(key)
        return open_kept(path, shot) if path.is_file() else None


def open_kept(path: Path, shot: Shot) -> Shown:
    """A kept picture.

    Raises:
        FileError: if it is damaged.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return Shown(np.asarray(image.convert("RGB")), shot.prompt, shot.seed)
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is missing or damaged; delete it to have it drawn again") from error


def picture_key(point: Sequence[float] | Array | None, shot: Shot, fine: bool) -> str:
    """What tells a picture from every other one of the same tune."""
    numbers = None if point is None else [round(float(value), 4) for value in point]
    return hashlib.sha256(json.dumps([numbers, shot.prompt, shot.seed, fine]).encode()).hexdigest()[:32]
