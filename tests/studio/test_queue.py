"""The queue: order, one heavy job at a time, what a person asks, and jobs that outlive the server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from loratools.errors import FileError, StudioError
from loratools.studio.jobs import job_queue, spawn
from loratools.studio.jobs.commands import HERE, Command, command_text
from loratools.studio.jobs.job_folder import JobFolder
from loratools.studio.jobs.job_log import LogReader
from loratools.studio.jobs.job_queue import JobQueue
from loratools.studio.jobs.record import JobRecord
from loratools.studio.jobs.store import JobStore


@pytest.fixture(autouse=True)
def obedient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "PROCESS", "tests.studio.obedient_job")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[JobQueue]:
    made = JobQueue(tmp_path, lambda kind, record: None)
    yield made
    for record in made.jobs():
        made._job_folder(record.id).ask(stop=1, after_epoch=False)
    made.close()


def command(tmp_path: Path, *argv: str, heavy: bool = True, **more: object) -> Command:
    return Command("test", " ".join(argv), argv, tmp_path, heavy, **more)  # type: ignore[arg-type]


def until(queue: JobQueue, what: Callable[[], bool], seconds: float = 30) -> None:
    """Look at the jobs until ``what`` holds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, [(own.title, own.state, own.error) for own in queue.jobs()]
        queue.look()
        time.sleep(0.02)


def state(queue: JobQueue, record: JobRecord) -> str:
    return queue.job(record.id).state


def test_heavy_jobs_run_one_after_another_light_ones_beside_and_a_failed_one_stops_none(
    queue: JobQueue, tmp_path: Path
) -> None:
    first, bad, last = (queue.add(command(tmp_path, *argv)) for argv in (("count", "10"), ("fail",), ("count", "2")))
    light = [queue.add(command(tmp_path, "count", "10", heavy=False)) for _ in range(3)]
    seen: set[tuple[int, int]] = set()

    def ended() -> bool:
        running = [own for own in queue.jobs() if own.state == "running"]
        seen.add((sum(own.heavy for own in running), sum(not own.heavy for own in running)))
        return all(own.state in ("done", "failed") for own in queue.jobs())

    until(queue, ended)
    assert max(heavy for heavy, _ in seen) == 1 and max(own for _, own in seen) == 2
    assert [state(queue, own) for own in (first, bad, last, *light)] == ["done", "failed", *["done"] * 4]
    assert queue.job(bad.id).error == "it was meant to fail"
    starts = [queue.job(own.id).started for own in (first, bad, last)]
    assert starts == sorted(starts)  # type: ignore[type-var]


def test_jobs_that_write_one_file_are_never_run_at_once(queue: JobQueue, tmp_path: Path) -> None:
    out = (tmp_path / "same.safetensors",)
    one, two = (queue.add(command(tmp_path, "count", "5", heavy=False, results=out)) for _ in range(2))
    queue.look()
    assert (state(queue, one), state(queue, two)) == ("running", "waiting")
    until(queue, lambda: state(queue, two) == "done")


def test_a_job_pauses_and_goes_on_and_stops(queue: JobQueue, tmp_path: Path) -> None:
    record = queue.add(command(tmp_path, "count", "200", go_on=("--resume",)))
    until(queue, lambda: queue.progress(record.id).done > 2)
    assert queue.progress(record.id).total == 200 and queue.progress(record.id).note == "counting"
    queue.do(record.id, "pause")
    assert state(queue, record) == "stopping"
    until(queue, lambda: state(queue, record) == "paused")
    other = queue.add(command(tmp_path, "count", "1"))
    until(queue, lambda: state(queue, other) == "done")
    queue.do(record.id, "resume")
    until(queue, lambda: state(queue, record) == "running" and queue.log(record.id, 0).lines[-1].text != "")
    until(queue, lambda: any("--resume" in line.text for line in queue.log(record.id, 0).lines))
    queue.do(record.id, "stop")
    until(queue, lambda: state(queue, record) == "stopped")
    assert "resume" in queue.job(record.id).actions()
    queue.do(record.id, "remove")
    assert not (tmp_path / "jobs" / record.id).exists()
    with pytest.raises(StudioError, match="no such job"):
        queue.job(record.id)


def test_a_training_stops_after_its_epoch(queue: JobQueue, tmp_path: Path) -> None:
    record = queue.add(command(tmp_path, "count", "200", stop_file=tmp_path / "stop"))
    until(queue, lambda: queue.progress(record.id).done > 1)
    queue.do(record.id, "stop-after-epoch")
    until(queue, lambda: state(queue, record) == "stopped")
    assert int(queue.log(record.id, 0).lines[-1].text.split()[-1]) % 5 == 3


def test_the_order_is_a_persons(queue: JobQueue, tmp_path: Path) -> None:
    jobs = [queue.add(command(tmp_path, "count", "1")) for _ in range(3)]
    queue.do(jobs[2].id, "up")
    queue.do(jobs[0].id, "down")
    queue.do(jobs[1].id, "down")
    assert [own.id for own in queue.jobs()] == [jobs[2].id, jobs[0].id, jobs[1].id]
    queue.do(jobs[2].id, "up")  # it is first already
    assert queue.jobs()[0].id == jobs[2].id


