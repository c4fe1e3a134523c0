"""Whole-or-nothing writes, digests and locks: a kill at any moment leaves the old file or the new one, never half."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath

from filelock import FileLock, Timeout

from loratools.errors import FileError, HeldError
from loratools.file_names import check_writable_name

_CHUNK = 1 << 20
_POLL = 0.2  # seconds between two tries to take a lock
_ATTEMPTS = 50  # to rename into a place that others write or read at the same time
_PAUSE = 0.01  # seconds between two of them
_BATCH = 512  # small files that are written before the first of them is renamed
_RENAMERS = 4  # threads


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on a clean exit it is synced to disk and renamed over ``path``.

    On an exception the temporary file is removed and ``path`` is as it was. Parent folders are created.

    Args:
        sync: wait until the disk has it, so that it also outlasts a loss of power; thousands of small files that can be
            made again do without.

    Raises:
        FileError: if the folder cannot be made or written.
    """
    target = Path(path)
    check_writable_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}.", suffix=".part")
    except OSError as error:
        raise FileError(f"cannot write {target}: {error.strerror or error}; choose another place") from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        os.chmod(part, 0o666 & ~_umask())
        if sync:
            _sync(part)
        _replace(part, target)
        if sync:
            _sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _replace(part: Path, target: Path) -> None:
    """Rename the file ``part`` over ``target``; Windows refuses that for as long as another process has it open."""
    for attempt in range(_ATTEMPTS):
        try:
            os.replace(part, target)
            return
        except PermissionError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a new, empty folder beside ``path``; on a clean exit it takes the place of ``path``, and what was there is
    deleted.

    On an exception the new folder is deleted and ``path`` is as it was. Several processes may do this for one path at
    once: the folder of one of them is left, whole.

    Raises:
        FileError: for a name that this system cannot hold.
        OSError: if the folder cannot be made or renamed.
    """
    target = Path(path)
    check_writable_name(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    spare = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:80]}.", suffix=".part"))
    fresh = spare / "new"
    try:
        fresh.mkdir()
        yield fresh
        _take_place(fresh, target, spare)
    finally:
        shutil.rmtree(spare, ignore_errors=True)


def _take_place(fresh: Path, target: Path, spare: Path) -> None:
    """Rename ``fresh`` to ``target``, having moved what is there into ``spare``.

    No system renames a folder onto one that holds files, and Windows not even onto an empty one. Another process may
    fill the place again before this one's second rename, so both are tried until they succeed.
    """
    old: Path | None = None
    for attempt in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            target.rename(spare / f"old{attempt}")
            old = spare / f"old{attempt}"
        try:
            fresh.rename(target)
            return
        except OSError:
            if attempt == _ATTEMPTS - 1:
                if old is not None:
                    with contextlib.suppress(OSError):
                        old.rename(target)
                raise
            time.sleep(_PAUSE)


def sweep(path: str | os.PathLike[str]) -> None:
    """Delete the temporary files and folders that a kill left of earlier writes of ``path``.

    Only for where no other process may be writing it. The name may hold a glob pattern.
    """
    target = Path(path)
    for leftover in target.parent.glob(f".{target.name[:80]}.*.part"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes, *, sync: bool = True) -> None:
    """Write ``data`` to ``path``, whole or not at all; ``sync`` as for :func:`replacing`."""
    with replacing(path, sync=sync) as part:
        part.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str, *, sync: bool = True) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all; line ends stay as they are given."""
    write_bytes(path, utf8_text(text).encode("utf-8"), sync=sync)


