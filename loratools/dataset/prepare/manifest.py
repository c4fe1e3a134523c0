"""The manifest: what came of every original, a line each, so that a second run does only what is new."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from loratools.errors import DatasetError
from loratools.files import json_lines, write_text

NAME: Final = "manifest.jsonl"
_VERSION: Final = 1
MASKED: Final = "masked"  # begins what was done to text that is masked
Outcome = Literal["used", "unused", "refused"]


@dataclass(frozen=True)
class Piece:
    """One picture that was made of an original.

    Attributes:
        name: its file's name, by which it is found again in whatever folder it stands now.
        kind: its class.
        crop: the part of the upright original; None for the whole.
        factor: how many times it was enlarged; ``by`` what (a model's file, or ``lanczos``).
        text: what was done to text in it.
        group: of variants; empty if it stands alone.
        caption: as it was written; a caption that differs was edited since.
        unused: why it was taken out again; empty if it is used.
    """

    name: str
    kind: str
    crop: tuple[int, int, int, int] | None = None
    factor: float = 1.0
    by: str = ""
    text: tuple[str, ...] = ()
    group: str = ""
    caption: str = ""
    unused: str = ""

    @property
    def masked(self) -> bool:
        """Whether some of it is masked out of the loss."""
        return any(action.startswith(MASKED) for action in self.text)


@dataclass(frozen=True)
class Entry:
    """One original: its path in the folder, its digest, what came of it and why, the pieces made of it, digests of the
    boxes that a person gave for it and of its caption (empty in manifests of before), and whether it is of an earlier
    run, and still to be made anew or taken out."""

    file: str
    digest: str
    outcome: Outcome
    reason: str = ""
    pieces: tuple[Piece, ...] = ()
    notes: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    boxes: str = ""
    caption: str = ""
    stale: bool = False

    def json(self) -> dict[str, Any]:
        """As JSON values, without what is empty."""
        pieces = [{name: value for name, value in vars(piece).items() if value} for piece in self.pieces]
        return {name: value for name, value in {**vars(self), "pieces": pieces}.items() if value}


@dataclass(frozen=True)
class Manifest:
    """``entries`` by original; ``settings`` that they were made by; ``source``: the folder of the originals;
    ``heads_tall``: how many heads tall its figures are, as the first run saw it, so that later pictures are judged
    alike; ``finished``: whether the run that wrote it came to its end."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    heads_tall: float | None = None
    finished: bool = False

    def pieces(self) -> Iterable[tuple[Entry, Piece]]:
        """Every piece that is used, with its original."""
        return ((entry, piece) for entry in self.entries.values() for piece in entry.pieces if not piece.unused)

    def write(self, folder: Path) -> None:
        """Write it into ``folder``, whole or not at all.

        Raises:
            FileError, OSError: if it cannot be written.
        """
        first = {"version": _VERSION, "source": self.source, "settings": dict(self.settings)}
        first |= {} if self.heads_tall is None else {"heads_tall": round(self.heads_tall, 3)}
        first |= {"finished": True} if self.finished else {}
        lines = [first, *(entry.json() for _, entry in sorted(self.entries.items()))]
        write_text(folder / NAME, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in a folder; None where there is none.

    Raises:
        DatasetError: naming the line that cannot be read.
    """
    path = folder / NAME
    try:
        lines = json_lines(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); move it away to prepare everything anew") from error
    entries = {}
    head: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if number == 1:
                head = {"settings": dict(value["settings"]), "source": str(value["source"])}
                head |= {"heads_tall": float(value["heads_tall"])} if "heads_tall" in value else {}
                head["finished"] = bool(value.get("finished"))
                continue
            entry = _entry(value)
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{path}, line {number} is no entry ({error}); mend it, or move the file away to prepare anew"
            ) from error
        entries[entry.file] = entry
    return Manifest(**head, entries=entries)


def _entry(value: dict[str, Any]) -> Entry:
    pieces = tuple(_piece(piece) for piece in value.pop("pieces", []))
    entry = Entry(**{**value, "pieces": pieces, "digest": value.get("digest", "")})
    return replace(entry, notes=tuple(entry.notes), size=(entry.size[0], entry.size[1]))


def _piece(value: dict[str, Any]) -> Piece:
    piece = Piece(**value)
    left, top, right, bottom = piece.crop or (0, 0, 0, 0)
    return replace(piece, crop=(left, top, right, bottom) if piece.crop else None, text=tuple(piece.text))
