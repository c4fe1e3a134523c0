"""Jobs: their result, whose error is reported, who finishes them, and that nothing computes for nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from loratools.errors import FileError, LaunchError, TrainingError
from loratools.launch.job import Job, JobFolder
from loratools.launch.jobs import JobResult, Jobs, running
from loratools.launch.launcher import Launcher
from loratools.launch.rank import Rank

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
FAKE = Path(__file__).with_name("fake.py")
HINT = "loratools.errors:did_you_mean"  # a function of ours that needs nothing
WORDS = {"word": "Stile", "valid": ["style", "base"]}
ANSWER = " (did you mean 'style'?)"


def fake(how: str) -> Launcher:
    return Launcher(command=(sys.executable, str(FAKE), how))


def run(launcher: Launcher, root: Path, *, finish_alone: bool = False, target: str = HINT) -> JobResult:
    with running(root, launcher) as jobs:
        return jobs.run(target, WORDS, launcher.slots, finish_alone=finish_alone)


@pytest.mark.parametrize("launcher", [Launcher(1), fake("two")])
def test_the_first_process_returns_the_result_and_no_file_is_left(launcher: Launcher, tmp_path: Path) -> None:
    assert run(launcher, tmp_path / "jobs") == JobResult(ANSWER)
    assert not (tmp_path / "jobs").exists()


@pytest.mark.slow
def test_torch_starts_several_and_ends_the_others_when_one_fails(tmp_path: Path) -> None:
    assert run(Launcher(2), tmp_path / "jobs") == JobResult(ANSWER)
    with pytest.raises(LaunchError, match=r"process [12] of 2: unexpected TypeError: .*'word'"):
        run(Launcher(2), tmp_path / "jobs", target="loratools.launch.launcher:make_launcher")


def test_an_error_keeps_its_class_and_names_the_process_where_there_are_several(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^process 1 of 2: diverged$"):
        run(fake("first-fails"), tmp_path / "jobs")  # not the one that only noticed, though that was earlier
    with pytest.raises(LaunchError, match=r"^unexpected TypeError: "):
        run(Launcher(1), tmp_path / "jobs", target="loratools.launch.launcher:make_launcher")
    with pytest.raises(LaunchError, match="the job os:remove is none of loratools'"):
        run(Launcher(1), tmp_path / "jobs", target="os:remove")


def test_a_process_that_dies_is_named_with_its_signal(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"process 2 of 2 is gone \(SIGKILL\).*run the same again to go on"):
        run(fake("other-dies"), tmp_path / "jobs")


def test_what_is_asked_to_stop_is_interrupted_and_has_not_failed(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "1")
    folder.path.mkdir()
    folder.start(Rank(0, 2))
    folder.note_stopped(Rank(0, 2))
    folder.note_ended({0: 130})
    with pytest.raises(KeyboardInterrupt):
        folder.result(1)
    folder.fail(Rank(1, 2), "TrainingError", "diverged")
    with pytest.raises(TrainingError, match="process 2 of 2: diverged"):
        folder.result(1)


def test_a_process_that_is_interrupted_interrupts_the_one_that_started_it(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(1)) as jobs:
        with pytest.raises(KeyboardInterrupt):
            jobs.run("loratools.launch.worker:interrupt", {}, (0,))
        assert not workers_of(jobs) and jobs.run(HINT, WORDS, (0,)) == JobResult(ANSWER)


def test_of_a_launcher_that_says_nothing_the_exit_code_is_told(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="the launcher ended with exit code 7 and the job is not done"):
        run(fake("silent"), tmp_path / "jobs")
    with pytest.raises(LaunchError, match="no/such/program cannot be started"):
        run(Launcher(command=("no/such/program",)), tmp_path / "jobs")


@pytest.mark.parametrize("how", ["other-fails", "other-dies"])
def test_what_others_can_finish_is_finished_by_one(how: str, tmp_path: Path) -> None:
    done = run(fake(how), tmp_path / "jobs", finish_alone=True)
    assert done.value == ANSWER and len(done.failed) == 1 and "process 2 of 2" in done.failed[0]
    with pytest.raises((TrainingError, LaunchError), match="process 2 of 2"):
        run(fake(how), tmp_path / "jobs")


def test_what_fails_in_the_first_process_is_not_run_again(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="process 1 of 2: diverged"):
        run(fake("first-fails"), tmp_path / "jobs", finish_alone=True)


def test_a_failure_after_the_result_is_told_and_no_error(tmp_path: Path) -> None:
    done = run(fake("other-fails-late"), tmp_path / "jobs")
    assert done == JobResult(ANSWER, ("process 2 of 2: the device is full",))


def test_processes_that_all_think_that_they_are_alone_do_not_write_the_same_files(tmp_path: Path) -> None:
    done = run(fake("no-rank"), tmp_path / "jobs")
    assert len(done.failed) == 1 and "process 1 of 1 was started twice" in done.failed[0]


def test_a_job_that_is_not_on_this_machine_is_said_to_be_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loratools.launch.job._PATIENCE", 0.0)
    with pytest.raises(LaunchError, match=r"there is no job in .* all processes need the same folders, on one disk"):
        JobFolder(tmp_path / "away").job()


READY = "loratools.pocket:weights_folder"  # a function of ours without arguments


def workers_of(jobs: Jobs) -> dict[tuple[int, ...], subprocess.Popen[bytes]]:
    """The processes that take jobs, by their places."""
    return {slots: workers.child for slots, workers in jobs._workers.items()}


def test_a_job_finds_its_process_ready_and_one_that_no_job_needs_ends(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(2)) as jobs:
        for _ in range(2):
            jobs.prepare(READY, [(1,), (0,)])
        children = workers_of(jobs)
        assert len(children) == 2 and not any(child.poll() for child in children.values())
        assert jobs.run(HINT, WORDS, (1,)) == JobResult(ANSWER)
        assert workers_of(jobs) == children and not any(child.poll() for child in children.values())
    assert all(child.poll() is not None for child in children.values()) and not (tmp_path / "jobs").exists()


def test_a_process_takes_one_job_after_another_until_one_fails(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(2)) as jobs:
        pids = set()
        for word in ("Stile", "bas"):
            done = jobs.run(HINT, {**WORDS, "word": word}, (1,))
            assert done.value == f" (did you mean '{'style' if word == 'Stile' else 'base'}'?)"
            pids.add(workers_of(jobs)[(1,)].pid)
        assert len(pids) == 1
        with pytest.raises(LaunchError, match=r"^unexpected TypeError: "):
            jobs.run("loratools.launch.launcher:make_launcher", WORDS, (1,))
        assert not workers_of(jobs)
        assert jobs.run(HINT, WORDS, (1,)) == JobResult(ANSWER) and workers_of(jobs)[(1,)].pid not in pids


def test_a_process_that_died_between_two_jobs_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(1)) as jobs:
        jobs.run(HINT, WORDS, (0,))
        child = workers_of(jobs)[(0,)]
        workers = jobs._workers[(0,)]
        child.kill()
        while child.poll() is None:
            time.sleep(0.01)
        workers.child = SeemsAlive(child)  # type: ignore[assignment]  # as one that dies after it was looked at
        assert jobs.run(HINT, WORDS, (0,)) == JobResult(ANSWER)
        assert workers_of(jobs)[(0,)].pid != child.pid


def test_a_job_that_cannot_be_written_leaves_its_processes_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise FileError("the disk is full")

    with running(tmp_path / "jobs", Launcher(1)) as jobs:
        jobs.run(HINT, WORDS, (0,))
        before = workers_of(jobs)
        with monkeypatch.context() as patched, pytest.raises(FileError):
            patched.setattr(JobFolder, "write", full)
            jobs.run(HINT, WORDS, (0,))
        assert jobs.run(HINT, WORDS, (0,)) == JobResult(ANSWER) and workers_of(jobs) == before


class SeemsAlive:
    """A child that is gone and is seen to be gone only when it has been looked at once."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child, self._looks = child, 0

    def poll(self) -> int | None:
        self._looks += 1
        return self._child.poll() if self._looks > 1 else None


