"""Several processes on one grid, and a process that is killed: real processes, on a tiny base."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from loratools.adapter.files.save import write
from loratools.base.model import Base
from loratools.cli import cli
from loratools.launch import Rank
from loratools.preview.render.batches import StackBatch, plan_stack_batches
from loratools.preview.render.claims import FileClaims, portions, with_next
from loratools.preview.render.picture_store import GridPictures, PictureStore
from tests.base.patching.test_patch import random_deltas
from tests.preview.render.test_engine import jobs, stack


def words(folder: Path, lora: Path, out: Path) -> list[str]:
    """The arguments of ``loratools``."""
    fixed = "--weights 0:1:0.25 --prompt 1girl --seed 1,2,3 --steps 2 --device cpu"
    return ["grid", str(lora), "--base", str(folder), *fixed.split(), "-o", str(out)]


def command(folder: Path, lora: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "loratools", *words(folder, lora, out)]


def render_here(folder: Path, lora: Path, out: Path) -> None:
    """The same command in this process, which has imported everything already."""
    result = CliRunner().invoke(cli, words(folder, lora, out), catch_exceptions=False)
    assert result.exit_code == 0, result.output


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **more}


def cells(out: Path) -> dict[str, np.ndarray]:
    return {path.relative_to(out).as_posix(): np.asarray(Image.open(path)) for path in (out / "cells").rglob("*.png")}


def same(cells: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> bool:
    return cells.keys() == others.keys() and all(np.array_equal(cells[name], others[name]) for name in others)


@pytest.fixture(scope="module")
def lora(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lora") / "ink.safetensors"
    write(random_deltas(base, seed=1), path, family="sd1", dtype=torch.float32)
    return path


@pytest.fixture(scope="module")
def whole(folder: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The grid of one process that nothing disturbs."""
    out = tmp_path_factory.mktemp("whole") / "grid"
    render_here(folder, lora, out)
    return cells(out)