@pytest.mark.parametrize("action", ["resume", "stop", "stop-after-epoch"])
def test_what_a_waiting_job_cannot_do_is_refused(queue: JobQueue, tmp_path: Path, action: str) -> None:
    record = queue.add(command(tmp_path, "count", "1"))
    with pytest.raises(StudioError, match="in another state"):
        queue.do(record.id, action)  # type: ignore[arg-type]


def test_a_process_that_vanishes_is_said_to_and_the_next_one_runs(queue: JobQueue, tmp_path: Path) -> None:
    gone, after = queue.add(command(tmp_path, "vanish")), queue.add(command(tmp_path, "count", "1"))
    until(queue, lambda: state(queue, after) == "done")
    assert state(queue, gone) == "failed"
    assert "its process is gone" in str(queue.job(gone.id).error)


def test_a_job_runs_what_was_asked_when_it_was_added(queue: JobQueue, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("as it was")
    same, edited = (
        queue.add(
            command(
                tmp_path, "count", "1", str(recipe), f"{HERE}/prompts.txt", recipe=recipe, files={"prompts.txt": b"x"}
            )
        )
        for _ in range(2)
    )
    until(queue, lambda: queue._job_folder(same.id).begun)
    recipe.write_text("as it is now")
    until(queue, lambda: state(queue, edited) == "done")
    run = queue._job_folder(same.id).command().argv
    assert run[2] == str(recipe) and Path(run[3]).read_bytes() == b"x"
    frozen = queue._job_folder(edited.id).command()
    assert Path(frozen.argv[2]).read_text() == "as it was" and Path(frozen.argv[2]).name == "mine.yaml"
    assert "was edited since" in queue.log(edited.id, 0).lines[0].text


def test_a_job_outlives_the_server_and_the_next_one_finds_it(tmp_path: Path) -> None:
    """A server that is killed leaves its job; one that starts again watches it to its end, and its log is whole."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom loratools.studio.jobs import spawn\n"
        "from loratools.studio.jobs.commands import Command\nfrom loratools.studio.jobs.job_queue import JobQueue\n"
        "spawn.PROCESS = 'tests.studio.obedient_job'\nhere = Path(sys.argv[1])\n"
        "queue = JobQueue(here, lambda kind, record: None)\n"
        "queue.add(Command('test', 'long', ('count', '40'), here, True))\n"
        "queue.add(Command('test', 'next', ('count', '1'), here, True))\n"
        "queue.start()\nwhile queue.progress(queue.jobs()[0].id).done < 3: time.sleep(0.02)\n"
        "print('counting', flush=True)\ntime.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    server = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
    )
    assert server.stdout is not None and server.stdout.readline().strip() == b"counting"
    server.send_signal(signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
    server.wait()
    queue = JobQueue(tmp_path, lambda kind, record: None)
    first, second = queue.jobs()
    assert (first.state, second.state) == ("running", "waiting")
    queue.look()
    assert (state(queue, first), state(queue, second)) == ("running", "waiting")
    until(queue, lambda: state(queue, second) == "done")
    assert state(queue, first) == "done"
    assert [line.text for line in queue.log(first.id, 0).lines] == ["runs count 40", *(f"step {n}" for n in range(40))]
    queue.close()


def test_a_job_that_another_server_was_about_to_start_is_not_started_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = JobQueue(tmp_path, lambda kind, record: None)
    record = first.add(command(tmp_path, "count", "30"))
    first.look()  # its process has been started, and has hardly begun
    first.close()
    second = JobQueue(tmp_path, lambda kind, record: None)
    until(second, lambda: state(second, record) == "done")
    assert second.job(record.id).times == 1
    assert [line.text for line in second.log(record.id, 0).lines].count("runs count 30") == 1
    # one that never came is started again after a while
    lost = second.add(command(tmp_path, "count", "1"))
    second._put(replace(lost, state="running", started=time.time(), times=1))
    second.look()
    assert state(second, lost) == "running"
    monkeypatch.setattr(job_queue, "_GRACE", 0.0)
    until(second, lambda: state(second, lost) == "done")
    second.close()


def test_a_job_that_ended_while_no_server_ran_is_found_ended(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path, lambda kind, record: None)
    record = queue.add(command(tmp_path, "count", "3"))
    queue.look()
    queue.close()
    time.sleep(1.5)
    again = JobQueue(tmp_path, lambda kind, record: None)
    until(again, lambda: state(again, record) == "done")
    again.close()


def test_changes_are_told(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    queue = JobQueue(tmp_path, lambda kind, record: told.append((kind, record.state)))
    record = queue.add(command(tmp_path, "count", "3"))
    until(queue, lambda: state(queue, record) == "done")
    queue.close()
    states = [state for kind, state in told if kind == "job"]
    assert states[0] == "waiting" and states[-1] == "done" and "running" in states
    assert ("log", "running") in told


def test_a_damaged_queue_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/queue.sqlite").write_bytes(b"no database " * 100)
    with pytest.raises(FileError, match="move it away"):
        JobQueue(tmp_path, lambda kind, record: None)
    (tmp_path / "jobs/queue.sqlite").unlink()
    with sqlite3.connect(tmp_path / "jobs/queue.sqlite") as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(FileError, match="another version"):
        JobQueue(tmp_path, lambda kind, record: None)


def test_a_log_is_read_by_its_lines_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    reader = LogReader(path)
    assert reader.after(0).lines == []
    path.write_text("".join(f"line {n}\n" for n in range(1, 5001)) + "half")
    page = reader.after(0)
    assert (page.lines[0].number, page.lines[-1].number, page.more) == (1, 2000, True)
    page = reader.after(4321)
    assert [line.text for line in page.lines] == [f"line {n}" for n in range(4322, 5001)] and not page.more
    with path.open("a") as stream:
        stream.write(" a line\nnext\n")
    assert [line.text for line in reader.after(5000).lines] == ["half a line", "next"]
    assert json.loads(reader.after(10**9).model_dump_json()) == {"lines": [], "more": False}


def test_a_full_disk_is_one_sentence_with_its_remedy(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "queue.sqlite")
    record = JobRecord("a", "merge", "write a", ("x" * 9000,), (), ".", "", False, "waiting", 1.0, 1.0)
    store._connection.execute("PRAGMA max_page_count = 2")  # SQLite says the same of a full disk
    with pytest.raises(StudioError, match="the disk is full; free some space"):
        store.put(record)
    assert store.all() == []
    store.close()


@pytest.mark.parametrize(
    ("folder", "path", "text"),
    [
        (PurePosixPath("/runs"), "/runs/ink one.safetensors", "loratools merge 'ink one.safetensors:1'"),
        (PureWindowsPath("C:\\runs"), "C:\\runs\\ink one.safetensors", 'loratools merge "ink one.safetensors:1"'),
        (PureWindowsPath("C:\\"), "C:\\ink.safetensors", "loratools merge ink.safetensors:1"),
        (PurePosixPath("/"), "/ink.safetensors", "loratools merge ink.safetensors:1"),
    ],
)
def test_a_command_is_shown_as_the_systems_shell_reads_it(folder: PurePath, path: str, text: str) -> None:
    assert command_text(("merge", f"{path}:1"), folder) == text


def test_on_windows_a_job_has_a_process_group_of_its_own_and_no_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(subprocess, "CREATE_NO_WINDOW", 0x8000000, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **own: given.update(own))
    spawn.spawn(JobFolder(tmp_path), tmp_path)
    assert given["creationflags"] == 0x8000200 and given["start_new_session"] is False
    assert given["env"]["PYTHONUTF8"] == "1"


def test_what_another_process_has_open_on_windows_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows renames no file over one that is being read: the server's question waits for the job's look."""
    folder, tries, real = JobFolder(tmp_path), [], os.replace

    def busy(part: str, target: str) -> None:
        tries.append(target)
        if len(tries) < 3:
            raise PermissionError(13, "in use")
        real(part, target)

    monkeypatch.setattr(os, "replace", busy)
    folder.ask(stop=2, after_epoch=False)
    assert folder.asked() == (2, False) and len(tries) == 3


def test_a_job_that_cannot_be_prepared_fails_alone(queue: JobQueue, tmp_path: Path) -> None:
    """Its folder was deleted, so that neither its log nor the recipe as it was can be had."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text("version: 1\n")
    broken, good = queue.add(command(tmp_path, "count", recipe=recipe)), queue.add(command(tmp_path, "count", "1"))
    recipe.write_text("version: 1 # edited\n")
    shutil.rmtree(tmp_path / "jobs" / broken.id)
    until(queue, lambda: state(queue, good) == "done")
    assert state(queue, broken) == "failed" and queue.job(broken.id).error


def test_a_job_that_cannot_be_looked_at_keeps_no_other_waiting(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queue.add(command(tmp_path, "count", "200", heavy=False))
    queue.look()
    ended = JobFolder.ended

    def fails(folder: JobFolder) -> object:
        if folder.path.name == first.id:
            raise PermissionError(13, "Permission denied")
        return ended(folder)

    monkeypatch.setattr(JobFolder, "ended", fails)
    second = queue.add(command(tmp_path, "count", "1", heavy=False))
    until(queue, lambda: state(queue, second) == "done")
    monkeypatch.undo()


def test_a_search_that_fails_is_not_taken_for_one_that_waits_for_a_person(
    queue: JobQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_queue, "waits_for_answers", lambda folder: True)  # of a round of before
    failed = queue.add(command(tmp_path, "fail", results=(tmp_path,)))
    until(queue, lambda: state(queue, failed) not in ("waiting", "running"))
    assert state(queue, failed) == "failed" and queue.job(failed.id).error


def test_the_error_of_an_earlier_start_is_not_that_of_this_one(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.begin()
    folder.log.write_text("error: no memory\n")
    assert folder.last_error() == "no memory"
    folder.clear()
    folder.begin()  # as it goes on
    with folder.log.open("a") as log:
        log.write("there is more to ask\n")
    assert folder.last_error() == ""
