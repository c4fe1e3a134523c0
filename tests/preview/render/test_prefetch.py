"""Reading ahead: every module is what it would be, read once, and nothing waits or is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch

from loratools.adapter.algebra.factor_sum import Summand
from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.preview.plan.jobs import Job, Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.batches import StackBatch
from loratools.preview.render.prefetch import DeltaPrefetcher

NAMES = ("text_encoder.a", "unet.a", "unet.b")


class Watched(Mapping[str, Delta]):
    """Differences that know how often and by which thread they were read."""

    def __init__(self, number: int, broken: str = "") -> None:
        self.number, self.broken = number, broken
        self.shapes = dict.fromkeys(NAMES, (4, 4))
        self.reads: list[tuple[str, bool]] = []  # name, ahead

    def __getitem__(self, name: str) -> Delta:
        self.reads.append((name, threading.current_thread().name == "read ahead"))
        if name == self.broken:
            raise ValueError("the file ends here")
        return LowRank(torch.full((4, 2), float(self.number)), torch.ones(2, 4), (4, 4))

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


def lots_of(*stacks: Stack, mixed: bool = True) -> list[StackBatch]:
    jobs = [Job(stack, "", 1, SamplingSettings(1, 1.0, "DDIM", (64, 64)), n) for n, stack in enumerate(stacks)]
    return [StackBatch(None, (tuple(jobs),))] if mixed else [StackBatch(job.stack, ((job,),)) for job in jobs]


def read_through(ahead: DeltaPrefetcher) -> None:
    """Wait until the thread has read all that was added, or has met an error."""
    deadline = time.monotonic() + 20
    while ahead._thread.is_alive() and ahead._through < len(ahead._order) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not ahead._thread.is_alive() or ahead._through == len(ahead._order)


def test_modules_are_read_once_and_are_the_same() -> None:
    one, two = Watched(1), Watched(2)
    stacks = Stack(one, 1.0, "one"), Stack(one, 0.5, "one"), Stack(), Stack(two, 1.0, "two")
    with DeltaPrefetcher() as ahead:
        groups = ahead.add(lots_of(*stacks))
        read_through(ahead)
        given = [job.stack for group in groups for job in group.jobs]
        assert [(stack.key, stack.keys_by_module) for stack in given] == [(s.key, s.keys_by_module) for s in stacks]
        assert given[0].deltas is given[1].deltas and given[2].deltas == {}
        assert given[3].deltas.shapes == two.shapes and not hasattr(given[3].deltas, "ranks")  # type: ignore[attr-defined]
        for stack, number in ((given[0], 1), (given[3], 2)):
            assert list(stack.deltas) == list(NAMES) and len(stack.deltas) == 3
            assert {float(stack.deltas[name].up[0, 0]) for name in NAMES} == {number}  # type: ignore[union-attr]
            assert list(stack.text_part) == ["text_encoder.a"]
        assert one.reads == two.reads == [(name, True) for name in NAMES]
        assert float(given[0].deltas["unet.a"].up[0, 0]) == 1  # type: ignore[union-attr]  # again, from the file
    assert one.reads[-1] == ("unet.a", False)


def test_what_the_device_has_from_another_stack_is_not_read() -> None:
    """Two vectors that differ in one block: the second one's thread reads that block alone."""
    one, two = Watched(1), Watched(1)
    content_keys = dict.fromkeys(NAMES, "same")
    with DeltaPrefetcher() as ahead:
        stacks = Stack(one, 1.0, "1", content_keys), Stack(two, 1.0, "2", {**content_keys, "unet.b": "other"})
        ahead.add(lots_of(*stacks, mixed=False))
        read_through(ahead)
    assert [name for name, _ in one.reads] == list(NAMES) and two.reads == [("unet.b", True)]


