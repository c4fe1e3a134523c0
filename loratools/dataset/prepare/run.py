"""The preparation of a folder, from the first picture to the last; what was prepared before is left as it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from loratools.dataset.detect.detectors import Detectors
from loratools.dataset.detect.framing import usual_heads_tall
from loratools.dataset.encodings import AUTO
from loratools.dataset.facts.facts import PictureFacts
from loratools.dataset.facts.kept import KeptFacts
from loratools.dataset.facts.measure import side_by_side
from loratools.dataset.images import read_header
from loratools.dataset.look.seen import find_boxes
from loratools.dataset.prepare.earlier import Earlier, stem_of
from loratools.dataset.prepare.enlarge import Upscaler
from loratools.dataset.prepare.make import Made, Maker, Original
from loratools.dataset.prepare.manifest import NAME, Entry, Manifest, read_manifest
from loratools.dataset.prepare.names import Names
from loratools.dataset.prepare.options import PrepareOptions
from loratools.dataset.prepare.place import (
    Places,
    class_folders,
    drop_mask,
    move,
    same_crops,
    wanted_folder,
    with_groups,
)
from loratools.dataset.prepare.report import REASONS, PrepareReport
from loratools.dataset.prepare.sort import Sorted, refused_entry, sort_originals, unread_entry
from loratools.dataset.prepare.text import is_white, mask_of
from loratools.dataset.sidecars.read import read_folder
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import RECORD_FOLDER, DatasetFolder
from loratools.dataset.tags.vocabulary import CLASSES, VARIANTS
from loratools.dataset.walk import MASKS, UNUSED, files_below
from loratools.errors import FileError, LoratoolsError
from loratools.file_names import spelled_on_disk
from loratools.files import locked, replacing, write_text
from loratools.progress import OnProgress, part_of

_CHUNK: Final = 128  # originals after which captions and the manifest are written
_WORDS: Final = tuple(word for kind in CLASSES for word in (kind, f"{kind}{VARIANTS}"))


@dataclass
class Preparation:
    """One run.

    Attributes:
        manifest: what came of every original so far.
        known: names of the pieces that were there before this run.
        stale: what an earlier run made and this one has not come to yet; it stays in the manifest until the end, so
            that a run which is killed loses no edited caption.
        problems: originals that failed.
    """

    source: DatasetFolder
    out: Path
    options: PrepareOptions
    detectors: Detectors
    upscaler: Upscaler | None = None
    manifest: Manifest = field(default_factory=Manifest)
    known: frozenset[str] = frozenset()
    stale: Mapping[str, Entry] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    done: int = 0

    def run(self, on_progress: OnProgress | None = None) -> PrepareReport:
        """Do all of it; see :func:`prepare`."""
        before = read_manifest(self.out) or Manifest()
        kept = KeptFacts(self.out / RECORD_FOLDER / "facts.npz")
        below = files_below(self.source.folder)
        count, parts = max(len(below.pictures), 1), 4 if self.detectors else 3
        tags = read_folder(self.source, below=below, on_progress=part_of(on_progress, 0, parts, count))
        self.notes += tags.problems
        paths = {self.source.file_of(path): path for path in below.pictures}
        measured = kept.measure(paths, part_of(on_progress, 1, parts, count))
        by_file = {picture.file: picture for picture in tags.pictures}
        pictures = [(by_file[self.source.file_of(path)], facts) for path, facts in measured.facts.items()]
        held = self._still_holding(before, {picture.file: facts for picture, facts in pictures})
        sorted_ = sort_originals(pictures, held, self.options)
        held = {
            file: entry for file, entry in held.items() if entry.caption in ("", sorted_.caption_digest(by_file[file]))
        }
        refused = {
            self.source.file_of(path): refused_entry(self.source.file_of(path), path, reason)
            for path, reason in measured.refused.items()
        }
        refused |= {self.source.file_of(path): unread_entry(self.source.file_of(path)) for path in below.unread}
        self.notes += [f"the folder {path} cannot be opened ({reason})" for path, reason in below.unlisted]
        self.notes += self.detectors.notes(paths)
        entries = {file: held[file] for file in sorted_.used if file in held} | dict(sorted_.entries) | refused
        self.manifest = Manifest(self._settings(), str(self.source.folder), entries)
        self.known = frozenset(piece.name for entry in held.values() for piece in entry.pieces)
        self.stale = {
            file: replace(entry, stale=True)
            for file, entry in before.entries.items()
            if entry.pieces and file not in held
        }
        self._write_progress()
        kept.save([picture.file for picture, _ in pictures])
        new = list(self._originals(pictures, sorted_, before, paths))
        new = self._detect(new, before, part_of(on_progress, parts - 2, parts, count))
        self._make(new, before, part_of(on_progress, parts - 1, parts, count))
        self._take_out(before)
        masked = self._finish(sorted_, paths)
        return PrepareReport(self.out, self.manifest, self.done, tuple(self.problems), tuple(self.notes), masked=masked)

    def _settings(self) -> dict[str, object]:
        upscaler = self.upscaler.identity if self.upscaler is not None else None
        return {**self.options.json(), "detectors": list(self.detectors.identities), "upscaler": upscaler}

    def _still_holding(self, before: Manifest, facts: Mapping[str, PictureFacts]) -> dict[str, Entry]:
        """Entries of an earlier run with the same settings, of originals that are as they were, and whose boxes by
        hand are."""
        if before.settings != self._settings():
            return {}
        return {
            file: entry
            for file, entry in before.entries.items()
            if file in facts
            and facts[file].digest == entry.digest
            and entry.outcome == "used"
            and not entry.stale
            and entry.boxes == self.detectors.given_digest(file)
        }

    def _originals(
        self,
        pictures: Sequence[tuple[Picture, PictureFacts]],
        sorted_: Sorted,
        before: Manifest,
        paths: Mapping[str, Path],
    ) -> Iterator[Original]:
        """The originals that have to be worked on; those of an earlier run keep their names."""
        earlier = {file: entry.pieces[0].name for file, entry in before.entries.items() if entry.pieces}
        names = Names(_whole_stem(before.entries[file]) for file in earlier)
        used = set(sorted_.used)
        for picture, facts in pictures:
            if picture.file not in used or picture.file in self.manifest.entries:
                continue
            name = earlier.get(picture.file, "")
            stem = _whole_stem(before.entries[picture.file]) if name else ""
            yield Original(paths[picture.file], sorted_.tagged(picture), facts, stem or names.of(picture.file))

    def _detect(self, originals: list[Original], before: Manifest, on_progress: OnProgress | None) -> list[Original]:
        """The originals with their boxes, and in the manifest how many heads tall the folder's figures are."""
        if not self.detectors:
            return originals
        found = find_boxes(self.source, [original.path for original in originals], self.detectors, on_progress)
        self.problems += found.refused.values()
        boxed = [replace(one, boxes=found.boxes[one.path]) for one in originals if one.path in found.boxes]
        known = before.heads_tall if before.settings == self._settings() else None
        heads_tall = known or usual_heads_tall((one.facts.size, one.boxes) for one in boxed)
        self.manifest = replace(self.manifest, heads_tall=heads_tall)
        return boxed

    def _make(self, originals: Sequence[Original], before: Manifest, on_progress: OnProgress | None) -> None:
        """Make pieces, and keep what is finished after every chunk."""
        folders, heads_tall = class_folders(self.out, _WORDS), self.manifest.heads_tall
        maker = Maker(self.out, folders, self.options, heads_tall, self.upscaler)
        by_path = {original.path: original for original in originals}
        store = DatasetFolder(self.out.resolve(), self.out.resolve())
        earlier = Earlier.of(before, Places.below(store.root)) if originals else Earlier()
        edited = earlier.edited(store)
        waiting: list[Made] = []
        for number, (_, result) in enumerate(side_by_side(lambda one: maker.make(by_path[one]), list(by_path)), 1):
            if isinstance(result, LoratoolsError):
                self.problems.append(str(result))
            else:
                waiting.append(result)
            if len(waiting) == _CHUNK or number == len(by_path):
                self._keep(waiting, store, earlier, edited)
                waiting = []
            self.done += not isinstance(result, LoratoolsError)
            if on_progress is not None:
                on_progress(number, len(by_path))

    def _keep(
        self, made: Sequence[Made], store: DatasetFolder, earlier: Earlier, edited: Mapping[str, Picture]
    ) -> None:
        """Write captions, record and manifest of finished originals; captions that a person edited stay, and what an
        earlier run made of them elsewhere goes."""
        if not made:
            return
        pictures = [
            replace(picture, tags=kept.tags, sentence=kept.sentence)
            if (kept := edited.get(stem_of(picture.file))) is not None
            else picture
            for one in made
            for picture in one.pictures
        ]
        self.notes += store.write(pictures)
        earlier.give_way([piece for one in made for piece in one.entry.pieces], pictures, store)
        entries = dict(self.manifest.entries)
        for one in made:
            entries[one.entry.file] = replace(one.entry, boxes=self.detectors.given_digest(one.entry.file))
        self.manifest = replace(self.manifest, entries=entries)
        self._write_progress()

    def _write_progress(self) -> None:
        """Write the manifest with what is still to be made anew or taken out."""
        replace(self.manifest, entries={**self.stale, **self.manifest.entries}).write(self.out)

    def _take_out(self, before: Manifest) -> None:
        """Pieces of an earlier run that this one has not: their originals are gone or changed, or settings are. Where
        it has one of the same name, in another kind of file, that has taken their place."""
        places = Places.below(self.out)
        present = {stem_of(piece.name) for _, piece in self.manifest.pieces()}
        forget = []
        for entry, piece in before.pieces():
            if stem_of(piece.name) not in present and piece.name in places.paths:
                forget.append(places.paths[piece.name].relative_to(self.out).as_posix())
                move(places.paths[piece.name], self.out / UNUSED)
                drop_mask(self.out, piece.name)
                gone = "is gone" if entry.file not in self.manifest.entries else "is not prepared like this any more"
                self.notes.append(f"{piece.name} was moved to {UNUSED}, since its original {entry.file} {gone}")
        if forget:
            store = DatasetFolder(self.out.resolve(), self.out.resolve())
            store.write([], forget)

    def _finish(self, sorted_: Sorted, paths: Mapping[str, Path]) -> bool:
        """Copies among crops, groups, places, masks, what is not used, and the manifest; whether there are masks."""
        places = Places.below(self.out)
        crops = KeptFacts(self.out / RECORD_FOLDER / "crops.npz")
        same = same_crops(self.manifest, places, crops, self.known)
        self.manifest = _with_unused(
            self.manifest, {name: f"shows the same as {first}" for name, first in same.items()}
        )
        self.manifest = with_groups(self.manifest, sorted_.groups)
        self._place(places)
        masked = self._fill_masks(Places.below(self.out))
        self._write_unused(paths)
        self.manifest = replace(self.manifest, finished=True)
        self.manifest.write(self.out)
        return masked

    def _place(self, places: Places) -> None:
        """Move every piece to where it belongs, and write its group into the record."""
        store = DatasetFolder(self.out.resolve(), self.out.resolve())
        folders = class_folders(self.out, _WORDS)
        pictures = {Path(picture.file).name: picture for picture in store.pictures()} if self.manifest.entries else {}
        forget, changed = [], []
        for entry in self.manifest.entries.values():
            for piece in entry.pieces:
                path, picture = places.paths.get(piece.name), pictures.get(piece.name)
                if path is None or picture is None:
                    continue  # taken out by a person
                folder = wanted_folder(piece, folders)
                if path.parent.name != folder:
                    forget.append(picture.file)
                    path = move(path, self.out / folder)
                if piece.unused:
                    drop_mask(self.out, piece.name)
                    continue
                file = path.relative_to(self.out).as_posix()
                if picture.file != file or picture.group != piece.group:
                    changed.append(replace(picture, file=file, group=piece.group))
        if forget or changed:
            self.notes += store.write(changed, forget)

    def _fill_masks(self, places: Places) -> bool:
        """If one picture has a mask, give one to all: training reads none or all of them."""
        folder = self.out / MASKS
        if not folder.is_dir() or not any(folder.glob("*.png")):
            return False
        for path in places.paths.values():
            wanted = folder / f"{path.stem}.png"
            mask = spelled_on_disk(wanted) or wanted
            size = read_header(path).size
            if not mask.exists() or (read_header(mask).size != size and is_white(mask)):
                with replacing(mask, sync=False) as part:
                    mask_of(size, ()).save(part, format="PNG")
            elif read_header(mask).size != size:
                self.notes.append(f"the mask {mask} is not as large as its picture {path}; draw it anew, or delete it")
        return True

    def _write_unused(self, paths: Mapping[str, Path]) -> None:
        """Copies of the originals that are not used, and the reasons of all that is left out."""
        lines = []
        for entry in self.manifest.entries.values():
            if entry.outcome != "used":
                lines.append(f"{entry.file}: {entry.reason}")
            lines += [f"{piece.name}: {piece.unused}" for piece in entry.pieces if piece.unused]
            lines += [f"{entry.file}: {note}" for note in entry.notes]
            target = self.out / UNUSED / entry.file
            if entry.outcome == "unused" and entry.file in paths and not target.exists():
                with replacing(target, sync=False) as part:
                    shutil.copyfile(paths[entry.file], part)
        if lines or (self.out / UNUSED / REASONS).exists():
            write_text(self.out / UNUSED / REASONS, "".join(f"{line}\n" for line in sorted(lines)))


