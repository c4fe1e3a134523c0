"""One round of questions on disk: ``grid.html`` with the pictures, what it shows (``round.json``), and the answers that
the page exports (``votes.json``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loratools.errors import AnswersWantedError, FileError, FormatError
from loratools.files import write_text
from loratools.measures.votes.votes_file import FORMAT, Votes, read_votes
from loratools.preview.page import draw_view
from loratools.preview.page.view import PageAxis, Shot, Value, View

_POINTS = {1.0: "left", 0.5: "tie", 0.0: "right"}


@dataclass(frozen=True)
class Cell:
    """A picture of a round.

    Attributes:
        key: under which answers name it.
        row, column: how its place is called.
        file: the picture, from the round's folder.
        prompt, seed: that made it; empty and 0 where it shows several pictures.
        about: for the page's panel.
    """

    key: str
    row: str
    column: str
    file: str
    prompt: str = ""
    seed: int = 0
    about: str = ""


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

    def write(
        self,
        title: str,
        about: Sequence[str],
        cells: Sequence[Cell],
        size: tuple[int, int],
        pairs: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Write the page and what it shows; ``size`` is (width, height) of a picture in pixels.

        Args:
            pairs: keys of cells that are to be compared, in this order.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.page, draw_view(_view(title, about, cells, size, pairs, str(self.folder.resolve()))))
        content = {"version": 1, "cells": [asdict(cell) for cell in cells], "pairs": [list(pair) for pair in pairs]}
        write_text(self.folder / "round.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    def cells(self) -> list[Cell]:
        """What the page shows.

        Raises:
            FileError: if that is damaged.
        """
        try:
            content = json.loads((self.folder / "round.json").read_text(encoding="utf-8"))
            return [Cell(**own) for own in content["cells"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"{self.folder / 'round.json'} is damaged ({type(error).__name__}); delete the folder to be asked again"
            ) from error

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

    def wanted(self, what: str) -> AnswersWantedError:
        """The sentence that asks a person."""
        return AnswersWantedError(
            f"{what} in {self.page}, export them with the key E, save them as {self.answers} (or give the file with "
            "`votes=FILE`), and run the same command again",
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


def _view(
    title: str,
    about: Sequence[str],
    cells: Sequence[Cell],
    size: tuple[int, int],
    pairs: Sequence[tuple[str, str]],
    identity: str,
) -> View:
    rows = list(dict.fromkeys(cell.row for cell in cells))
    columns = list(dict.fromkeys(cell.column for cell in cells))
    import hashlib

    return View(
        title,
        tuple(about),
        hashlib.sha256("\0".join([identity, title, *(cell.key for cell in cells)]).encode()).hexdigest()[:16],
        size,
        (
            PageAxis("picture", tuple(Value(column) for column in columns)),
            PageAxis("prompt", tuple(Value(row) for row in rows), held=True),
        ),
        tuple(
            Shot(
                (columns.index(cell.column), rows.index(cell.row)), cell.file, cell.key, None, cell.about or cell.prompt
            )
            for cell in cells
        ),
        tuple(pairs),
    )
