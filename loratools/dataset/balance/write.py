"""A balance on disk: a folder of ``N_name`` folders, folders renamed where they are, or a training config."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from loratools.dataset.balance.plan import Balance
from loratools.dataset.caption_files import FilesBeside
from loratools.dataset.folder import CAPTION_EXTENSIONS
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import RECORD_FOLDER, DatasetFolder
from loratools.dataset.walk import MASKS, pictures_below
from loratools.errors import DatasetError, FileError
from loratools.file_names import spelled_on_disk
from loratools.files import replacing_folder, sha256, write_text
from loratools.progress import OnProgress

MARKER: Final = "balance.json"  # in the record of a folder that was written here: whose it is, and its plan


def write_folders(
    folder: DatasetFolder,
    balance: Balance,
    out: Path,
    *,
    force: bool = False,
    owner: str = "",
    on_progress: OnProgress | None = None,
) -> Path:
    """Copy the pictures into ``N_name`` folders in ``out``, with captions, masks and record; groups of variants are
    filled up with copies. The folder appears whole or not at all.

    Args:
        force: overwrite a folder that was not written here, or in which a person has changed something since.
        owner: who may overwrite it again without ``force``: a recipe's step, or empty for the command line.
    Raises:
        FileError: if ``out`` holds something else, or what a person changed, if one lies in the other, or if it cannot
            be written.
    """
    _check_out(folder, out, force, owner)
    beside = FilesBeside()
    masks = folder.root / MASKS
    places = list(_places(balance, masks))
    try:
        with replacing_folder(out) as fresh:
            written = []
            for number, (picture, place) in enumerate(places, 1):
                source, target = folder.path_of(picture), fresh / place
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
                if (caption := beside.first(source, CAPTION_EXTENSIONS)) is not None:
                    shutil.copy2(caption, target.with_suffix(caption.suffix.lower()))
                _copy_mask(masks, picture, fresh, place)
                written.append(replace(picture, file=place))
                if on_progress is not None:
                    on_progress(number, len(places))
            lines = (json.dumps(picture.json(), ensure_ascii=False) for picture in written)
            write_text(fresh / RECORD_FOLDER / "tags.jsonl", "".join(f"{line}\n" for line in lines))
            marker = {"owner": owner, **balance.json(), "files": _files(fresh)}
            write_text(fresh / RECORD_FOLDER / MARKER, json.dumps(marker, indent=1))
    except OSError as error:
        raise FileError(
            f"{out} cannot be written ({error.strerror or error}); nothing was changed: make room, or name "
            "another folder"
        ) from error
    return out


def rename_folders(balance: Balance) -> list[tuple[Path, Path]]:
    """Rename each class's folder to its new number; returns the folders before and after.

    Raises:
        DatasetError: if a class has no folder of its own, or another folder has the new name; nothing is renamed then.
        FileError: if one cannot be renamed; those before it get their old names again.
    """
    moves = planned_names(balance)
    for before, after in moves:  # no new name is another's old one, since each ends in its own class's word
        if after.exists() and not before.samefile(after):
            raise DatasetError(f"{before} cannot become {after.name}, which is there already; move one of them away")
    done: list[tuple[Path, Path]] = []
    for before, after in moves:
        try:
            before.rename(after)
        except OSError as error:
            for old, new in reversed(done):
                new.rename(old)
            raise FileError(
                f"{before} cannot be renamed ({error.strerror or error}); nothing was: close what has it open"
            ) from error
        done.append((before, after))
    return moves


def planned_names(balance: Balance) -> list[tuple[Path, Path]]:
    """The folders that get another name by the best plan, before and after.

    Raises:
        DatasetError: if a class has no folder of its own.
    """
    moves = []
    for each, repeats in zip(balance.classes, balance.best.repeats, strict=True):
        if each.folder is None:
            raise DatasetError(
                f"the pictures of '{each.word}' lie in several folders; `out=FOLDER` writes them into one"
            )
        after = each.folder.with_name(f"{repeats}_{each.word}")
        if after != each.folder:
            moves.append((each.folder, after))
    return moves


def config_text(folder: DatasetFolder, balance: Balance, out: Path) -> str:
    """A training config that shows each class as often as the best plan says; paths are from its own folder.

    Raises:
        DatasetError: if a class has no folder of its own.
    """

    def written(path: Path) -> str:
        relative = Path(os.path.relpath(path.resolve(), out.resolve().parent)).as_posix()
        return json.dumps(relative, ensure_ascii=False)

    masks = folder.root / MASKS
    mask = f", mask_folder: {written(masks)}" if masks.is_dir() else ""
    lines = ["# repeats by `loratools dataset balance`", "images:"]
    for each, repeats in zip(balance.classes, balance.best.repeats, strict=True):
        if each.folder is None:
            raise DatasetError(f"the pictures of '{each.word}' lie in several folders; write a folder instead")
        lines.append(f"  - {{folder: {written(each.folder)}, repeats: {repeats}{mask}}}")
    if balance.request.mirrored:
        lines.append("flip: true")
    return "\n".join(lines) + "\n"


def is_config_of_balance(text: str) -> bool:
    """Whether a config holds nothing but what :func:`config_text` writes, so that another may take its place."""
    ours = ("# repeats by", "images:", "  - {folder: ", "flip: true")
    return text.startswith(ours[0]) and all(line.startswith(ours) for line in text.splitlines())


def _places(balance: Balance, masks: Path) -> Iterator[tuple[Picture, str]]:
    """Each picture with its path in the new folder; copies, and pictures of one name, get a number. Where there are
    masks, which lie all in one folder, no two pictures share a name."""
    taken: set[str] = set()
    for each, repeats in zip(balance.classes, balance.best.repeats, strict=True):
        for picture, copy in each.filled():
            name = PurePosixPath(picture.file)
            stem, place = name.stem if copy == 0 else f"{name.stem}_copy{copy}", f"{repeats}_{each.word}"
            spellings = (stem if number == 1 else f"{stem}_{number}" for number in itertools.count(1))
            keys = (
                (spelling, (spelling if masks.is_dir() else f"{place}/{spelling}").lower()) for spelling in spellings
            )
            free, key = next((spelling, key) for spelling, key in keys if key not in taken)
            taken.add(key)
            yield picture, f"{place}/{free}{name.suffix}"


def _copy_mask(masks: Path, picture: Picture, fresh: Path, place: str) -> None:
    source = spelled_on_disk(masks / f"{PurePosixPath(picture.file).stem}.png")
    if source is not None:
        target = fresh / MASKS / f"{PurePosixPath(place).stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


def _files(root: Path) -> dict[str, str]:
    """The pictures and captions of a folder: of captions a digest, of pictures the name alone, since only people who
    add or remove some change them."""
    pictures = [*pictures_below(root)]
    beside = FilesBeside()
    captions = [file for path in pictures if (file := beside.first(path, CAPTION_EXTENSIONS)) is not None]
    names = {path.relative_to(root).as_posix(): "" for path in pictures}
    return names | {path.relative_to(root).as_posix(): sha256(path)[:16] for path in captions}


def _check_out(folder: DatasetFolder, out: Path, force: bool, owner: str) -> None:
    place = out.resolve()
    if place == folder.root or place.is_relative_to(folder.folder) or folder.root.is_relative_to(place):
        raise FileError(
            f"{out} and the folder that is balanced lie in one another; name one beside it, or use `rename=True`"
        )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        marker = json.loads((out / RECORD_FOLDER / MARKER).read_text(encoding="utf-8"))
        ours, files = marker.get("owner") == owner, dict(marker.get("files", {}))
    except (OSError, ValueError, AttributeError, TypeError):
        ours, files = False, {}
    if not ours and not force:
        raise FileError(f"{out} exists and was not written by this; name another folder, or use `force=True`")
    if out.is_file():
        raise FileError(f"{out} is a file; name a folder, or a config that ends in .yaml")
    if files and not force:
        _check_unchanged(out, files)


def _check_unchanged(out: Path, files: Mapping[str, str]) -> None:
    now = _files(out)
    changed = sorted(name for name in files.keys() | now.keys() if files.get(name) != now.get(name))
    if changed:
        several = f" and {len(changed) - 1} more files" if len(changed) > 1 else ""
        raise FileError(
            f"{out / changed[0]}{several} changed since this folder was written; do that in the folder that is "
            "balanced, where it stays, or use `force=True` to write over it"
        )
