"""Where pieces stand: in their class's folder, among variants, or taken out; moved with their captions and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.dataset.facts.kept import KeptFacts
from loratools.dataset.folder import CAPTION_EXTENSIONS, folder_repeats, folders_in
from loratools.dataset.prepare.manifest import Manifest, Piece
from loratools.dataset.similar.pairs import find_pairs
from loratools.dataset.tags.vocabulary import VARIANTS
from loratools.dataset.walk import MASKS, UNUSED, pictures_below
from loratools.file_names import spelled_on_disk


@dataclass(frozen=True)
class Places:
    """Where pictures stand below a folder now: path by file name; and ``every`` path, where names repeat too."""

    out: Path
    paths: Mapping[str, Path]
    every: tuple[Path, ...] = ()

    @classmethod
    def below(cls, out: Path) -> Places:
        """Look for them."""
        every = pictures_below(out) if out.is_dir() else ()
        return cls(out, {path.name: path for path in every}, every)


def class_folders(out: Path, words: tuple[str, ...]) -> dict[str, str]:
    """The folder of each class's word: one that is there, whatever its repeats, else ``1_WORD``."""
    there: dict[str, str] = {}
    for folder in folders_in(out) if out.is_dir() else []:
        numbered = folder_repeats(folder)
        if numbered is not None:
            there.setdefault(numbered.word, folder.name)
    return {word: there.get(word, f"1_{word}") for word in words}


def same_crops(manifest: Manifest, places: Places, kept: KeptFacts, known: frozenset[str]) -> dict[str, str]:
    """Crops that show the same as another one of their class, and the one that stays, by name.

    Args:
        kept: the facts of crops, of which only new ones are read.
        known: names of pieces that an earlier run made, which stay.
    """
    crops = [piece for _, piece in manifest.pieces() if piece.crop is not None and piece.name in places.paths]
    crops.sort(key=lambda piece: (piece.name not in known, piece.factor, piece.name))
    measured = kept.measure({piece.name: places.paths[piece.name] for piece in crops}).facts
    gone: dict[str, str] = {}
    for kind in dict.fromkeys(piece.kind for piece in crops):
        same = [piece for piece in crops if piece.kind == kind and places.paths[piece.name] in measured]
        facts = [measured[places.paths[piece.name]] for piece in same]
        since = sum(piece.name in known for piece in same)
        for pair in find_pairs([one.small_print for one in facts], [one.ratio for one in facts], since):
            first, second = same[pair.first].name, same[pair.second].name
            if pair.kind == "duplicate" and first not in gone:
                gone[second] = first
    kept.save([piece.name for piece in crops if piece.name not in gone])
    return gone


def with_groups(manifest: Manifest, groups: Mapping[str, str]) -> Manifest:
    """The manifest with each used piece's group: the original's, if another picture of it has a piece of the class."""
    counts: Counter[tuple[str, str]] = Counter()
    for file, kind in {(entry.file, piece.kind) for entry, piece in manifest.pieces()}:
        if file in groups:
            counts[groups[file], kind] += 1

    def grouped(file: str, piece: Piece) -> Piece:
        group = groups.get(file, "")
        return replace(piece, group=group if not piece.unused and counts[group, piece.kind] > 1 else "")

    entries = {
        file: replace(entry, pieces=tuple(grouped(file, piece) for piece in entry.pieces))
        for file, entry in manifest.entries.items()
    }
    return replace(manifest, entries=entries)


def wanted_folder(piece: Piece, folders: Mapping[str, str]) -> str:
    """The folder that a piece belongs to."""
    if piece.unused:
        return UNUSED
    return folders[f"{piece.kind}{VARIANTS}" if piece.group else piece.kind]


def move(path: Path, folder: Path) -> Path:
    """Move a picture with its caption into ``folder``; returns where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for extension in CAPTION_EXTENSIONS:
        if (caption := spelled_on_disk(path.with_suffix(extension))) is not None:
            caption.replace(folder / caption.name)
    return path.replace(folder / path.name)


def drop_mask(out: Path, name: str) -> None:
    """Delete the mask of a piece that is not used."""
    mask = spelled_on_disk(out / MASKS / f"{Path(name).stem}.png")
    if mask is not None:
        mask.unlink()
