"""Bulk edits of a dataset folder: planned and shown, done, undone, and done again on pictures that came later."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loratools.dataset.caption_files import FilesBeside, one_line
from loratools.dataset.edits.expression import Where, read_where
from loratools.dataset.edits.log import Edit, Entry, OperationLog, Snapshot
from loratools.dataset.edits.subject import TagCounts, TaggedPicture, normal
from loratools.dataset.folder import CAPTION_EXTENSIONS, Size
from loratools.dataset.images import read_header
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder, captioned
from loratools.dataset.tags.tag import Tag, tag_from_json
from loratools.errors import FileError, OptionError
from loratools.files import write_bytes

_SHOWN = 12
_EXAMPLES = 3
Known = Callable[[str], str]  # the tag that a word stands for


@dataclass(frozen=True)
class Change:
    """One picture before and after."""

    before: Picture
    after: Picture

    @property
    def gone(self) -> list[Tag]:
        """Tags that leave the caption."""
        names = {normal(tag.name) for tag in self.after.tags}
        return [tag for tag in self.before.tags if normal(tag.name) not in names]

    @property
    def new(self) -> list[Tag]:
        """Tags that come into the caption."""
        names = {normal(tag.name) for tag in self.before.tags}
        return [tag for tag in self.after.tags if normal(tag.name) not in names]


@dataclass(frozen=True)
class EditPlan:
    """What edits would change.

    Attributes:
        looked_at: the pictures that they met.
        counts: the tags' counts that shares are of.
        notes: captions that cannot be read, a sentence each; they stay as they are.
    """

    changes: tuple[Change, ...]
    looked_at: tuple[Picture, ...]
    counts: TagCounts
    notes: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        gone, new = self._tags()
        return {
            "pictures": len(self.looked_at),
            "changed": len(self.changes),
            "removed": dict(gone.most_common()),
            "added": dict(new.most_common()),
            "captions": {
                each.before.file: {"before": each.before.caption(), "after": each.after.caption()}
                for each in self.changes
            },
            "notes": list(self.notes),
        }

    def lines(self, translated: Callable[[str], str] = str) -> list[str]:
        """For a person: what goes, what comes, and a few captions before and after.

        Args:
            translated: a tag as it is shown.
        """
        gone, new = self._tags()
        lines = [f"{len(self.changes)} of {len(self.looked_at)} captions change"]
        for verb, tags in (("removed", gone), ("added", new)):
            if tags:
                shown = ", ".join(
                    f"{translated(name)} ({count}, {self._share(count)})" for name, count in tags.most_common(_SHOWN)
                )
                more = f" and {len(tags) - _SHOWN} more tags" if len(tags) > _SHOWN else ""
                lines.append(f"  {verb}: {shown}{more}")
        for change in self.changes[:_EXAMPLES]:
            lines += [f"  {change.before.file}", f"    - {change.before.caption()}", f"    + {change.after.caption()}"]
        if len(self.changes) > _EXAMPLES:
            lines.append(f"  and {len(self.changes) - _EXAMPLES} more")
        return lines

    def _share(self, count: int) -> str:
        return f"{count / max(len(self.looked_at), 1):.0%}"

    def _tags(self) -> tuple[Counter[str], Counter[str]]:
        gone = Counter(normal(tag.name) for change in self.changes for tag in change.gone)
        return gone, Counter(normal(tag.name) for change in self.changes for tag in change.new)


class CaptionEditor:
    """The edits of one dataset folder.

    Args:
        known: the tag that a word in a filter stands for, such as its translation.

    Attributes:
        notes: a sentence for each caption that could not be written as asked.
    """

    def __init__(self, folder: DatasetFolder, known: Known = str) -> None:
        self.folder = folder
        self.log = OperationLog(folder.record_folder)
        self.notes: list[str] = []
        self._known = known
        self._sizes: dict[str, Size] = {}

    def plan(self, edit: Edit) -> EditPlan:
        """What an edit would change.

        Raises:
            OptionError: for a filter that cannot be read, or does not fit the operation.
        """
        read = self.folder.read()
        pictures = read.readable()
        counts = TagCounts.of(pictures)
        after = self._edited(edit, pictures, counts)
        changes = tuple(Change(one, two) for one, two in zip(pictures, after, strict=True) if one != two)
        return EditPlan(changes, tuple(pictures), counts, read.notes)

    def apply(self, edit: Edit, plan: EditPlan) -> Entry | None:
        """Do what was planned, and log it; None where nothing changes.

        Raises:
            FileError: if a caption cannot be written; ``undo`` then takes back those that were.
        """
        if not plan.changes:
            return None
        return self.write(plan, edit=edit)

    def undo(self) -> Undone:
        """Take back the last edit or replay, in all folders that it changed. Captions that were changed otherwise since
        then stay as they are.

        Raises:
            OptionError: if there is nothing to undo.
        """
        with self.folder.writing():
            entry = self.log.last()
            if entry is None:
                raise OptionError(f"there is nothing to undo in {self.folder.root}")
            restored, kept, files = [], [], dict[str, bytes | None]()
            root = self.folder.root  # the log's, which may be above the folder that was named
            read = DatasetFolder(root, root, self.folder.texts.encoding).read()
            snapshot = self.log.snapshot_of(entry.id, [picture.file for picture in read.pictures])
            self.notes += [note for file, note in read.unreadable.items() if file in snapshot.after]
            pictures = read.readable()
            for picture in pictures:
                name = picture.file
                if name not in snapshot.after:
                    continue
                if picture.caption() == snapshot.before[name]:  # of an undo that was interrupted, or never written
                    files |= {picture.file: snapshot.raw[name]} if name in snapshot.raw else {}
                    continue
                if picture.caption() != snapshot.after[name]:
                    kept.append(picture.file)
                    continue
                lost = tuple(map(tag_from_json, snapshot.lost.get(name, ())))
                aside = replace(picture, set_aside=(*picture.set_aside, *lost))
                restored.append(captioned(aside, snapshot.before[name]))
                if name in snapshot.raw:
                    files[picture.file] = snapshot.raw[name]
            with _explaining_failure(self.folder):
                self.notes += self.folder.write(restored)
                self._write_raw(pictures, files)
            self.log.append(None, undoes=entry.id, changed=len(restored))
        return Undone(entry, len(restored), tuple(kept))

    def plan_replay(self) -> tuple[EditPlan, tuple[int, ...]]:
        """What the logged edits would change in pictures that they have not met, and the edits' ids."""
        read = self.folder.read()
        pictures = read.readable()
        done = self._redo(pictures, lambda seen, name: name not in seen)
        changes = tuple(Change(one, two) for one, two in zip(pictures, done.pictures, strict=True) if one != two)
        looked_at = tuple(picture for picture in pictures if picture.file in done.met)
        counts = TagCounts.of(pictures)
        return EditPlan(changes, looked_at, counts, read.notes), done.ids

    def redone(self, pictures: Sequence[Picture]) -> Redone:
        """Pictures whose tags were made anew, after those of the logged edits that had met them before."""
        return self._redo(pictures, lambda seen, name: name in seen)

    def _redo(self, pictures: Sequence[Picture], is_due: Callable[[frozenset[str], str], bool]) -> Redone:
        after = {picture.file: picture for picture in pictures}
        met: set[str] = set()
        ids = []
        counts = TagCounts.of(pictures)
        for entry in self.log.active():
            seen = self.log.seen(entry.id, after.keys())
            due = [after[picture.file] for picture in pictures if is_due(seen, picture.file)]
            if not due or entry.edit is None:
                continue
            ids.append(entry.id)
            met |= {picture.file for picture in due}
            then = self.log.snapshot(entry.id).counts or counts
            after |= {picture.file: picture for picture in self._edited(entry.edit, due, then)}
        return Redone([after[picture.file] for picture in pictures], tuple(ids), met)

    def replay(self, plan: EditPlan, ids: tuple[int, ...]) -> Entry | None:
        """Do what :meth:`plan_replay` planned, and log it; None where no picture is new to the log."""
        return self.write(plan, replays=ids) if ids else None

    def edited(self, edits: Iterable[Edit], pictures: Sequence[Picture]) -> list[Picture]:
        """Pictures after several edits, of which nothing is written."""
        for edit in edits:
            pictures = self._edited(edit, pictures, TagCounts.of(pictures))
        return list(pictures)

    def _edited(self, edit: Edit, pictures: Sequence[Picture], counts: TagCounts) -> list[Picture]:
        where = read_where(edit.where, self._known) if edit.where.strip() else None
        if where is not None and where.of_tag and not edit.operation.about_tags:
            raise OptionError(
                f"the filter '{edit.where}' asks for a tag's share, count, score, category or source, and "
                f"{edit.operation.kind} is about pictures; these fields go with remove, replace, move and prune"
            )
        return [self._one(edit, picture, where, counts) for picture in pictures]

    def _one(self, edit: Edit, picture: Picture, where: Where | None, counts: TagCounts) -> Picture:
        if where is None:
            return edit.operation.apply(picture, lambda tag: True)
        subject = TaggedPicture(picture, counts, self._size, names=frozenset(normal(tag.name) for tag in picture.tags))
        if not where.of_tag:
            return edit.operation.apply(picture, lambda tag: True) if where(subject) else picture
        return edit.operation.apply(picture, lambda tag: where(subject.of(tag)))

    def _size(self, picture: Picture) -> Size:
        if picture.file not in self._sizes:
            self._sizes[picture.file] = read_header(self.folder.path_of(picture)).size
        return self._sizes[picture.file]

    def write(self, plan: EditPlan, **entry: Any) -> Entry:
        """Write what a plan changes, and log it.

        Args:
            entry: fields of the log's :class:`.log.Entry`.
        Raises:
            FileError: as :meth:`apply`.
        """
        with self.folder.writing():
            texts = self._texts(plan)
            changes = [change for change in plan.changes if change.before.file in texts]
            missed = {change.before.file for change in plan.changes} - texts.keys()
            met = [picture for picture in plan.looked_at if picture.file not in missed]
            snapshot = _snapshot(replace(plan, changes=tuple(changes), looked_at=tuple(met)), texts)
            logged = self.log.append(snapshot, changed=len(changes), **entry)
            with _explaining_failure(self.folder):
                self.notes += self.folder.write([change.after for change in changes])
        return logged

    def _texts(self, plan: EditPlan) -> dict[str, bytes | None]:
        """What the caption files of a plan's pictures hold now, None where there is none; those that say something else
        than when the plan was made are left out, and noted."""
        beside = FilesBeside()
        texts: dict[str, bytes | None] = {}
        for change in plan.changes:
            before = change.before
            file = beside.first(self.folder.path_of(before), CAPTION_EXTENSIONS)
            data = None if file is None else file.read_bytes()
            text = "" if file is None or data is None else one_line(self.folder.texts.decoded(file, data))
            if text == before.caption() or captioned(before, text) == before:
                texts[before.file] = data
            else:
                self.notes.append(f"the caption of {before.file} was changed in the meantime, and stays as it is")
        return texts

    def _write_raw(self, pictures: Sequence[Picture], files: Mapping[str, bytes | None]) -> None:
        """Give caption files back what they held, byte for byte; one that was not there goes."""
        beside = FilesBeside()
        for picture in pictures:
            if picture.file not in files:
                continue
            file = beside.first(self.folder.path_of(picture), CAPTION_EXTENSIONS)
            data = files[picture.file]
            if file is None:
                continue
            if data is None:
                file.unlink(missing_ok=True)  # two pictures may share it
            elif file.read_bytes() != data:
                write_bytes(file, data, sync=False)


