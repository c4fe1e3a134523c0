"""Whole-or-nothing writes, digests and locks: a kill at any moment leaves the old file or the new one, never half."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from loratools.errors import FileError

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
    """Hold an exclusive lock file beside ``path``, so that two runs never write the same output at once.

    A lock left by a process that no longer lives is taken over.

    Raises:
        FileError: if a living process holds the lock, or the folder cannot be made or written.
    """
    lock = Path(f"{path}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        _take(lock)
    except OSError as error:
        raise FileError(f"cannot write in {lock.parent}: {error.strerror or error}; choose another --out") from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _take(lock: Path) -> None:
    for _ in range(2):
        try:
            with open(lock, "x", encoding="ascii") as stream:
                stream.write(str(os.getpid()))
            return
        except FileExistsError:
            if _alive(lock):
                break
            lock.unlink(missing_ok=True)
    raise FileError(f"another loratools process is writing there ({lock}); wait for it, or delete that file")


def _alive(lock: Path) -> bool:
    try:
        owner = int(lock.read_text(encoding="ascii") or 0)
        os.kill(owner, 0)
    except (OSError, ValueError) as error:
        return isinstance(error, PermissionError)
    return owner != os.getpid()


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
