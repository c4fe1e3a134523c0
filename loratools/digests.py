"""sha256 of files; of large ones it is kept in the user's cache folder for as long as they stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from loratools.errors import FileError
from loratools.files import sha256, user_cache, write_text

_LARGE = 8 << 20  # bytes; smaller files are read sooner than looked up
_SETTLED = 2_000_000_000  # nanoseconds without a change: clocks of file systems may stand still for up to two seconds
_MOST = 4096  # files that are remembered

_State = list[int]
_known: dict[tuple[str, int], tuple[_State, str]] = {}  # by path and skipped bytes, in this process


def file_digest(path: str | os.PathLike[str], *, skip: int = 0) -> str:
    """Hex sha256 of the file's bytes after the first ``skip`` of them, as :func:`loratools.files.sha256`.

    A large file is read once: its digest is kept beside its size, times (of its content and, but on Windows, of its
    entry, which nothing can set back), device and inode. One that changed within the last seconds is not remembered,
    because another change could leave the same times.

    Raises:
        OSError: if the file cannot be read.
    """
    stat = Path(path).stat()
    if stat.st_size < _LARGE:
        return sha256(path, skip=skip)
    state, name = _state(stat), os.path.realpath(path)
    record = _record(name, skip)
    before = _known.get((name, skip)) or _read(record)
    if before is not None and before[0] == state:
        _known[name, skip] = before
        return before[1]
    begun = time.time_ns()
    digest = sha256(path, skip=skip)
    if _state(Path(path).stat()) == state and begun - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED:
        _known[name, skip] = state, digest
        _write(record, {"path": name, "skip": skip, "state": state, "sha256": digest})
    return digest


def _state(stat: os.stat_result) -> _State:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_dev, stat.st_ino]


def _record(name: str, skip: int) -> Path:
    key = hashlib.sha256(f"{name}\0{skip}".encode("utf-8", "surrogateescape")).hexdigest()
    return user_cache("digests") / f"{key[:32]}.json"


def _read(record: Path) -> tuple[_State, str] | None:
    """What was kept; None for nothing, or what cannot be understood."""
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
        state, digest = kept["state"], kept["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = isinstance(state, list) and isinstance(digest, str) and len(digest) == hashlib.sha256().digest_size * 2
    return (state, digest) if whole else None


def _write(record: Path, content: dict[str, object]) -> None:
    """Keep a digest where the cache folder can be written; the longest unused ones go once there are too many."""
    with contextlib.suppress(OSError, FileError):
        write_text(record, json.dumps(content))
        kept = list(record.parent.glob("*.json"))
        if len(kept) > _MOST:
            for old in sorted(kept, key=lambda path: path.stat().st_mtime)[: len(kept) - _MOST]:
                old.unlink(missing_ok=True)