def test_a_process_that_waits_ends_where_others_need_the_memory_of_its_device(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(3)) as jobs:
        for slot in (0, 2):
            jobs.run(HINT, WORDS, (slot,))
        jobs.prepare(READY, [(1,)])
        before = workers_of(jobs)
        for slot in (0, 1):
            assert jobs.run(HINT, WORDS, (slot,), prints=True) == JobResult(ANSWER)  # by a process for it alone
        assert before[(0,)].poll() is not None
        assert before[(1,)].poll() is None and before[(2,)].poll() is None  # has had no job; is elsewhere


@pytest.mark.slow
def test_several_processes_take_one_job_after_another_and_make_room(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(2)) as jobs:
        jobs.run(HINT, WORDS, (0,))
        one = workers_of(jobs)[(0,)]
        assert [jobs.run(HINT, WORDS, (0, 1)) for _ in range(3)] == [JobResult(ANSWER)] * 3
        assert one.poll() is not None and set(workers_of(jobs)) == {(0, 1)}
        ranks = [json.loads(path.read_text()) for path in sorted((tmp_path / "jobs").rglob("[01].started"))]
        assert len(ranks) == 7 and len({own["pid"] for own in ranks if own["world"] == 2}) == 2
        with pytest.raises(LaunchError, match=r"process [12] of 2: unexpected TypeError: .*'word'"):
            jobs.run("loratools.launch.launcher:make_launcher", WORDS, (0, 1))
        assert not workers_of(jobs) and jobs.run(HINT, WORDS, (0, 1)) == JobResult(ANSWER)


