"""The cache, used by several threads and processes at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from loratools.recipe.record import Record, file_digests
from loratools.recipe.run.cache import Cache
from tests.at_once import at_once

KEY = "a" * 64
TOGETHER = 6


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text("x" * 1000)
    return folder


@pytest.fixture
def record(out: Path) -> Record:
    return Record(KEY, "out", name="sheet", kind="grid", done=True, files=file_digests(out))


@pytest.mark.usefixtures("renames")
def test_several_that_put_one_key_at_once_leave_it_whole(tmp_path: Path, out: Path, record: Record) -> None:
    for trial in range(8):
        cache = Cache(tmp_path / str(trial))
        at_once(*[lambda cache=cache: cache.put(KEY, record, out)] * TOGETHER)  # type: ignore[misc]
        (entry,) = cache.entries()
        assert entry.record == record
        assert file_digests(cache.folder(KEY) / "result") == record.files
        assert not list((tmp_path / str(trial)).rglob("*.part"))


@pytest.mark.usefixtures("renames")
def test_a_finished_result_takes_the_place_of_unfinished_work_and_never_the_other_way(
    tmp_path: Path, out: Path, record: Record
) -> None:
    unfinished = Record(KEY, "out", name="sheet", kind="grid")
    copies = [tmp_path / f"copy{number}" for number in range(2 * TOGETHER)]
    for copy in copies:
        shutil.copytree(out, copy)
    cache = Cache(tmp_path / "cache")
    at_once(*[lambda copy=copy: cache.put_unfinished(KEY, unfinished, copy) for copy in copies[:TOGETHER]])  # type: ignore[misc]
    (entry,) = cache.entries()
    assert not entry.record.done
    puts = [lambda: cache.put(KEY, record, out)]
    at_once(*puts, *[lambda copy=copy: cache.put_unfinished(KEY, unfinished, copy) for copy in copies[TOGETHER:]])  # type: ignore[misc]
    assert cache.find(KEY) == record and not any(copy.exists() for copy in copies)


@pytest.mark.usefixtures("renames")
def test_several_that_restore_one_key_to_one_place_leave_it_whole(tmp_path: Path, out: Path, record: Record) -> None:
    caches = [Cache(tmp_path / str(number)) for number in range(3)]  # of each, two restore to the same place
    for cache in caches:
        cache.put(KEY, record, out)
    for trial in range(8):
        target = tmp_path / f"restored{trial}"
        records = at_once(*[lambda cache=cache, target=target: cache.restore(KEY, target) for cache in caches * 2])  # type: ignore[misc]
        assert [restored for restored in records if restored is not None] == [record]
        assert file_digests(target) == record.files


def test_what_is_kept_can_be_listed_and_restored_while_it_is_deleted(tmp_path: Path, out: Path, record: Record) -> None:
    cache = Cache(tmp_path / "cache")
    for trial in range(8):
        cache.put(KEY, record, out)
        target = tmp_path / f"restored{trial}"
        restored, *_ = at_once(lambda target=target: cache.restore(KEY, target), lambda: cache.gc(0), cache.entries)  # type: ignore[misc]
        assert target.exists() == (restored is not None)
        if target.exists():
            assert file_digests(target) == record.files