def test_little_waits_to_be_asked_for() -> None:
    """The thread goes on as soon as there is room, and ends with the block even where there is none."""
    wholes = [Watched(n) for n in range(4)]
    size = 64  # bytes: 4 * 2 + 2 * 4 float32
    with DeltaPrefetcher(2 * size) as ahead:
        groups = ahead.add(lots_of(*(Stack(whole, 1.0, str(n)) for n, whole in enumerate(wholes))))
        stacks = [job.stack for group in groups for job in group.jobs]
        for stack in stacks[:2]:
            for name in NAMES:
                stack.deltas[name]
        assert ahead._bytes <= 2 * size
    assert not ahead._thread.is_alive()
    assert sum(len(whole.reads) for whole in wholes[2:]) <= 3
    by_thread = [name for whole in wholes for name, ahead_ in whole.reads if ahead_]
    assert len(by_thread) <= 2 * len(NAMES) + 3


def test_an_error_is_met_where_it_is_asked_for() -> None:
    broken, sound = Watched(1, "unet.a"), Watched(2)
    with DeltaPrefetcher() as ahead:
        groups = ahead.add(lots_of(Stack(broken, 1.0, "1"), Stack(sound, 1.0, "2")))
        read_through(ahead)
        first, second = (job.stack.deltas for group in groups for job in group.jobs)
        first["text_encoder.a"]
        with pytest.raises(ValueError, match="the file ends here"):
            first["unet.a"]
        assert second["unet.a"].shape == (4, 4)


def test_lots_are_added_while_others_are_read() -> None:
    """A shared grid's portions come one by one; a stack that both have is read once."""
    one, two, three = Watched(1), Watched(2), Watched(3)
    both = Stack(two, 1.0, "two")
    with DeltaPrefetcher() as ahead:
        first = ahead.add(lots_of(Stack(one, 1.0, "one"), both))
        read_through(ahead)
        second = ahead.add(lots_of(both, Stack(three, 1.0, "three")))
        read_through(ahead)
        given = [job.stack for group in (*first, *second) for job in group.jobs]
        assert given[1].deltas is given[2].deltas
        assert [float(stack.deltas["unet.b"].up[0, 0]) for stack in given[::3]] == [1, 3]  # type: ignore[union-attr]
    assert two.reads == three.reads == [(name, True) for name in NAMES]


def test_a_mixed_batch_is_read_adapter_by_adapter(tmp_path: Path) -> None:
    """Two vectors of one file: each of its modules is read once, and the UNet's part names the file as their source."""
    deltas = {name: LowRank(torch.ones(4, 2), torch.ones(2, 4), (4, 4)) for name in NAMES}
    one, two = (Stack(_Sum(deltas, strength), 1.0, f"{strength}") for strength in (0.5, 2.0))
    with DeltaPrefetcher() as ahead:
        given = [job.stack for group in ahead.add(lots_of(one, two)) for job in group.jobs]
        read_through(ahead)
        parts = [stack.unet_part for stack in given]
        assert [list(part.adapters) for part in parts] == [["file"], ["file"]]
        assert [part.modules["unet.a"][0].strength for part in parts] == [0.5, 2.0]
        first, second = (part.modules["unet.a"][0].source for part in parts)
        assert first is second and "unet.a" in first and "unet.c" not in first
        assert sorted(first.held) == ["unet.a", "unet.b"]  # type: ignore[attr-defined]
        assert first["unet.a"] is deltas["unet.a"] and not hasattr(first, "ranks")


class _Sum(Mapping[str, Delta]):
    """A sum of one file with a strength."""

    def __init__(self, deltas: Mapping[str, Delta], strength: float) -> None:
        self._deltas = deltas
        self.summands = {name: (Summand("file", strength, deltas),) for name in deltas}

    def __getitem__(self, name: str) -> Delta:
        return self._deltas[name].scaled(self.summands[name][0].strength)

    def __iter__(self) -> Iterator[str]:
        return iter(self._deltas)

    def __len__(self) -> int:
        return len(self._deltas)
