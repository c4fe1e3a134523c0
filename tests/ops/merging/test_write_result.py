"""Storing streams: however many modules there are, only a few are in memory at once."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path

import pytest
import torch

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.adapter.algebra.rank import Error, Exact, Fixed, RankRule, Size
from loratools.adapter.architectures.names import lora_targets
from loratools.adapter.files.metadata import Provenance
from loratools.ops.merging.lazy_result import LazyResult
from loratools.ops.merging.write_result import write_result


class Counted(LazyResult):
    """Random modules that count how many of them live."""

    def __init__(self, costly: bool) -> None:
        self.family = "sd1"
        self.costly = costly
        self.shapes = dict.fromkeys(lora_targets("sd1"), (12, 10))
        self.ranks = dict.fromkeys(self.shapes, 3)
        self.alive = self.most = 0
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Delta:
        random = torch.Generator().manual_seed(len(name))
        up = torch.randn(12, 3, generator=random)
        with self._lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        weakref.finalize(up, self._gone)
        return LowRank(up, torch.randn(3, 10, generator=random), (12, 10))

    def _gone(self) -> None:
        with self._lock:
            self.alive -= 1


@pytest.mark.parametrize("costly", [False, True])
@pytest.mark.parametrize("rule", [Exact(), Fixed(2), Error(0.3), Size(120_000)])
def test_only_a_few_modules_are_held(tmp_path: Path, rule: RankRule, costly: bool) -> None:
    source = Counted(costly)
    report = write_result(
        source, tmp_path / "o.safetensors", rule=rule, dtype=torch.float16, metadata={}, provenance=Provenance({}, "me")
    )
    assert report.modules == len(source) == 264
    assert source.most <= 4 * min(len(os.sched_getaffinity(0)), 8) + 4
    assert report.error < 1


@pytest.mark.parametrize("rule", [Error(0.3), Size(120_000)])
def test_keeping_factors_and_computing_them_again_give_the_same_file(tmp_path: Path, rule: RankRule) -> None:
    reports = [
        write_result(
            Counted(costly),
            tmp_path / f"{costly}/o.safetensors",
            rule=rule,
            dtype=torch.float16,
            metadata={},
            provenance=Provenance({}, "me"),
        )
        for costly in (False, True)
    ]
    assert reports[0].digest == reports[1].digest and reports[0].error == pytest.approx(reports[1].error)