def _snapshot(plan: EditPlan, texts: Mapping[str, bytes | None]) -> Snapshot:
    """What has to be known to take a plan back.

    Args:
        texts: what the caption files hold, by picture.
    """
    before, after, lost, raw = dict[str, str](), dict[str, str](), dict[str, list[Any]](), dict[str, bytes | None]()
    for change in plan.changes:
        name = change.before.file
        before[name], after[name] = change.before.caption(), change.after.caption()
        if gone := change.gone:
            lost[name] = [tag.json() for tag in gone]
        data = texts[change.before.file]
        if data != f"{before[name]}\n".encode("utf-8", "replace"):
            raw[name] = data
    seen = frozenset(picture.file for picture in plan.looked_at)
    return Snapshot(seen, before, after, lost, raw, plan.counts)


@dataclass(frozen=True)
class Redone:
    """Pictures after logged edits, the edits' ids, and the files of the pictures that any of them met."""

    pictures: list[Picture]
    ids: tuple[int, ...]
    met: set[str]


@dataclass(frozen=True)
class Undone:
    """What an undo did: the entry, how many captions went back, and those that had been changed since and stayed."""

    entry: Entry
    restored: int
    kept: tuple[str, ...]


@contextlib.contextmanager
def _explaining_failure(folder: DatasetFolder) -> Iterator[None]:
    """Say what to do where captions cannot be written to the end."""
    try:
        yield
    except OSError as error:
        raise FileError(
            f"a caption in {folder.root} cannot be written ({error.strerror or error}); those written so far are "
            f"whole, and `loratools dataset edit {folder.folder} undo` takes them back once there is room"
        ) from error
