"""What lies in folders of pictures and is not used: named once, with counts, so that nothing vanishes in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from loratools.dataset.folder import (
    IMAGE_EXTENSIONS,
    FolderOptions,
    files_in,
    folder_repeats,
    folders_in,
    suggested_name,
)

_SHOWN = 5
_DEEPEST = 8  # folders in folders that are looked into
UNREAD_KINDS = frozenset(  # pictures that Pillow alone does not read, or that are no single picture
    {
        *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".psd", ".psb", ".xcf", ".kra", ".clip", ".sai", ".svg", ".eps"),
        *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".exr", ".hdr", ".ico", ".pdf"),
        *(".j2k", ".jpx", ".pbm", ".pnm", ".pcx", ".jpg_large", ".jpg!large"),
    }
)
_TEXTS = frozenset({".txt", ".caption"})
_LISTS = frozenset({".json", ".jsonl"})


def unused_files(folder: Path, used: Collection[Path]) -> Iterator[str]:
    """At most one sentence on the files in ``folder`` that are not ``used``."""
    unused = [path for path in files_in(folder) if path not in used]
    pictures = [path for path in unused if path.suffix.lower() in UNREAD_KINDS]
    texts = [path for path in unused if path.suffix.lower() in _TEXTS]
    lists = [path for path in unused if path.suffix.lower() in _LISTS]
    others = [path for path in unused if path.suffix.lower() not in UNREAD_KINDS | _TEXTS | _LISTS]
    parts = []
    if pictures:
        parts.append(f"{_by_suffix(pictures)}, pictures of a kind that is not read (save them as PNG or JPEG)")
    if texts:
        parts.append(f"{_by_suffix(texts)} named after no picture ({_first(texts)})")
    if lists:
        parts.append(f"{_by_suffix(lists)} ({_first(lists)}; if it lists captions, name it as metadata_file)")
    if others:
        parts.append(f"{_by_suffix(others)} ({_first(others)})")
    if parts:
        yield f"left out in {folder}: {'; '.join(parts)}"


def unused_folders(requests: Iterable[FolderOptions], read: Iterable[Path]) -> Iterator[str]:
    """A sentence for each folder that is asked for on those inside it, at any depth, whose pictures are not read.

    Args:
        read: the folders that are.
    """
    requests = [options for options in requests if not options.lists_images]
    masks = [options.mask_folder for options in requests if options.mask_folder is not None]
    known = {path.resolve() for path in (*read, *masks)}
    for root, plain in {options.path: options.plain_name for options in requests}.items():
        if unread := list(_folders_with_pictures(root, known)):
            known |= {path.resolve() for path, _ in unread}  # which another folder that is asked for may hold too
            shown = [_one(path, pictures, root, plain) for path, pictures in unread[:_SHOWN]]
            more = f" and {len(unread) - _SHOWN} more folders" if len(unread) > _SHOWN else ""
            several = "" if plain else " and folders named like 10_ink (10 repeats) that lie in it"
            yield (
                f"left out: {', '.join(shown)}{more}; of {root} only pictures in itself{several} are read, so name "
                "these folders as images too, or move what is in them"
            )


def no_pictures(root: Path, *, plain_name: bool) -> str:
    """The message for a folder in which no picture is read, with what to do where some lie in folders inside it."""
    message = f"{root} holds no images ({', '.join(sorted(IMAGE_EXTENSIONS))})"
    here = [path for path in files_in(root) if path.suffix.lower() in UNREAD_KINDS]
    inside = list(_folders_with_pictures(root, set()))
    inside.sort(key=lambda each: not _readable(each[1]))
    if here or (inside and not _readable(inside[0][1])):
        where, pictures = (root, here) if here else inside[0]
        return f"{message}; {_by_suffix(pictures)} in {where} cannot be read, save them as PNG or JPEG"
    if not inside:
        return f"{message}; put some there"
    path, count = inside[0][0], _readable(inside[0][1])
    if path.parent == root and not plain_name:
        new, number = suggested_name(path.name), folder_repeats(Path(suggested_name(path.name)))
        repeats = number.repeats if number else 1
        return f"{message}; its folder {path.name} has {count}, rename it to {new} ({repeats} repeats)"
    better = path if plain_name or path.parent == root or folder_repeats(path) is None else path.parent
    return f"{message}; {path} has {count}, name {better} as images instead"


def _folders_with_pictures(root: Path, known: Collection[Path]) -> Iterator[tuple[Path, list[Path]]]:
    """Folders inside ``root`` that hold pictures, of kinds that are read or not, but for those whose resolved paths are
    ``known``; with these pictures."""
    visited = {root.resolve()}  # so that links do not lead round and round

    def visit(folder: Path, depth: int) -> Iterator[tuple[Path, list[Path]]]:
        for path in folders_in(folder):
            real = path.resolve()
            if real in visited:
                continue
            visited.add(real)
            pictures = [file for file in files_in(path) if file.suffix.lower() in IMAGE_EXTENSIONS | UNREAD_KINDS]
            if pictures and real not in known:
                yield path, pictures
            if depth < _DEEPEST:
                yield from visit(path, depth + 1)

    yield from visit(root, 1)


def _readable(pictures: Sequence[Path]) -> int:
    return sum(path.suffix.lower() in IMAGE_EXTENSIONS for path in pictures)


def _one(path: Path, pictures: Sequence[Path], root: Path, plain_name: bool) -> str:
    if not _readable(pictures):
        return f"{_by_suffix(pictures)} (a kind that is not read) in {path}"
    rename = f" (or rename it to {suggested_name(path.name)})" if path.parent == root and not plain_name else ""
    return f"{len(pictures)} image{'s' if len(pictures) > 1 else ''} in {path}{rename}"


def _by_suffix(paths: Sequence[Path]) -> str:
    """``3 .heic and 1 .jxl``"""
    counts = Counter(path.suffix.lower() or "without an ending" for path in paths)
    parts = [f"{count} {suffix}" for suffix, count in sorted(counts.items())]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _first(paths: Sequence[Path]) -> str:
    return f"{paths[0].name}{' and so on' if len(paths) > 1 else ''}"