def prepare(
    folder: str | Path,
    out: str | Path,
    options: PrepareOptions | None = None,
    detectors: Detectors | None = None,
    upscaler: Upscaler | None = None,
    *,
    encoding: str = AUTO,
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> PrepareReport:
    """Make a set of training pictures of a folder; its own files are only read.

    A second run works on originals alone that are new, or whose pixels, caption or boxes by hand changed, if the
    settings (models by their bytes) are the same; captions that were edited, and
    pictures that were taken out by hand, stay so.

    Args:
        encoding: of sidecars that are not Unicode; captions are written in UTF-8.
    Raises:
        DatasetError: if the folder, its record or the manifest cannot be read.
        HeldError: if another process prepares, edits or tags ``out``.
        FileError: if ``out`` holds something else and ``force`` is not given, lies in the folder or holds it, or cannot
            be written.
    """
    source, target = DatasetFolder.open(folder, encoding), Path(out)
    _check_out(source.folder, target, force)
    preparation = Preparation(source, target, options or PrepareOptions(), detectors or Detectors(), upscaler)
    try:
        made = DatasetFolder(target.resolve(), target.resolve())
        with locked(target / RECORD_FOLDER / "prepare"), made.writing():
            return preparation.run(on_progress)
    except OSError as error:
        raise FileError(
            f"{target} cannot be written ({error.strerror or error}); make room, and run the same command again: what "
            "is finished stays"
        ) from error


def _check_out(source: Path, out: Path, force: bool) -> None:
    """Refuse a folder that is not ours to write, or that originals would be read from or written into."""
    target = out.resolve()
    if target == source or source in target.parents or target in source.parents:
        raise FileError(f"{out} and the originals in {source} lie in one another; name an `out` beside them")
    others = [path for path in target.iterdir() if path.name != RECORD_FOLDER] if target.is_dir() else []
    if target.is_file() or (others and not (target / NAME).is_file() and not force):
        raise FileError(f"{out} exists and was not prepared by this command; name another, or use `force=True`")


def _whole_stem(entry: Entry) -> str:
    """The name that an original's pieces begin with."""
    whole = next((piece for piece in entry.pieces if piece.crop is None), None)
    if whole is not None:
        return whole.name.rpartition(".")[0]
    return entry.pieces[0].name.rpartition("_")[0]


def _with_unused(manifest: Manifest, reasons: Mapping[str, str]) -> Manifest:
    """The manifest with pieces marked as not used."""
    if not reasons:
        return manifest
    entries = {
        file: replace(
            entry,
            pieces=tuple(replace(piece, unused=reasons.get(piece.name, piece.unused)) for piece in entry.pieces),
        )
        for file, entry in manifest.entries.items()
    }
    return replace(manifest, entries=entries)