def test_a_process_that_did_not_get_ready_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(2)) as jobs:
        jobs.prepare("loratools.launch.launcher:no_such_function", [(1,)])
        assert jobs.run(HINT, WORDS, (1,)) == JobResult(ANSWER)
    with running(tmp_path / "jobs", fake("silent")) as jobs:
        jobs.prepare(READY, [(0,)])
        assert not workers_of(jobs)  # a launcher of the user's is not started for nothing


def wait_for(path: Path, text: str) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and path.read_text() == text:
            return True
        time.sleep(0.01)
    return False


def test_an_interrupt_is_handed_on_once_and_waited_for(tmp_path: Path) -> None:
    script = f"""
        import signal, sys
        from pathlib import Path
        from loratools.launch.jobs import running
        from loratools.launch.launcher import Launcher
        launcher = Launcher(command=(sys.executable, {str(FAKE)!r}, "waits"))
        signal.signal(signal.SIGINT, signal.default_int_handler)  # these tests may run in a script's background
        try:
            with running(Path("jobs"), launcher) as jobs:
                jobs.run({HINT!r}, {{"word": {str(tmp_path / "said")!r}, "valid": []}}, (0,))
        except KeyboardInterrupt:
            sys.exit(130)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, env=environment())
    assert wait_for(tmp_path / "said", "started")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert (tmp_path / "said").read_text() == str(int(signal.SIGINT)) and not (tmp_path / "jobs").exists()


@pytest.mark.parametrize("background", [False, True])
def test_when_the_process_that_started_a_job_is_gone_the_job_ends(background: bool, tmp_path: Path) -> None:
    """The lock of a job is held by nobody, and its function would sleep for a minute. What a script starts with ``&``
    ignores interrupts, and what that starts inherits it."""
    folder = JobFolder(tmp_path / "1")
    function = "loratools.launch.job:JobFolder"
    folder.write(Job(function, {"path": "x"}, str(tmp_path), str(tmp_path / "lock")))
    slow = (
        f"import sys, time; from loratools.launch import worker; signal = worker.signal; "
        f"signal.signal(signal.SIGINT, signal.{'SIG_IGN' if background else 'default_int_handler'}); "
        "worker._function = lambda job: lambda **given: time.sleep(60); sys.exit(worker.main(sys.argv[1:]))"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", slow, str(folder.path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 130 and time.monotonic() - begun < 15
    with pytest.raises(KeyboardInterrupt):
        folder.result(done.returncode)
    assert done.stderr == "error: the process that started this one is gone; run the same again to go on\n"


def test_what_windows_sends_for_ctrl_c_is_one_to_a_process(tmp_path: Path) -> None:
    """There only SIGBREAK reaches another group's processes, and would end a training that has its state to save."""
    JobFolder(tmp_path / "1").write(Job(HINT, WORDS, str(tmp_path), str(tmp_path / "lock")))
    script = f"""
        import os, signal, sys
        signal.SIGBREAK = signal.SIGUSR1  # which would end it as well
        signal.signal(signal.SIGINT, lambda *given: print("asked to stop", flush=True))
        from loratools.launch import worker
        worker._function = lambda job: lambda **given: os.kill(os.getpid(), signal.SIGUSR1)
        sys.exit(worker.main([{str(tmp_path / "1")!r}]))
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "asked to stop\n"), done.stderr


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"):
        run(Launcher(1), tmp_path / "file" / "jobs")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
