"""How large each epoch's difference is, and how far it moved from the epoch before."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loratools.adapter.algebra.lowrank import inner, same_matrix
from loratools.adapter.files.epoch_files import Epoch
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.lora_file import STRICT, KeyRules
from loratools.adapter.parallel import in_order


def measure(epochs: Sequence[Epoch], keys: KeyRules = STRICT) -> list[tuple[float, float | None]]:
    """Norm and drift of every epoch, see :class:`loratools.train.output.epoch_report.EpochFacts`.

    Two files are open at a time; ``keys`` says what becomes of keys that no table knows.
    """
    measured: list[tuple[float, float | None]] = []
    before: tuple[Adapter, float] | None = None
    for epoch in epochs:
        adapter = read(epoch.path, None, keys.allow_unknown, keys.drop)
        own = _squared_norm(adapter)
        drift = None
        if before is not None:
            drift = _drift(before[0], adapter, before[1], own)
        before = adapter, own
        measured.append((math.sqrt(own), drift))
    return measured


def _squared_norm(adapter: Adapter) -> float:
    def squared(name: str) -> float:
        delta = adapter[name]
        return inner(delta, delta)

    return sum(in_order(squared, adapter))


def _drift(one: Adapter, two: Adapter, square: float, other: float) -> float | None:
    """|two - one| / |two| from Gram matrices: |a - b|^2 = |a|^2 - 2 <a, b> + |b|^2."""
    shared = [name for name in two if name in one and same_matrix(one.shapes[name], two.shapes[name])]
    both = sum(in_order(lambda name: inner(one[name], two[name]), shared))
    return math.sqrt(max(square - 2 * both + other, 0.0) / other) if other else None
