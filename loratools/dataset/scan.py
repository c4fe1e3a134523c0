"""Finding pictures and their captions: every folder, file and caption is opened and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from loratools.dataset.caption_files import Uncaptioned, find_captions
from loratools.dataset.caption_metadata import Captions, find_listed, read_captions
from loratools.dataset.folder import (
    IMAGE_EXTENSIONS,
    Folder,
    FolderOptions,
    Item,
    Size,
    folder_repeats,
    folders_read,
    folders_with_images,
    images_in,
)
from loratools.dataset.images import UNREADABLE, has_alpha, unreadable
from loratools.errors import DatasetError


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
    folders = [folder for index, options in enumerate(requests) for folder in _folders(options, index, notes)]
    items: list[Item] = []
    uncaptioned: list[Uncaptioned] = []
    for index, folder in enumerate(folders):
        paths, listed = _listed(folder)
        captions = find_captions(folder, paths, listed, _word(folder))
        folders[index] = replace(folder, class_tokens=captions.class_tokens)
        uncaptioned += captions.uncaptioned
        notes += captions.notes
        opaque = folder.options.alpha_mask
        for path, caption in zip(paths, captions.texts, strict=True):
            size, digest, transparent = _look(path)
            mask = _mask_of(path, folder.options.mask_folder)
            items.append(Item(path=path, caption=caption, folder=index, size=size, digest=digest, mask=mask))
            opaque &= not transparent
        if opaque:
            notes.append(f"no image in {folder.path} has an alpha channel, so that alpha_mask leaves nothing out")
    items, folders = _hold_out(items, folders, seed, notes)
    return Scan(tuple(items), tuple(folders), tuple(uncaptioned), tuple(notes))


def _folders(options: FolderOptions, request: int, notes: list[str]) -> Iterator[Folder]:
    """The folder itself where it holds pictures, and its ``10_name`` folders."""
    root = options.path
    if options.lists_images:
        yield _folder(root, options, request)
        return
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}; --images names a folder of images with a .txt beside each")
    paths, inside = folders_read(root, plain_name=options.plain_name), folders_with_images(root)
    for path in inside:
        if path not in paths and not options.plain_name:
            notes.append(f"{path} is left out: only folders named like 10_{path.name} (10 repeats) are read")
    if not paths:
        hint = f"; its folder {inside[0].name} has some, rename it to 1_{inside[0].name}" if inside else ""
        raise DatasetError(
            f"{root} holds no images ({', '.join(sorted(IMAGE_EXTENSIONS))}){hint or '; put some there'}"
        )
    for path in paths:
        yield _folder(path, options, request)


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
    file, separator = folder.options.metadata_file, folder.rules.separator
    if file is None:
        return images_in(folder.path), Captions({})
    if not folder.options.lists_images:
        return images_in(folder.path), read_captions(file, separator)
    captions = find_listed(file, separator)
    return list(captions), Captions({str(path): caption for path, caption in captions.items()})


def _mask_of(path: Path, folder: Path | None) -> Path | None:
    """The mask of a picture, by its name in the folder of masks."""
    if folder is None:
        return None
    for extension in (path.suffix, *sorted(IMAGE_EXTENSIONS)):
        if (mask := folder / f"{path.stem}{extension}").is_file():
            return mask
    raise DatasetError(f"{path} has no mask in {folder}; put {path.stem}.png there, white where the picture is learnt")


def _look(path: Path) -> tuple[Size, str, bool]:
    """The size as it will be seen (after EXIF rotation), the digest of the file's bytes, and if it has transparency."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            (width, height), transparent = image.size, has_alpha(image)
    except UNREADABLE as error:
        raise DatasetError(unreadable(path, error)) from error
    return ((height, width) if turned else (width, height)), digest, transparent


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
