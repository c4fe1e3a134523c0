"""The log of bulk edits: which operation met which pictures, and what captions were before, so that it can be undone.

``.dataset/operations.jsonl`` has a line an entry; ``.dataset/operations/ID.json.gz`` has what it changed. An entry is
written before its captions are, so that even a half of it can be taken back.
"""

from __future__ import annotations

import base64
import datetime
import gzip
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from loratools.dataset.edits.operations import AnyOperation, operation_from_json, operation_json
from loratools.dataset.edits.subject import TagCounts
from loratools.dataset.tags.names import stable_name
from loratools.dataset.tags.store import OPERATIONS
from loratools.errors import DatasetError, OptionError
from loratools.files import json_lines, write_bytes, write_text

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Edit:
    """An operation with its filter; an empty one lets every picture through."""

    operation: AnyOperation
    where: str = ""

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return operation_json(self.operation) | ({"where": self.where} if self.where else {})

    def text(self) -> str:
        """For a person: ``remove signature, watermark where face focus``."""
        value = operation_json(self.operation)
        rules = value.pop("rules", {})
        words = [name for name, item in rules.items() if item is True]
        words += [f"{len(rules['core'])} core tags"] if rules.get("core") else []
        words += [f"{len(rules['implications'])} implications"] if rules.get("implications") else []
        kind = value.pop("kind")
        parts = [_listed(value.pop("tags", ())), *words]
        parts += [f"{'by' if name == 'by' else name} {_listed(item)}" for name, item in value.items()]
        where = f" where {self.where}" if self.where else ""
        return f"{kind} {' '.join(part for part in parts if part)}{where}".strip()