def test_two_processes_share_a_grid_and_one_draws_it(
    folder: Path, lora: Path, whole: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "grid"
    running = [
        subprocess.Popen(
            command(folder, lora, out),
            env=environment(RANK=str(n), WORLD_SIZE="2", LOCAL_RANK=str(n)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for n in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert (out / "grid.png").is_file() and not (out / ".claims").exists()
    assert b"pictures rendered" in outputs[0][0] and outputs[1][0] == b""
    counts = [int(number) for number in re.findall(rb"(\d+) (?:pictures rendered|by other|used again)", outputs[0][0])]
    assert sum(counts) == 15  # five weights of three seeds
    assert same(cells(out), whole)
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    render_here(folder, lora, out)  # as a process that starts when all is done
    assert not (out / ".claims").exists()


def test_a_killed_grid_goes_on_to_the_same_pictures(
    folder: Path, lora: Path, whole: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "grid"
    started = subprocess.Popen(
        command(folder, lora, out), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while started.poll() is None and not list(out.rglob("cells/**/*.png")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    render_here(folder, lora, out)
    assert same(cells(out), whole)


def pictures(folder: Path, groups: Sequence[StackBatch]) -> GridPictures:
    return GridPictures([job for group in groups for job in group.jobs], PictureStore(folder))  # type: ignore[misc]


def put(*groups: StackBatch) -> None:
    for group in groups:
        for job in group.jobs:
            PictureStore(job.file.path.parent).put(job.file, Image.new("RGB", (8, 8)))


def test_every_group_is_someones_and_claims_of_the_living_are_left_alone(base: Base, tmp_path: Path) -> None:
    own = stack(base, 1)
    groups = plan_stack_batches(jobs(tmp_path, [own, stack(base, 2), stack(base, 3)], seeds=range(8)), 4)
    for rank in range(2):
        mine, others = portions(groups, Rank(rank, 2))
        assert mine[0][0] is groups[rank]
        assert {id(group) for portion in (*mine, *others) for group in portion} == {id(group) for group in groups}
    store = pictures(tmp_path, groups)
    one, two = (FileClaims(tmp_path, Rank(n, 2), pause=0.01).portions(groups, store) for n in range(2))
    first, second = next(one), next(two)
    assert not {group.stack.key for group in first} & {group.stack.key for group in second}
    two.close()  # its process is gone, and so is its claim
    assert [second[0]] in [list(next(one)) for _ in range(4)]


def test_a_claim_is_held_until_its_pictures_are_on_disk_and_the_next_portion_is_given_meanwhile(
    base: Base, tmp_path: Path
) -> None:
    groups = plan_stack_batches(jobs(tmp_path, [stack(base, n) for n in range(1, 6)], seeds=range(8)), 4)
    one = FileClaims(tmp_path, Rank(0, 2), pause=0.01).portions(groups, pictures(tmp_path, groups))
    first, second = next(one), next(one)  # the second while the first is still being made
    two = FileClaims(tmp_path, Rank(1, 2), pause=0.01).portions(groups, pictures(tmp_path, groups))
    others = [next(two) for _ in range(3)]
    assert [*first, *second, *(group for portion in others for group in portion)] == groups
    assert next(two) == ()  # nothing is taken from others, or waited for, before all is on disk
    put(*first, *(group for portion in others for group in portion))
    one.close()  # its process is gone: the second portion's claim with it, and the first one's pictures are there
    assert next(two) == second


def test_nothing_is_taken_from_others_before_a_process_is_free(base: Base, tmp_path: Path) -> None:
    groups = plan_stack_batches(jobs(tmp_path, [stack(base, n) for n in (1, 2)], seeds=range(8)), 8)
    store = pictures(tmp_path, groups)
    mine = FileClaims(tmp_path, Rank(0, 2), pause=0.01).portions(groups, store)
    first = next(mine)
    assert next(mine) == ()
    put(*first)
    taken = next(mine)
    assert [*first, *taken] == groups and next(mine) == ()
    put(*taken)
    assert list(mine) == []


def test_processes_that_wait_for_each_other_both_end(base: Base, tmp_path: Path) -> None:
    """Each holds what the other lacks, and both come to the end at once."""
    groups = plan_stack_batches(jobs(tmp_path, [stack(base, n) for n in (1, 2)], seeds=range(8)), 8)
    made: list[list[str]] = [[], []]

    def work(rank: int) -> None:
        store = pictures(tmp_path, groups)
        together.wait()
        with contextlib.closing(FileClaims(tmp_path, Rank(rank, 2), pause=0.01).portions(groups, store)) as mine:
            waiting: list[StackBatch] = []
            for group, _ in with_next(mine):
                if group is not None:
                    waiting.append(group)
                    together.wait(timeout=10)
                    continue
                put(*waiting)  # on disk only now, as a decoder's last batch is
                made[rank] += [str(job.key) for group in waiting for job in group.jobs]
                waiting = []

    together = threading.Barrier(2)
    threads = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert len(made[0]) == len(made[1]) == 16 and not set(made[0]) & set(made[1])


A, B, C, D = (StackBatch(None, ()) for _ in range(4))


def test_every_group_comes_with_the_next_one_also_of_the_next_portion() -> None:
    assert list(with_next([[A, B], [C]])) == [(A, B), (B, C), (C, None), (None, None)]
    assert list(with_next([])) == list(with_next([[]]))[1:] == [(None, None)]


def test_before_others_are_waited_for_all_is_made_and_brought_to_rest() -> None:
    """After an empty portion nothing is asked for until the pictures of those before it were called for."""
    asked: list[str] = []

    def portions() -> Iterator[Sequence[StackBatch]]:
        asked.append("first")
        yield [A, B]
        asked.append("empty")
        yield []
        asked.append("after")
        yield [C]

    given = with_next(portions())
    assert next(given) == (A, B) and asked == ["first"]
    assert next(given) == (B, None) and asked == ["first", "empty"]
    assert next(given) == (None, None) and asked == ["first", "empty"]
    assert list(given) == [(C, None), (None, None)]
