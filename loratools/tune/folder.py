"""The folder of a tune: each generation is a file that appears whole, so that a search that was killed goes on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from loratools.errors import FileError
from loratools.files import replacing, write_text
from loratools.measures.measure import Shown
from loratools.tune.descent.steps import Step
from loratools.tune.history import Generation
from loratools.tune.problem.prompts import Shot
from loratools.tune.search.strategy import Ask

_VERSION = 1
ASKED = "drawn"  # the folder of pictures that a person is shown, in a part that asks


class FolderState(Enum):
    """What a search finds in its folder: nothing, its own earlier work, or another search, which it replaces."""

    NEW = "new"
    SAME = "goes on"
    REPLACED = "begins anew"


@dataclass(frozen=True)
class KeptWork:
    """What earlier runs of a search drew.

    Attributes:
        pictures: of the search; of ``timed`` of them, and of the ``steps`` of a descent, it is known that they took
            ``seconds``.
        columns: of the report.
    """

    pictures: int = 0
    timed: int = 0
    steps: int = 0
    seconds: float = 0.0
    columns: int = 0


@dataclass(frozen=True)
class TuneFolder:
    """Files of one search below ``path``; only the first of several processes writes (``writes``).

    ``search/key.json`` says of what, ``search/generation-0000.json`` and so on what was drawn,
    ``search/step-0001.json`` and so on the steps of a descent, ``pictures/`` are the report's. Where a person is asked
    in rounds, each has a search of its own, in the folder ``part``.
    """

    path: Path
    writes: bool = True
    part: str = "search"

    def begin(self, key: str, owner: str, *, force: bool) -> None:
        """Take the folder for the search of ``key``, or go on with it.

        Raises:
            FileError: as :meth:`state`.
        """
        if self.state(key, owner, force=force) is FolderState.REPLACED:
            self._clear(str(_read(self._record).get("key")))
        if self.writes:
            content = {"version": _VERSION, "key": key, "owner": owner}
            write_text(self._record, json.dumps(content, indent=1) + "\n")

    def check_place(self) -> None:
        """Raise FileError where a file stands in the folder's place."""
        if self.path.exists() and not self.path.is_dir():
            raise FileError(f"{self.path} is a file, and a tune writes a folder; choose another place")

    def state(self, key: str, owner: str, *, force: bool) -> FolderState:
        """What a search of ``key`` will find here.

        Raises:
            FileError: if the folder holds another search, or files of something else, without ``force``; if it is none.
        """
        self.check_place()
        known = _read(self._record) if self._record.is_file() else None
        if known is None:
            if not force and (self.path / "tuned.safetensors").exists():
                raise FileError(
                    f"{self.path} holds a tuned.safetensors that no search wrote; give another folder, or use "
                    "`force=True`"
                )
            return FolderState.NEW
        if known.get("key") == key:
            return FolderState.SAME
        mine = known.get("owner") == owner and owner.startswith("recipe:")
        if not (force or mine):
            raise FileError(
                f"{self.path} holds another search, of {known.get('owner', 'something else')} with other pictures, "
                "measures or files; choose another folder, or use `force=True` to begin anew there"
            )
        return FolderState.REPLACED

    def kept(self, columns: Sequence[str]) -> KeptWork:
        """What earlier runs of the same search left.

        Args:
            columns: the names of the report's.
        """
        folder = self.path / self.part
        drawn = [_read(path) for path in sorted(folder.glob("generation-*.json"))]
        steps = [_read(path) for path in sorted(folder.glob("step-*.json"))]
        timed = [one for one in drawn if one["seconds"]]
        return KeptWork(
            pictures=sum(len(one["points"]) * len(one["shots"]) for one in drawn),
            timed=sum(len(one["points"]) * len(one["shots"]) for one in timed),
            steps=len(steps),
            seconds=sum(one["seconds"] for one in (*timed, *steps)),
            columns=sum((self.path / "pictures" / name / "drawn.json").is_file() for name in columns),
        )

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

    def step(self, number: int, point: Sequence[float]) -> Step | None:
        """The step of a descent that an earlier run made at ``point``, if it did."""
        path = self._step(number)
        if not path.is_file():
            return None
        content = _read(path)
        step = Step(tuple(content["point"]), tuple(content["gradient"]), content["values"], content["seconds"])
        return step if step.point == tuple(point) else None

    def keep_step(self, number: int, step: Step) -> None:
        """Write a step of a descent."""
        if self.writes:
            write_text(self._step(number), json.dumps(asdict(step), allow_nan=False) + "\n")

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

    @property
    def _record(self) -> Path:
        """The file that says which search this is."""
        return self.path / self.part / "key.json"

    def _generation(self, number: int) -> Path:
        return self.path / self.part / f"generation-{number:04d}.json"

    def _step(self, number: int) -> Path:
        return self.path / self.part / f"step-{number:04d}.json"

    def _clear(self, key: str) -> None:
        """Forget the search of ``key``; what it wrote outside is overwritten as this one goes on.

        What it asked a person and was told stays in a folder of its own, for that was work: ``marks-KEY``.
        """
        if not self.writes:
            return
        own = self.path / self.part
        if (own / ASKED).is_dir():
            names = (f"{own.name}-{key[:8]}{f'-{number}' if number > 1 else ''}" for number in itertools.count(1))
            own.rename(next(place for place in map(own.with_name, names) if not place.exists()))
            return
        for place in [
            *(self.path / self.part).glob("generation-*.json"),
            *(self.path / self.part).glob("step-*.json"),
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
