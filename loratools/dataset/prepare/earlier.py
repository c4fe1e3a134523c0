"""What an earlier run made, where this one makes it anew: captions that were edited since stay, its files give way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratools.dataset.folder import CAPTION_EXTENSIONS
from loratools.dataset.prepare.manifest import Manifest, Piece, read_manifest
from loratools.dataset.prepare.place import Places, drop_mask
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder


@dataclass(frozen=True)
class Earlier:
    """Pieces of an earlier run by their names without endings, which stay when a piece becomes another kind of file.

    Attributes:
        paths: where they stand now: in whatever folder a balance, a group or another class has put them.
    """

    pieces: Mapping[str, Piece] = field(default_factory=dict)
    paths: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, places: Places) -> Earlier:
        """Those of a manifest that are among ``places``."""
        pieces = {stem_of(piece.name): piece for entry in manifest.entries.values() for piece in entry.pieces}
        paths: dict[str, list[Path]] = {}
        for path in places.every:
            if path.stem in pieces:
                paths.setdefault(path.stem, []).append(path)
        return cls(pieces, {stem: tuple(own) for stem, own in paths.items()})

    def edited(self, store: DatasetFolder) -> dict[str, Picture]:
        """The pictures whose captions are others than that run wrote."""
        if not self.pieces:
            return {}
        current = {stem_of(picture.file): picture for picture in store.pictures()}
        return {
            stem: picture
            for stem, picture in current.items()
            if stem in self.pieces and picture.tags and picture.caption() != self.pieces[stem].caption
        }

    def give_way(self, made: Iterable[Piece], pictures: Iterable[Picture], store: DatasetFolder) -> None:
        """Delete what stands for pieces that were ``made`` anew elsewhere, or as another kind of file, and masks of
        text that is not masked any more.

        Args:
            pictures: those pieces in the folder of ``store``.
        """
        for piece in made:
            before = self.pieces.get(stem_of(piece.name))
            if before is not None and before.masked and not piece.masked:
                drop_mask(store.root, piece.name)
        gone = []
        for new in map(store.path_of, pictures):
            for old in self.paths.get(new.stem, ()):
                if old == new or not old.exists() or old.samefile(new):
                    continue
                if old.parent != new.parent:
                    for caption in (old.with_suffix(extension) for extension in CAPTION_EXTENSIONS):
                        caption.unlink(missing_ok=True)
                old.unlink()
                gone.append(store.file_of(old))
        if gone:
            store.write([], gone)


def stem_of(file: str) -> str:
    """The name of a picture without its folder and its ending."""
    return file.rpartition("/")[2].rpartition(".")[0]


def changes_by_hand(out: Path) -> dict[str, Any]:
    """What a person changed in a prepared folder, which a further run leaves as it is: captions by picture, and names
    of pictures that were taken out or added; empty where nothing was, or nothing was prepared.

    Raises:
        DatasetError: if its manifest or its record cannot be read.
    """
    manifest = read_manifest(out)
    if manifest is None:
        return {}
    pieces = {piece.name: piece for _, piece in manifest.pieces()}
    there = {picture.file.rpartition("/")[2]: picture for picture in DatasetFolder(out, out).pictures()}
    captions = {
        name: picture.caption()
        for name, picture in there.items()
        if name in pieces and picture.caption() != pieces[name].caption
    }
    new = sorted(there.keys() - pieces) if manifest.finished else []  # else a run that was killed may have made them
    changes = {"captions": captions, "out": sorted(pieces.keys() - there), "new": new}
    return {name: value for name, value in changes.items() if value}
