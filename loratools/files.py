"""Whole-or-nothing writes, digests and locks: a kill at any moment leaves the old file or the new one, never half."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from loratools.errors import FileError, HeldError

_CHUNK = 1 << 20


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on a clean exit it is synced to disk and renamed over ``path``.

    On an exception the temporary file is removed and ``path`` is as it was. Parent folders are created.

    Raises:
        FileError: if the folder cannot be made or written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}.", suffix=".part")
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror or error}; choose another --out") from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        os.chmod(part, 0o666 & ~_umask())
        _sync(part)
        os.replace(part, target)
        _sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove what a kill left of earlier writes of ``path`` (a glob pattern in its name is one), files and folders;
    only where nobody else may be writing it."""
    target = Path(path)
    for left in target.parent.glob(f".{target.name[:80]}.*.part"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all; line ends stay as they are given."""
    write_bytes(path, text.encode("utf-8"))


def find_beside(name: str | os.PathLike[str], folders: Iterable[Path]) -> Path | None:
    """The existing file or folder that a config, a recipe or a list of pictures names; None where there is none.

    Args:
        folders: those of the files that name it; the first that has it wins, and the current folder comes last.
    """
    if not os.fspath(name).strip():
        return None
    path = Path(name).expanduser()
    return next((place for place in (*(folder / path for folder in folders), path) if place.exists()), None)


def sha256(path: str | os.PathLike[str], *, skip: int = 0) -> str:
    """Hex sha256 of the file's bytes after the first ``skip`` of them, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        stream.seek(skip)
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold an exclusive lock on ``path``, so that two runs never write the same output at once.

    The operating system drops it when its holder dies, however that happens. Its file, hidden beside ``path``, is empty
    and stays: removing one that others are about to lock would let two in.

    Raises:
        HeldError: if another process, or another part of this one, holds the lock.
        FileError: if the folder cannot be made or written.
    """
    target, lock = Path(path), _lock(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise HeldError(
            f"another loratools process is writing there ({lock.lock_file}); wait for it, or end it"
        ) from error
    except OSError as error:
        raise FileError(f"cannot write in {target.parent}: {error.strerror or error}; choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether somebody holds :func:`locked` on ``path``. To look is to take it for a moment, so of two that look at the
    same time at one that is free, one may see the other."""
    lock = _lock(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except FileNotFoundError:  # its folder went at this moment
        return False
    lock.release()
    return False


def _lock(path: str | os.PathLike[str]) -> FileLock:
    target = Path(path)
    return FileLock(target.with_name(f".{target.name.removeprefix('.')}.lock"))


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder for fsync; the rename itself is durable enough there
    handle = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
