"""The folder of a tune: each generation is a file that appears whole, so that a search that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loratools.errors import FileError
from loratools.files import replacing, write_text
from loratools.measures.measure import Shown
from loratools.tune.history import Generation
from loratools.tune.problem.prompts import Shot
from loratools.tune.search.strategy import Ask

_VERSION = 1


@dataclass(frozen=True)
class TuneFolder:
    """Files of one search below ``path``; only the first of several processes writes (``writes``).

    ``search/key.json`` says of what, ``search/generation-0000.json`` and so on what was drawn, ``pictures/`` are the
    report's. Where a person is asked in rounds, each has a search of its own, in the folder ``part``.
    """

    path: Path
    writes: bool = True
    part: str = "search"

    def begin(self, key: str, owner: str, *, force: bool) -> None:
        """Take the folder for the search of ``key``, or go on with it.

        Raises:
            FileError: if it holds another search, or files of something else, without ``force``.
        """
        place = self.path / self.part / "key.json"
        known = _read(place) if place.is_file() else None
        if known is None and not force and (self.path / "tuned.safetensors").exists():
            raise FileError(
                f"{self.path} holds a tuned.safetensors that no search wrote; give another folder, or use `force=True`"
            )
        if known is not None and known.get("key") != key:
            mine = known.get("owner") == owner and owner.startswith("recipe:")
            if not (force or mine):
                raise FileError(
                    f"{self.path} holds another search, of {known.get('owner', 'something else')} with other pictures, "
                    "measures or files; choose another folder, or use `force=True` to begin anew there"
                )
            self._clear()
        if self.writes:
            content = {"version": _VERSION, "key": key, "owner": owner}
            write_text(place, json.dumps(content, indent=1) + "\n")

    def generation(self, number: int, ask: Ask) -> Generation | None:
        """What an earlier run drew for ``ask``, if it did."""
        path = self._generation(number)
        if not path.is_file():
            return None
        content = _read(path)
        generation = Generation(
            content["kind"],
            tuple(tuple(point) for point in content["points"]),
            tuple(content["shots"]),
            {name: tuple(tuple(map(_number, row)) for row in rows) for name, rows in content["values"].items()},
            content["seconds"],
        )
        same = (generation.kind, generation.points, generation.shots) == (ask.kind, ask.points, ask.shots)
        return generation if same else None

    def keep(self, number: int, generation: Generation) -> None:
        """Write what was drawn."""
        if self.writes:
            content = {**asdict(generation), "values": _without_nan(generation.values)}
            write_text(self._generation(number), json.dumps(content, allow_nan=False) + "\n")

    def pictures(self, name: str, digest: str, shots: Sequence[Shot]) -> list[Shown] | None:
        """The pictures called ``name`` that were drawn for ``digest``, if all are there."""
        folder = self.path / "pictures" / name
        record = folder / "drawn.json"
        if not record.is_file() or _read(record) != {"digest": digest, "shots": [asdict(shot) for shot in shots]}:
            return None
        from PIL import Image

        shown = []
        for path, shot in zip(self.picture_paths(name, len(shots)), shots, strict=True):
            if not path.is_file():
                return None
            with Image.open(path) as image:
                shown.append(Shown(np.asarray(image.convert("RGB")), shot.prompt, shot.seed))
        return shown

    def keep_pictures(self, name: str, digest: str, shown: Sequence[Shown]) -> None:
        """Write pictures, and then what they are of."""
        if not self.writes:
            return
        for path, picture in zip(self.picture_paths(name, len(shown)), shown, strict=True):
            with replacing(path) as part:
                picture.image.save(part, format="PNG")
        shots = [{"prompt": picture.prompt, "seed": picture.seed} for picture in shown]
        write_text(self.path / "pictures" / name / "drawn.json", json.dumps({"digest": digest, "shots": shots}) + "\n")

    def picture_paths(self, name: str, count: int) -> list[Path]:
        """Where pictures called ``name`` lie."""
        return [self.path / "pictures" / name / f"{number:03d}.png" for number in range(1, count + 1)]

    def _generation(self, number: int) -> Path:
        return self.path / self.part / f"generation-{number:04d}.json"

    def _clear(self) -> None:
        """Forget another search; what it wrote outside is overwritten as this one goes on."""
        if not self.writes:
            return
        for place in [
            *(self.path / self.part).glob("generation-*.json"),
            *(self.path / "pictures").glob("*/drawn.json"),
        ]:
            place.unlink()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is damaged ({type(error).__name__}); delete it to have it drawn again") from error
    if not isinstance(content, dict):
        raise FileError(f"{path} is damaged; delete it to have it drawn again")
    return content


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _without_nan(values: Any) -> dict[str, list[list[float | None]]]:
    """NaN, which JSON lacks, as null."""
    return {
        name: [[None if value != value else value for value in row] for row in rows] for name, rows in values.items()
    }
