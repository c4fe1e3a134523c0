"""One round of questions on disk: ``grid.html`` with the pictures, what it shows (``round.json``), and the answers that
the page exports (``votes.json``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loratools.errors import AnswersWantedError, FileError, FormatError
from loratools.files import write_text
from loratools.measures.votes.votes_file import FORMAT, Votes, read_votes
from loratools.preview.page import draw_view
from loratools.preview.page.view import PageAxis, Shot, Value, View
from loratools.tune.problem.prompts import Shot as TuneShot

_POINTS = {1.0: "left", 0.5: "tie", 0.0: "right"}


@dataclass(frozen=True)
class Part:
    """A picture that was drawn: its key among all kept ones, and its shot."""

    key: str
    shot: TuneShot


@dataclass(frozen=True)
class Cell:
    """A picture of a round.

    Attributes:
        key: under which answers name it.
        row, column: how its place is called.
        file: the picture, from the round's folder.
        parts: the pictures that were drawn and that it shows, side by side.
    """

    key: str
    row: str
    column: str
    file: str
    parts: tuple[Part, ...]

    @property
    def about(self) -> str:
        """For the page's panel."""
        return "\n".join(f"{part.shot.prompt}\nSeed: {part.shot.seed}" for part in self.parts)


@dataclass(frozen=True)
class PageContent:
    """What a round's page shows.

    Attributes:
        about: lines that say what is asked.
        size: (width, height) of a picture in pixels.
        pairs: keys of cells that are to be compared, in this order, by the ``question``.
    """

    title: str
    about: tuple[str, ...]
    cells: tuple[Cell, ...]
    size: tuple[int, int]
    pairs: tuple[tuple[str, str], ...] = ()
    question: str = ""


@dataclass(frozen=True)
class RoundPage:
    """A round's folder."""

    folder: Path

    @property
    def page(self) -> Path:
        """What a person opens."""
        return self.folder / "grid.html"

    @property
    def answers(self) -> Path:
        """Where the page's export is looked for."""
        return self.folder / "votes.json"

    def write(self, content: PageContent) -> None:
        """Write the page and what it shows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.page, draw_view(_view(content, str(self.folder.resolve()))))
        kept = {
            "version": 1,
            "cells": [asdict(cell) for cell in content.cells],
            "pairs": [list(pair) for pair in content.pairs],
        }
        write_text(self.folder / "round.json", json.dumps(kept, ensure_ascii=False, indent=1) + "\n")

    def cells(self) -> list[Cell]:
        """What the page shows.

        Raises:
            FileError: if that is damaged.
        """
        try:
            return [_cell(own) for own in self._kept()["cells"]]
        except (KeyError, TypeError) as error:
            raise self._damaged(error) from error

    def pairs(self) -> list[tuple[str, str]]:
        """Keys of the cells that the page asks to compare.

        Raises:
            FileError: as :meth:`cells`.
        """
        try:
            return [(left, right) for left, right in self._kept()["pairs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error

    def _kept(self) -> Any:
        try:
            return json.loads((self.folder / "round.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> FileError:
        return FileError(
            f"{self.folder / 'round.json'} is damaged ({type(error).__name__}); delete the folder to be asked again"
        )

    @property
    def written(self) -> bool:
        """Whether the page is there."""
        return (self.folder / "round.json").is_file() and self.page.is_file()

    def votes(self) -> Votes | None:
        """The answers, if there are any; of cells that the page shows.

        Raises:
            FormatError: if they are no votes, or those of another page.
        """
        if not self.answers.is_file():
            return None
        votes = read_votes(self.answers)
        self._check(votes, self.answers)
        return votes

    def take(self, file: Path) -> None:
        """Make the page's export ``file``, wherever it was saved, this round's answers.

        Raises:
            FileError, FormatError: if it cannot be read, is no votes file, or that of another page.
        """
        self._check(read_votes(file), file)
        write_text(self.answers, file.read_text(encoding="utf-8"))

    def answer(self, stars: Mapping[str, int], pairs: Iterable[tuple[str, str, float]] = ()) -> None:
        """Write answers as the page would: of a program that marks, or of a terminal."""
        won = [{"left": left, "right": right, "won": _POINTS[points]} for left, right, points in pairs]
        named = {*stars, *(key for pair in won for key in (pair["left"], pair["right"]))}
        cells = {
            cell.key: {"at": {"picture": cell.column, "prompt": cell.row}, "file": cell.file}
            for cell in self.cells()
            if cell.key in named
        }
        content: dict[str, Any] = {"format": FORMAT, "cells": cells, "stars": dict(stars), "pairs": won}
        write_text(self.answers, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    def wanted(self, what: str, because: str = "") -> AnswersWantedError:
        """The sentence that asks a person, after one that says why there is more to ask."""
        before = f"{because}; " if because else ""
        return AnswersWantedError(
            f"{before}{what} in {self.page}, export them with the key E, save them as {self.answers} (or give the file "
            "with `votes=FILE`), and run the same command again",
            self.page,
            self.answers,
        )

    def _check(self, votes: Votes, file: Path) -> None:
        own = {cell.key for cell in self.cells()}
        given = [*votes.stars, *(key for pair in votes.pairs for key in (pair.left, pair.right))]
        strange = sum(key not in own for key in given)
        if strange:
            raise FormatError(
                f"{file} holds {strange} answers about pictures that {self.page} does not show; export the votes of "
                "that page"
            )


def _cell(kept: dict[str, Any]) -> Cell:
    parts = tuple(Part(own["key"], TuneShot(**own["shot"])) for own in kept["parts"])
    return Cell(kept["key"], kept["row"], kept["column"], kept["file"], parts)


def _view(content: PageContent, identity: str) -> View:
    rows = list(dict.fromkeys(cell.row for cell in content.cells))
    columns = list(dict.fromkeys(cell.column for cell in content.cells))
    text = "\0".join([identity, content.title, *(cell.key for cell in content.cells)])
    return View(
        content.title,
        content.about,
        hashlib.sha256(text.encode()).hexdigest()[:16],
        content.size,
        (
            PageAxis("picture", tuple(Value(column) for column in columns)),
            PageAxis("prompt", tuple(Value(row) for row in rows), held=True),
        ),
        tuple(
            Shot((columns.index(cell.column), rows.index(cell.row)), cell.file, cell.key, None, cell.about)
            for cell in content.cells
        ),
        content.pairs,
        content.question,
    )
