"""The messages between the processes of a launch, each in a thread of this one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loratools.errors import LaunchError, LoratoolsError, TrainingError
from loratools.files import is_locked, locked
from loratools.launch import Rank, launch_name
from loratools.recipe.launch import leader, protocol
from loratools.recipe.launch.leader import leading
from loratools.recipe.launch.protocol import LaunchFolder, Message, Reply, root_of
from loratools.recipe.launch.worker import follow
from loratools.recipe.observer import RunObserver
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.step import Draft, Outcome, Planned
from loratools.recipe.run.runner import run_steps

FIRST, OTHER = Rank(0, 2), Rank(1, 2)
Assist = Callable[[Path, RunContext], int]


class Notes(RunObserver):
    """Keeps the notes of a run."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def on_note(self, text: str) -> None:
        self._notes.append(text)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "POLL", 0.005)
    monkeypatch.setattr(protocol, "JOIN_TIMEOUT", 5.0)
    monkeypatch.setattr(protocol, "RETURN_TIMEOUT", 0.2)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def step(name: str, assist: Assist | None = None, key: str = "key", kind: str = "grid") -> Planned:
    """A grid, which can do without a process, or a training, which cannot."""
    draft = Draft({}, (), lambda out, context: Outcome(""), assist=assist)
    return Planned(name, kind, draft, Path("out"), key, 1, "owner")


def following(threads: ThreadPoolExecutor, work: Path, *steps: Planned) -> Future[None]:
    return threads.submit(follow, work, OTHER, lambda: steps, RunContext(progress=True))


