"""Locks and folders that take a place whole: one holder at a time, also when an earlier one was killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from loratools.errors import FileError, HeldError
from loratools.files import is_locked, locked, replacing_folder, user_cache, write_text
from tests.at_once import at_once

_TRIALS = 60


def _contend(path: Path, meet: Barrier, wins: Path) -> None:
    """In each trial, try once; who gets in waits until the other has tried too."""
    for trial in range(_TRIALS):
        for name in (f"{path.name}.lock", f".{path.name}.lock"):
            path.with_name(name).write_text("999999999")  # what a killed process left
        meet.wait()
        try:
            with locked(path):
                (wins / f"{trial}-{os.getpid()}").touch()
                meet.wait()
        except HeldError:
            meet.wait()
        meet.wait()


def test_of_two_that_find_the_lock_of_a_dead_process_one_gets_it(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("spawn")
    meet, wins = fork.Barrier(2, timeout=60), tmp_path / "wins"
    wins.mkdir()
    both = [fork.Process(target=_contend, args=(tmp_path / "out", meet, wins)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
    assert [one.exitcode for one in both] == [0, 0]
    held = [path.name.split("-")[0] for path in wins.iterdir()]
    assert len(held) == len(set(held)) == _TRIALS


def _hold(path: Path, held: Path) -> None:
    with locked(path):
        held.touch()
        time.sleep(60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_holder_lets_go_and_a_living_one_does_not(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "out", tmp_path / "held"))
    holder.start()
    while not (tmp_path / "held").exists():
        assert holder.is_alive()
        time.sleep(0.02)
    with pytest.raises(HeldError, match="another loratools process is writing there"), locked(tmp_path / "out"):
        pass
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with locked(tmp_path / "out"), pytest.raises(HeldError), locked(tmp_path / "out"):  # nor twice in one process
        pass


def test_a_place_that_cannot_be_locked_is_not_one_that_is_held(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="choose another place") as caught, locked(tmp_path / "file/out"):
        pass
    assert not isinstance(caught.value, HeldError)


def test_text_that_utf8_cannot_hold_is_written_with_question_marks(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é \ud83d\n")
    assert (tmp_path / "a.txt").read_bytes() == "é ?\n".encode()


def test_a_file_that_another_process_reads_is_replaced_once_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, replace = iter([True, True, False]), os.replace

    def busy(source: Path, target: Path) -> None:
        if next(refused):
            raise PermissionError(13, "in use", str(target))  # as Windows says
        replace(source, target)

    monkeypatch.setattr(os, "replace", busy)
    write_text(tmp_path / "out", "new")
    assert (tmp_path / "out").read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["out"]


def _write_folder(path: Path, number: int) -> None:
    with replacing_folder(path) as folder:
        for name in ("a", "b", "c"):
            (folder / name).write_text(str(number))


@pytest.mark.usefixtures("renames")
@pytest.mark.parametrize("before", ["nothing", "empty folder", "full folder", "file"])
def test_of_several_that_replace_a_folder_at_once_one_is_left_whole(tmp_path: Path, before: str) -> None:
    for trial in range(6):
        path = tmp_path / f"out{trial}"
        if before == "file":
            path.write_text("old")
        elif before != "nothing":
            path.mkdir()
        if before == "full folder":
            (path / "d").write_text("old")
        at_once(*[lambda path=path, number=number: _write_folder(path, number) for number in range(6)])  # type: ignore[misc]
        assert {file.name for file in path.iterdir()} == {"a", "b", "c"}
        assert len({file.read_text() for file in path.iterdir()}) == 1
    assert {path.name for path in tmp_path.iterdir()} == {f"out{trial}" for trial in range(6)}


def test_a_folder_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    _write_folder(path, 1)
    with pytest.raises(ValueError, match="stop"), replacing_folder(path) as folder:
        (folder / "a").write_text("2")
        raise ValueError("stop")
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name == "new":
            raise PermissionError(13, "in use", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        _write_folder(path, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {file.read_text() for file in path.iterdir()} == {"1"}


def test_a_lock_is_seen_from_outside_and_looking_does_not_take_it(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "x") and not list(tmp_path.iterdir())
    with locked(tmp_path / "x"):
        assert is_locked(tmp_path / "x")
        seen = threading.Thread(target=lambda: is_locked(tmp_path / "x"))
        seen.start()
        seen.join()
        assert is_locked(tmp_path / "x")
    assert not is_locked(tmp_path / "x")


def test_the_cache_lies_where_systems_keep_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORATOOLS_CACHE", str(tmp_path / "cache"))
    assert user_cache("digests") == tmp_path / "cache/digests"
    monkeypatch.delenv("LORATOOLS_CACHE")
    for system, name, place in (
        ("Linux", "XDG_CACHE_HOME", tmp_path / "x/loratools/compiled"),
        ("Windows", "LOCALAPPDATA", tmp_path / "x/loratools/compiled"),
    ):
        monkeypatch.setattr("platform.system", lambda system=system: system)
        monkeypatch.setenv(name, str(tmp_path / "x"))
        assert user_cache("compiled") == place
