"""Finding pictures and their captions: every folder, file and caption is opened and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.dataset.caption_files import FolderCaptions, Uncaptioned, find_captions
from loratools.dataset.caption_metadata import Captions, find_listed, read_captions
from loratools.dataset.folder import (
    IMAGE_EXTENSIONS,
    Folder,
    FolderOptions,
    Item,
    folder_repeats,
    folders_read,
    images_in,
)
from loratools.dataset.images import ImageHeader, read_header, unreadable
from loratools.dataset.unused import no_pictures, unused_files, unused_folders
from loratools.errors import DatasetError
from loratools.file_names import spelled_on_disk
from loratools.files import sha256


@dataclass(frozen=True)
class Scan:
    """All pictures of some folders.

    Attributes:
        uncaptioned: those that have no caption, in the order of the items.
        notes: what a person should know, and what stops nothing.
    """

    items: tuple[Item, ...]
    folders: tuple[Folder, ...]
    uncaptioned: tuple[Uncaptioned, ...]
    notes: tuple[str, ...]


def scan(requests: Sequence[FolderOptions], seed: int) -> Scan:
    """Find, open and check every picture and caption of the folders that are asked for.

    Args:
        seed: of the choice of pictures that are held out.
    Raises:
        DatasetError: naming the folder without pictures, or the picture, caption, mask or list that cannot be read.
    """
    notes: list[str] = []
    folders = [folder for index, options in enumerate(requests) for folder in _folders(options, index)]
    items: list[Item] = []
    uncaptioned: list[Uncaptioned] = []
    for index, folder in enumerate(folders):
        paths, listed = _listed(folder)
        captions = find_captions(folder, paths, listed, _word(folder))
        folders[index] = replace(folder, class_tokens=captions.class_tokens)
        uncaptioned += captions.uncaptioned
        headers = [read_header(path) for path in paths]
        notes += [*captions.notes, *_notes(folder, paths, headers, captions)]
        for path, header, caption in zip(paths, headers, captions.texts, strict=True):
            mask = _mask_of(path, folder.options.mask_folder)
            items.append(
                Item(path=path, caption=caption, folder=index, size=header.size, digest=_digest(path), mask=mask)
            )
    notes += unused_folders(requests, [folder.path for folder in folders])
    items, folders = _hold_out(items, folders, seed, notes)
    return Scan(tuple(items), tuple(folders), tuple(uncaptioned), tuple(dict.fromkeys(notes)))


def _folders(options: FolderOptions, request: int) -> Iterator[Folder]:
    """The folder itself where it holds pictures, and its ``10_name`` folders."""
    root = options.path
    if options.lists_images:
        yield _folder(root, options, request)
        return
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}; `images=` names a folder of images with a .txt beside each")
    paths = folders_read(root, plain_name=options.plain_name)
    if not paths:
        raise DatasetError(no_pictures(root, plain_name=options.plain_name))
    for path in paths:
        yield _folder(path, options, request)


def _notes(
    folder: Folder, paths: Sequence[Path], headers: Sequence[ImageHeader], captions: FolderCaptions
) -> Iterator[str]:
    """What a person should know of a folder's files."""
    options = folder.options
    if options.alpha_mask and not any(header.transparent for header in headers):
        yield f"no image in {folder.path} has an alpha channel, so that alpha_mask leaves nothing out"
    if moving := [path.name for path, header in zip(paths, headers, strict=True) if header.animated]:
        count, several = (f"{len(moving)} images", " and so on") if len(moving) > 1 else ("1 image", "")
        yield (
            f"animated, or of several pages, and used by the first of them: {count} in {folder.path} "
            f"({moving[0]}{several})"
        )
    if not options.lists_images:
        yield from unused_files(folder.path, {*paths, *captions.files, *_own_files(options)})


def _own_files(options: FolderOptions) -> Iterator[Path]:
    """Files that a folder's options name, which may lie among its pictures."""
    if options.metadata_file is not None and options.metadata_file.resolve().parent == options.path.resolve():
        yield options.path / options.metadata_file.name


def _folder(path: Path, options: FolderOptions, request: int) -> Folder:
    named = None if options.plain_name or options.lists_images else folder_repeats(path)
    repeats = options.repeats or (named.repeats if named else options.default_repeats)
    if repeats < 1:
        raise DatasetError(f"{path} asks for 0 repeats; rename it, or take it out of the images")
    return Folder(path=path, repeats=repeats, options=options, request=request, class_tokens=options.class_tokens)


def _word(folder: Folder) -> str:
    """What the name of a folder such as ``10_ink`` says is in its pictures."""
    named = None if folder.options.lists_images else folder_repeats(folder.path)
    return named.word if named else ""


def _listed(folder: Folder) -> tuple[list[Path], Captions]:
    """A folder's pictures, and what its metadata file holds of them; where it is that file, the pictures it names."""
    file, separator, encoding = folder.options.metadata_file, folder.rules.separator, folder.options.encoding
    if file is None:
        return images_in(folder.path), Captions({})
    if not folder.options.lists_images:
        return images_in(folder.path), read_captions(file, separator, encoding)
    captions = find_listed(file, separator, encoding)
    return list(captions), Captions({str(path): caption for path, caption in captions.items()})


def _mask_of(path: Path, folder: Path | None) -> Path | None:
    """The mask of a picture, by its name in the folder of masks."""
    if folder is None:
        return None
    for extension in (path.suffix, *sorted(IMAGE_EXTENSIONS)):
        if (mask := spelled_on_disk(folder / f"{path.stem}{extension}")) is not None:
            return mask
    raise DatasetError(f"{path} has no mask in {folder}; put {path.stem}.png there, white where the picture is learnt")


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DatasetError(unreadable(path, error)) from error


def _hold_out(
    items: Sequence[Item], folders: Sequence[Folder], seed: int, notes: list[str]
) -> tuple[list[Item], list[Folder]]:
    """The items with those marked that are held out to judge by, and the folders with the number of those left.

    Which ones is a function of ``seed`` and each picture's bytes, so that adding a picture does not change the choice
    among the others by more than one. One picture of a folder is always left to train on, unless all are held out.
    """
    marked, left = list(items), list(folders)
    for index, folder in enumerate(folders):
        own = [number for number, item in enumerate(items) if item.folder == index]
        own.sort(key=lambda number: hashlib.sha256(f"held out/{seed}/{items[number].digest}".encode()).digest())
        share = folder.options.split
        count = held_out_count(len(own), share)
        if share and not count:
            notes.append(f"{share:.0%} of the {len(own)} images in {folder.path} is none: nothing is held out")
        for number in own[:count]:
            marked[number] = replace(items[number], held_out=True)
        left[index] = replace(folder, count=len(own) - count)
    return marked, left


def held_out_count(count: int, share: float) -> int:
    """How many of ``count`` pictures are held out by a ``share`` of 0 to 1; one is left unless all are."""
    return count if share == 1 else max(min(round(count * share), count - 1), 0)