def write_texts(files: Sequence[tuple[Path, str]]) -> None:
    """Write thousands of small files as UTF-8, each whole or not at all; their folders must exist.

    The disk is not waited for, as with ``sync=False`` of :func:`replacing`. All temporary files of a batch are written
    first; then a few threads rename them, since a rename onto a file may wait for the disk.

    Raises:
        OSError: if one cannot be written; each of the others is written, or as it was.
    """
    mark = secrets.token_hex(4)
    for start in range(0, len(files), _BATCH):
        batch = files[start : start + _BATCH]
        pairs = [(path.with_name(f".{path.name[:80]}.{mark}.part"), path) for path, _ in batch]
        written = 0
        try:
            for (part, _), (_, text) in zip(pairs, batch, strict=True):
                written += 1
                _write_new(part, utf8_text(text).encode("utf-8"))
            with ThreadPoolExecutor(_RENAMERS) as pool:
                for renamed in [pool.submit(_replace_all, pairs[first::_RENAMERS]) for first in range(_RENAMERS)]:
                    renamed.result()
        except BaseException:
            for part, _ in pairs[:written]:
                part.unlink(missing_ok=True)
            raise


def _replace_all(pairs: Sequence[tuple[Path, Path]]) -> None:
    """:func:`_replace` of each; a task a file would take longer than the renaming."""
    for part, target in pairs:
        _replace(part, target)


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that must not be there, with the permissions of any new file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


def utf8_text(text: str) -> str:
    """``text`` with a ``?`` for each character that UTF-8 cannot hold: half a surrogate pair, as other programs leave
    in metadata that they cut (``"\\ud83d"`` in JSON)."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def json_lines(text: str) -> list[str]:
    """The lines of a ``.jsonl``: they end at line feeds alone.

    ``str.splitlines`` also cuts at U+2028, U+2029 and U+0085, which JSON leaves as they are inside of a text.
    """
    return text.removesuffix("\n").split("\n") if text else []


def windows_path(name: str | os.PathLike[str]) -> PureWindowsPath | None:
    """A path that only Windows writes, with a drive or a server in front, on another system; None for any other."""
    path = PureWindowsPath(os.fspath(name))
    return path if os.name != "nt" and path.drive and "\\" in os.fspath(name) else None


def find_beside(name: str | os.PathLike[str], folders: Iterable[Path]) -> Path | None:
    """The existing file or folder that a config, a recipe or a list of pictures names; None where there is none.

    Args:
        folders: those of the files that name it; the first that has it wins, and the current folder comes last.
    """
    if not os.fspath(name).strip():
        return None
    path = Path(name).expanduser()
    return next((place for place in (*(folder / path for folder in folders), path) if place.exists()), None)


def user_cache(room: str) -> Path:
    """The folder where ``room`` keeps what can be made again: in ``LORATOOLS_CACHE``, else in ``loratools`` where this
    system keeps caches. It need not exist, and may be deleted at any time."""
    if own := os.environ.get("LORATOOLS_CACHE"):
        return Path(own) / room
    if platform.system() == "Windows":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "loratools" / room
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loratools" / room


def sha256(path: str | os.PathLike[str], *, skip: int = 0) -> str:
    """Hex sha256 of the file's bytes after the first ``skip`` of them, read in 1 MiB pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        stream.seek(skip)
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str], *, wait: bool = False, on_wait: Callable[[], object] | None = None
) -> Iterator[None]:
    """Hold an exclusive lock on ``path``, so that two runs never write the same output at once.

    The operating system drops it when its holder dies, however that happens. Its file, hidden beside ``path``, is empty
    and stays: deleting one that others are about to lock would let two in.

    Args:
        wait: wait until whoever holds the lock releases it, for as long as that takes.
        on_wait: called once if there is somebody to wait for.
    Raises:
        HeldError: if another process, or another part of this one, holds the lock; not with ``wait``.
        FileError: if the folder cannot be made or written, or this system cannot hold the name.
    """
    check_writable_name(path)
    lock = _lock(path)
    while not _acquired(lock, Path(path).parent):
        if not wait:
            raise HeldError(f"another loratools process is writing there ({lock.lock_file}); wait for it, or end it")
        if on_wait is not None:
            on_wait()
            on_wait = None
        time.sleep(_POLL)
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: FileLock, folder: Path) -> bool:
    """Take the lock; False if somebody holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError as error:
        raise FileError(f"cannot write in {folder}: {error.strerror or error}; choose another place") from error
    return True


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether somebody holds :func:`locked` on ``path``.

    The check takes the lock for a moment, so of two processes that check a free one at the same time, one may see the
    other.
    """
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