def test_the_other_takes_part_in_what_is_shared_and_only_then(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    seen: list[RunContext] = []

    def assist(out: Path, context: RunContext) -> int:
        seen.append(context)
        return 3

    other = following(threads, tmp_path, step("sheet", assist), step("alone"))
    with leading(tmp_path, FIRST, [step("sheet"), step("alone")], RunObserver()) as sharing:
        for resumes in (True, False):
            before, deadline = len(seen), time.monotonic() + 5
            with sharing(step("sheet", kind="train"))(resumes=resumes) as shared:
                while len(seen) == before and time.monotonic() < deadline:
                    time.sleep(0.001)
            assert shared.rendered == 3 and seen[-1].resume == resumes and not seen[-1].progress
        before = len(seen)
        with sharing(step("sheet"))(resumes=False) as shared:  # over before the other may have seen it
            pass
        assert shared.rendered == 3 * (len(seen) - before)
        with sharing(step("alone"))(resumes=False) as shared:
            pass
        assert shared.rendered == 0
    assert other.result(5) is None
    assert not root_of(tmp_path).exists()


def test_what_earlier_launches_left_misleads_nobody(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    def never(out: Path, context: RunContext) -> int:
        raise AssertionError("an old message was carried out")

    old = Message(5, "share", launch_name(), {"1": "old"}, step="sheet", needed=True)
    for name, message in {"dead": old, "another": Message(5, "end", "of another port", failed=True)}.items():
        LaunchFolder(root_of(tmp_path) / name).post(message)
    held = LaunchFolder(root_of(tmp_path) / "alive")  # what two that look at the same moment may take for a living one
    held.post(old)
    held.post_reply(1, Reply("old", 4))
    with locked(held.leader_lock):
        other = following(threads, tmp_path, step("sheet", never))
        deadline = time.monotonic() + 5
        while not held.worker_alive(1) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert held.worker_alive(1) and not other.done()
    with leading(tmp_path, FIRST, [step("sheet")], RunObserver()):
        pass
    assert other.result(5) is None


def test_the_first_process_reports_the_error_of_another(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    def full(out: Path, context: RunContext) -> int:
        raise TrainingError("the device is full")

    notes: list[str] = []
    other = following(threads, tmp_path, step("style", full))
    with leading(tmp_path, FIRST, [step("style")], Notes(notes)) as sharing:
        with sharing(step("style"))(resumes=False):
            time.sleep(0.1)
        assert notes == [
            "the step 'style' is whole, though the other processes had to do without one: process 2 of 2: "
            "the device is full"
        ]
        with (
            pytest.raises(LaunchError, match="process 2 of 2: the device is full"),
            sharing(step("style", kind="train"))(resumes=False),
        ):
            time.sleep(0.1)
            raise LaunchError("another process of this run stopped")
        with (
            pytest.raises(TrainingError, match="my own"),
            sharing(step("style", kind="train"))(resumes=False),
        ):
            raise TrainingError("my own")
    assert other.result(5) is None


def test_who_failed_in_a_step_that_the_first_stays_in_ends(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    def full(out: Path, context: RunContext) -> int:
        raise ValueError("some\nbug")

    other = following(threads, tmp_path, step("style", full))
    with leading(tmp_path, FIRST, [step("style")], RunObserver()) as sharing:
        with (
            sharing(step("style", kind="train"))(resumes=False),
            pytest.raises(LaunchError, match="process 2 of 2: unexpected ValueError: some bug"),
        ):
            other.result(5)  # a launcher would end all now
        with (
            pytest.raises(LaunchError, match="process 2 of 2 is gone, and the step 'next' needs all of them"),
            sharing(step("next", kind="train"))(resumes=False),
        ):
            pass
        with sharing(step("sheet"))(resumes=False) as shared:  # a grid can do without
            pass
    assert shared.rendered == 0


def test_a_run_that_fails_ends_the_others(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    other = following(threads, tmp_path, step("style"))
    with pytest.raises(TrainingError), leading(tmp_path, FIRST, [step("style")], RunObserver()):
        raise TrainingError("diverged")
    with pytest.raises(LaunchError, match="the run has failed, and the first process of this launch says why"):
        other.result(5)
    assert not root_of(tmp_path).exists()


@pytest.mark.parametrize("steps", [(step("style", key="another"),), (step("other"),)])
def test_other_files_on_another_machine_are_found_before_anything_runs(
    tmp_path: Path, threads: ThreadPoolExecutor, steps: tuple[Planned, ...]
) -> None:
    other = following(threads, tmp_path, *steps)
    message = "process 2 of 2: the step 'style' reads other things here than in the first process"
    with pytest.raises(LaunchError, match=message), leading(tmp_path, FIRST, [step("style")], RunObserver()):
        raise AssertionError
    with pytest.raises(LaunchError, match="the run has failed"):
        other.result(5)


def test_who_never_comes_is_not_waited_for(
    tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    monkeypatch.setattr(protocol, "JOIN_TIMEOUT", 0.05)
    monkeypatch.setattr(leader, "_QUIET", 0.01)
    with pytest.raises(LaunchError, match="process 2 of 2 has not come to"), leading(tmp_path, FIRST, [], Notes(notes)):
        raise AssertionError
    assert notes == [f"waiting for process 2 of 2, which has not come to {root_of(tmp_path)} yet"]
    with pytest.raises(LaunchError, match="the first process of this launch has not come to"):
        following(threads, tmp_path).result(5)


def test_who_goes_while_the_recipe_is_read_is_not_waited_for(tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    def interrupted() -> Any:
        raise KeyboardInterrupt

    def other() -> None:
        with pytest.raises(KeyboardInterrupt):
            follow(tmp_path, OTHER, interrupted, RunContext())

    gone = threads.submit(other)
    message = "process 2 of 2 is gone; its own message says why"
    with pytest.raises(LaunchError, match=message), leading(tmp_path, FIRST, [], RunObserver()):
        raise AssertionError
    assert gone.result(5) is None


def test_one_process_of_several_is_not_run_without_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(LoratoolsError, match="this works in one process, and a launcher started 2"):
        run_steps([], tmp_path, RunContext())


def test_a_lock_is_seen_from_outside(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "x") and not list(tmp_path.iterdir())
    with locked(tmp_path / "x"):
        assert is_locked(tmp_path / "x")
        seen = threading.Thread(target=lambda: is_locked(tmp_path / "x"))
        seen.start()
        seen.join()
        assert is_locked(tmp_path / "x")
    assert not is_locked(tmp_path / "x")