def edit_from_json(value: Any) -> Edit:
    """The edit that :meth:`Edit.json` wrote.

    Raises:
        OptionError: if it is none.
    """
    if not isinstance(value, Mapping):
        raise OptionError(f"{value!r} is no edit; write {{kind: remove, tags: [signature]}}")
    where = value.get("where", "")
    if not isinstance(where, str):
        raise OptionError(f"'where' is {where!r}; write a filter such as 'face_focus and not smile'")
    return Edit(operation_from_json({name: item for name, item in value.items() if name != "where"}), where)


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    Attributes:
        edit: what was done; None for an undo or a replay.
        undoes: the entry that was taken back; 0 for none.
        replays: the entries whose edits were done on further pictures.
        tagged_by: what wrote tags of its own: a tagger, whose captions may be written again.
        changed: how many captions it changed.
    """

    id: int
    at: str
    edit: Edit | None = None
    undoes: int = 0
    replays: tuple[int, ...] = ()
    changed: int = 0
    tagged_by: str = ""

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        value: dict[str, Any] = {"id": self.id, "at": self.at, "changed": self.changed}
        value |= {"edit": self.edit.json()} if self.edit else {}
        value |= {"undoes": self.undoes} if self.undoes else {}
        value |= {"tagged_by": self.tagged_by} if self.tagged_by else {}
        return value | ({"replays": list(self.replays)} if self.replays else {})

    def text(self) -> str:
        """For a person."""
        if self.edit is not None:
            return self.edit.text()
        if self.tagged_by:
            return f"tag by {self.tagged_by}"
        return f"undo of {self.undoes}" if self.undoes else f"replay of {_listed(map(str, self.replays))}"


@dataclass(frozen=True)
class Snapshot:
    """What an entry met and changed.

    Attributes:
        seen: every picture that it looked at, by file.
        before, after: captions of those that it changed, by file.
        lost: tags that left the caption, as JSON, so that their category, score and source come back too.
        raw: what the caption file held, where it is spelled otherwise than ``before``; None where there was no file.
        counts: the tags' counts at the time, which a share in the filter was of.
    """

    seen: frozenset[str]
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, list[Any]] = field(default_factory=dict)
    raw: Mapping[str, bytes | None] = field(default_factory=dict)
    counts: TagCounts | None = None

    def of_files(self, files: Collection[str], is_there: Callable[[str], bool]) -> Snapshot:
        """The same with the names that its pictures have among ``files`` now; those that are not among them are left
        out.

        A picture is known by its path, or else by the :func:`stable_name` of a path where no picture is any more.

        Args:
            is_there: whether there is a picture at a path that is not among ``files``.
        """
        known = {*self.seen, *self.before}
        if known <= set(files):
            return self
        renamed = {stable_name(name): name for name in known - set(files) if not is_there(name)}
        names = {file: file if file in known else renamed.get(stable_name(file), "") for file in files}

        def of(values: Mapping[str, _Value]) -> dict[str, _Value]:
            return {file: values[name] for file, name in names.items() if name in values}

        seen = frozenset(file for file, name in names.items() if name in self.seen)
        return Snapshot(seen, of(self.before), of(self.after), of(self.lost), of(self.raw), self.counts)

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        counts = None if self.counts is None else [self.counts.pictures, dict(self.counts.counts)]
        maps = {name: dict(getattr(self, name)) for name in ("before", "after", "lost")}
        raw = {name: _raw_json(data) for name, data in self.raw.items()}
        return {"seen": sorted(self.seen), **maps, "raw": raw, "counts": counts}


class OperationLog:
    """The log of one dataset folder.

    Args:
        record_folder: the folder's ``.dataset``.
    """

    def __init__(self, record_folder: Path) -> None:
        self.path = record_folder / OPERATIONS
        self._root = record_folder.parent
        self._snapshots = record_folder / "operations"

    def entries(self) -> list[Entry]:
        """All entries, oldest first.

        Raises:
            DatasetError: naming the line that cannot be read.
        """
        return read_log(self.path) if self.path.exists() else []

    def active(self) -> list[Entry]:
        """The edits that hold: not undone."""
        entries = self.entries()
        undone = {entry.undoes for entry in entries if entry.undoes}
        return [entry for entry in entries if entry.edit is not None and entry.id not in undone]

    def last(self) -> Entry | None:
        """The entry that an undo takes back: the last edit or replay that is not undone."""
        entries = self.entries()
        undone = {entry.undoes for entry in entries}
        open_ = [entry for entry in entries if not entry.undoes and entry.id not in undone]
        return open_[-1] if open_ else None

    def append(self, snapshot: Snapshot | None, **values: Any) -> Entry:
        """Write an entry: first what it changes, then its line."""
        entries = self.entries()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry = Entry(id=entries[-1].id + 1 if entries else 1, at=now, **values)
        if snapshot is not None:
            text = json.dumps(snapshot.json(), ensure_ascii=False)
            write_bytes(self._snapshot(entry.id), gzip.compress(text.encode("utf-8", "replace"), 1, mtime=0))
        lines = [json.dumps(each.json(), ensure_ascii=False) for each in (*entries, entry)]
        write_text(self.path, "".join(f"{line}\n" for line in lines))
        return entry

    def snapshot(self, entry_id: int) -> Snapshot:
        """What an entry changed.

        Raises:
            DatasetError: if its file is gone or damaged.
        """
        path = self._snapshot(entry_id)
        try:
            value = json.loads(gzip.decompress(path.read_bytes()))
            counts = value["counts"] and TagCounts(*value["counts"])
            raw = {name: _raw_from_json(data) for name, data in value["raw"].items()}
            return Snapshot(frozenset(value["seen"]), value["before"], value["after"], value["lost"], raw, counts)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{path}, which holds the captions before edit {entry_id}, cannot be read ({error})"
            ) from error

    def snapshot_of(self, entry_id: int, files: Collection[str]) -> Snapshot:
        """What an entry changed of ``files``, the pictures that are meant, by their paths of now.

        Raises:
            DatasetError: as :meth:`snapshot`.
        """
        return self.snapshot(entry_id).of_files(files, lambda name: (self._root / name).is_file())

    def seen(self, entry_id: int, files: Collection[str]) -> frozenset[str]:
        """Those of ``files`` that an edit has met, in the first place or in a replay that was not undone."""
        entries = self.entries()
        undone = {entry.undoes for entry in entries}
        replays = [entry.id for entry in entries if entry_id in entry.replays and entry.id not in undone]
        return frozenset().union(*(self.snapshot_of(each, files).seen for each in (entry_id, *replays)))

    def left_by_tagging(self, files: Collection[str]) -> dict[str, str]:
        """The caption that a tagger and the edits after it left of each of ``files``: whoever finds it there knows that
        nobody else wrote it."""
        entries = self.entries()
        undone = {entry.undoes for entry in entries}
        left: dict[str, str] = {}
        for entry in entries:
            if entry.undoes or entry.id in undone:
                continue
            snapshot = self.snapshot_of(entry.id, files)
            for name, after in snapshot.after.items():
                if entry.tagged_by or left.get(name) == snapshot.before[name]:
                    left[name] = after
                else:
                    left.pop(name, None)
        return left

    def captions_after(self, captions: Mapping[str, str], since: int) -> dict[str, str]:
        """What the entries after the one called ``since`` made of captions, by file: edits, replays and undos."""
        current = dict(captions)
        for entry in self.entries():
            if entry.id <= since:
                continue
            snapshot = self.snapshot_of(entry.undoes or entry.id, captions.keys())
            old, new = snapshot.before, snapshot.after
            if entry.undoes:
                old, new = new, old
            current |= {file: text for file, text in new.items() if current[file] == old[file]}
        return current

    def _snapshot(self, entry_id: int) -> Path:
        return self._snapshots / f"{entry_id:04d}.json.gz"


def read_log(path: Path) -> list[Entry]:
    """The entries of a log's file, oldest first.

    Raises:
        DatasetError: naming the line that cannot be read.
    """
    try:
        lines = json_lines(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the log of edits {path} cannot be read ({error})") from error
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(_entry(json.loads(line)))
        except (ValueError, KeyError, TypeError, OptionError) as error:
            raise DatasetError(f"{path}, line {number} is no edit ({error}); mend the line, or take it out") from error
    return entries


def edits_in(path: Path) -> list[Edit]:
    """The edits of a log's file that hold, in order, to be done on other pictures.

    Raises:
        DatasetError: naming the line that cannot be read.
    """
    entries = read_log(path)
    undone = {entry.undoes for entry in entries}
    return [entry.edit for entry in entries if entry.edit is not None and entry.id not in undone]


def _raw_json(data: bytes | None) -> str | dict[str, str] | None:
    """A caption file's bytes: as text where they are UTF-8, else ``{"base64": ...}``."""
    if data is None:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _raw_from_json(value: Any) -> bytes | None:
    """What :func:`_raw_json` wrote."""
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return None if value is None else str(value).encode("utf-8")


def _entry(value: Any) -> Entry:
    edit = None if "edit" not in value else edit_from_json(value["edit"])
    return Entry(
        int(value["id"]),
        str(value["at"]),
        edit,
        int(value.get("undoes", 0)),
        tuple(value.get("replays", ())),
        int(value["changed"]),
        str(value.get("tagged_by", "")),
    )


def _listed(value: Any) -> str:
    return (
        value if isinstance(value, str) else ", ".join(map(str, value)) if isinstance(value, Iterable) else str(value)
    )
