from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loratools import digests
from loratools.digests import file_digest


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache in which files of a few bytes are large, and settled at once."""
    monkeypatch.setenv("LORATOOLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_LARGE", 4)
    monkeypatch.setattr(digests, "_SETTLED", -1)
    monkeypatch.setattr(digests, "_known", {})
    yield tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose bytes are read."""
    read: list[str] = []
    whole = digests.sha256

    def note(path: Path, *, skip: int = 0) -> str:
        read.append(Path(path).name)
        return whole(path, skip=skip)

    monkeypatch.setattr(digests, "sha256", note)
    return read


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def true(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def forget() -> None:
    """As in a new process."""
    digests._known.clear()


def test_a_large_file_is_read_once_also_by_later_processes(tmp_path: Path, hashed: list[str]) -> None:
    path = put(tmp_path / "a", b"abcdef")
    for _ in range(2):
        assert file_digest(path) == true(b"abcdef")
        forget()
    assert file_digest(str(path)) == true(b"abcdef") and hashed == ["a"]
    assert file_digest(path, skip=2) == true(b"cdef") and hashed == ["a", "a"]  # another part of it


def test_a_small_file_is_read_each_time_and_nothing_kept(tmp_path: Path, own: Path, hashed: list[str]) -> None:
    path = put(tmp_path / "a", b"abc")
    assert [file_digest(path) for _ in range(2)] == [true(b"abc")] * 2
    assert hashed == ["a", "a"] and not own.exists()


@pytest.mark.parametrize("new_process", [False, True])
def test_edits_are_seen_whatever_they_leave_as_it_was(tmp_path: Path, new_process: bool) -> None:
    path = put(tmp_path / "a", b"abcdef")
    file_digest(path)
    before = path.stat()
    path.write_bytes(b"ABCDEF")  # in place: the same inode and size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    if new_process:
        forget()
    assert file_digest(path) == true(b"ABCDEF")
    other = put(tmp_path / "b", b"ghijkl")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert file_digest(path) == true(b"ghijkl")
    assert file_digest(put(path, b"longer")) == true(b"longer")


def test_a_file_that_has_just_changed_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str]
) -> None:
    monkeypatch.setattr(digests, "_SETTLED", 10**12)
    path = put(tmp_path / "a", b"abcdef")
    file_digest(path), file_digest(path)
    assert hashed == ["a", "a"]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "a", b"abcdef")
    whole = digests.sha256

    def while_written(path: Path, *, skip: int = 0) -> str:
        digest = whole(path, skip=skip)
        put(path, b"ABCDEF")
        return digest

    with monkeypatch.context() as patched:
        patched.setattr(digests, "sha256", while_written)
        file_digest(path)
    assert file_digest(path) == true(b"ABCDEF")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"state": 1, "sha256": "x"}', b"\xff"])
def test_a_damaged_record_is_made_anew(tmp_path: Path, own: Path, content: bytes) -> None:
    path = put(tmp_path / "a", b"abcdef")
    file_digest(path)
    forget()
    (record,) = (own / "digests").iterdir()
    record.write_bytes(content)
    assert file_digest(path) == true(b"abcdef") and record.read_bytes() != content


def test_where_nothing_can_be_kept_files_are_read(tmp_path: Path, own: Path, hashed: list[str]) -> None:
    own.write_bytes(b"a file in the folder's place")
    path = put(tmp_path / "a", b"abcdef")
    assert file_digest(path) == true(b"abcdef")
    forget()
    assert file_digest(path) == true(b"abcdef") and hashed == ["a", "a"]


def test_the_oldest_records_go_when_there_are_too_many(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_MOST", 2)
    for name in "abcd":
        file_digest(put(tmp_path / name, name.encode() * 6))
    assert len(list((own / "digests").iterdir())) == 2


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_digest(tmp_path / "none")
