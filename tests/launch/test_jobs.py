"""Jobs: their result, whose error is reported, who finishes them, and that nothing computes for nobody."""

from __future__ import annotations

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
from loratools.launch.jobs import JobResult, running
from loratools.launch.launcher import Launcher

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


def test_a_job_finds_its_process_ready_and_one_that_no_job_needs_ends(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(2)) as jobs:
        for _ in range(2):
            jobs.prepare(READY, (1,))
        jobs.prepare(READY, (0,))
        children = [child for _, child in jobs._prepared.values()]
        assert len(children) == 2 and not any(child.poll() for child in children)
        assert jobs.run(HINT, WORDS, (1,)) == JobResult(ANSWER)
        assert [child.poll() for child in children] == [0, None]
    assert children[1].poll() is not None and not (tmp_path / "jobs").exists()


def test_a_process_that_did_not_get_ready_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path / "jobs", Launcher(2)) as jobs:
        jobs.prepare("loratools.launch.launcher:no_such_function", (1,))
        next(iter(jobs._prepared.values()))[1].wait(20)
        assert jobs.run(HINT, WORDS, (1,)) == JobResult(ANSWER)
    with running(tmp_path / "jobs", fake("silent")) as jobs:
        jobs.prepare(READY, (0,))
        assert not jobs._prepared  # a launcher of the user's is not started for nothing


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
    assert done.stderr == "error: the process that started this one is gone; run the same again to go on\n"


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot write"):
        run(Launcher(1), tmp_path / "file" / "jobs")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
