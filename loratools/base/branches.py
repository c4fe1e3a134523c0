"""Rows of one UNet batch under different adapters: ``y_i = W x_i + b + w_i up_i (down_i x_i)`` beside frozen modules.

A UNet that gets two rows waits for its launches and reads every weight for them alone; sixteen rows cost it little more
a call. So pictures of different stacks are cheapest in one batch, each with its own low-rank branch, while the base's
weights stay as they are. The factors lie in buffers that a captured graph reads: other stacks need other contents only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from loratools.adapter.lowrank import Delta, LowRank, balance
from loratools.base.model import Base
from loratools.base.patch import live_modules
from loratools.base.sums import Kept, upload_all

_MOST_RANK = 256  # of one module's sum; beyond it branches cost about what they save


@dataclass(frozen=True, eq=False)
class Row:
    """What one picture's rows are under: ``weight`` * ``deltas``, whose contents ``marks`` name by module."""

    deltas: Mapping[str, Delta]
    weight: float
    marks: Mapping[str, Hashable]

    @property
    def names(self) -> list[str]:
        """The UNet's modules among the deltas."""
        return [name for name in self.deltas if name.startswith("unet.")] if self.weight else []


class Branches:
    """Branches beside a base's UNet modules, for batches of up to a number of rows that grows as it is needed."""

    def __init__(self, base: Base) -> None:
        live = live_modules(base)
        self._modules = {name: live[name] for name in live if name.startswith("unet.") and _is_matrix(live[name])}
        self._device, self._dtype = base.device, base.dtype
        self._factors = Kept()
        self._sides: dict[str, _Side] = {}
        self._ranks: dict[str, int] = {}
        self._rows = 0

    def fits(self, deltas: Mapping[str, Delta]) -> bool:
        """Whether every UNet module of ``deltas`` is a low-rank sum beside a linear module or a 1x1 convolution.

        Reads no factor where the mapping knows its ``ranks`` and ``dense`` modules; see
        :class:`~loratools.ops.source.Source`.
        """
        dense: frozenset[str] = getattr(deltas, "dense", frozenset())
        names = [name for name in deltas if name.startswith("unet.")]
        return all(name in self._modules and name not in dense and _rank(deltas, name) <= _MOST_RANK for name in names)

    def know(self, stacks: Iterable[Mapping[str, Delta]]) -> None:
        """Have every buffer wide enough for each of ``stacks``, once :meth:`reserve` is called."""
        for deltas in stacks:
            for name in (name for name in deltas if name.startswith("unet.")):
                self._ranks[name] = max(self._ranks.get(name, 0), _rank(deltas, name))

    def size(self, rows: int) -> int:
        """Bytes of the buffers for ``rows`` rows under any stack that is known."""
        numbers = sum(rank * sum(_widths(self._modules[name])) for name, rank in self._ranks.items())
        return numbers * rows * self._dtype.itemsize

    @torch.no_grad()
    def reserve(self, rows: int) -> bool:
        """Have buffers for ``rows`` rows; whether they are others than before, so that captured graphs are stale."""
        if rows <= self._rows and {name: side.rank for name, side in self._sides.items()} == self._ranks:
            return False
        self._rows = max(rows, self._rows)
        self._sides.clear()  # the old buffers' memory is free before the new ones are taken
        self._sides = {name: self._side(name, rank) for name, rank in self._ranks.items()}
        return True

    @torch.no_grad()
    def fill(self, pictures: Sequence[Row], owners: Sequence[int]) -> None:
        """Set row i of the next batch under ``pictures[owners[i]]``, of stacks that are known, in reserved rows."""
        rows = len(owners)
        torch._foreach_zero_([part[:rows] for side in self._sides.values() for part in (side.down, side.up)])
        targets: list[Tensor] = []
        values: list[Tensor] = []
        for number, picture in enumerate(pictures):
            downs, ups = self._uploaded(picture)
            if not downs:
                continue
            scaled = torch._foreach_mul(ups, picture.weight)
            for row in (row for row, owner in enumerate(owners) if owner == number):
                sides = [self._sides[name] for name in picture.names]
                targets += [side.down[row, : len(down)] for side, down in zip(sides, downs, strict=True)]
                targets += [side.up[row, : len(up)] for side, up in zip(sides, ups, strict=True)]
                values += [*downs, *scaled]
        if targets:
            torch._foreach_copy_(targets, values)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Run the block with the branches beside the UNet's modules."""
        handles = [self._modules[name].register_forward_hook(side) for name, side in self._sides.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def forget(self) -> None:
        """Free buffers and factors."""
        self._sides.clear()
        self._factors.clear()
        self._ranks.clear()
        self._rows = 0

    def _side(self, name: str, rank: int) -> _Side:
        module = self._modules[name]
        out, across = _widths(module)
        down, up = (torch.zeros(self._rows, rank, width, device=self._device, dtype=self._dtype)
                    for width in (across, out))  # fmt: skip
        return _Convolved(down, up) if isinstance(module, nn.Conv2d) else _Side(down, up)

    def _uploaded(self, picture: Row) -> tuple[list[Tensor], list[Tensor]]:
        """Every module's down (r, in) and transposed up (r, out) in float32 on the device, kept by content."""
        keys = {name: (name, picture.marks[name]) for name in picture.names}
        known = {name: self._factors.get(key) for name, key in keys.items()}
        lacking = [name for name, kept in known.items() if kept is None]
        if lacking:
            factors = [_factors(picture.deltas[name]) for name in lacking]
            for name, pair in zip(lacking, upload_all(factors, self._device), strict=True):
                self._factors.put(keys[name], pair)
                known[name] = pair
        pairs = [pair for pair in known.values() if pair is not None]
        return [down for down, _ in pairs], [up for _, up in pairs]


class _Side:
    """A linear module's branches, and the forward hook that adds them: down (rows, r, in), up (rows, r, out)."""

    def __init__(self, down: Tensor, up: Tensor) -> None:
        self.down, self.up = down, up

    @property
    def rank(self) -> int:
        return self.down.shape[1]

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
        """x (rows, ..., in), y (rows, ..., out): adds (x down^T) up to y, which nobody else has seen yet."""
        x: Tensor = inputs[0]
        rows = len(x)
        inner = torch.bmm(x.reshape(rows, -1, x.shape[-1]), self.down[:rows].mT)
        y.view(rows, -1, y.shape[-1]).baddbmm_(inner, self.up[:rows])
        return y


class _Convolved(_Side):
    """The same beside a 1x1 convolution: x (rows, in, h, w), y (rows, out, h, w)."""

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
        x: Tensor = inputs[0]
        rows = len(x)
        y = y.contiguous()
        inner = torch.bmm(self.down[:rows], x.flatten(2))
        y.flatten(2).baddbmm_(self.up[:rows].mT, inner)
        return y


def _factors(delta: Delta) -> tuple[Tensor, Tensor]:
    """down and the transposed up, balanced by powers of two: exact, and half precision loses nothing small."""
    if not isinstance(delta, LowRank):
        raise TypeError("a full difference has no branch; Branches.fits() says so")
    even = balance(delta.to(torch.float32))
    return even.down, even.up.mT


def _is_matrix(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == module.stride == (1, 1) and module.groups == 1 and module.padding == (0, 0)
    return isinstance(module, nn.Linear)


def _widths(module: nn.Module) -> tuple[int, int]:
    """(out, in) of a matrix module."""
    weight = module.weight
    return int(weight.shape[0]), int(weight.shape[1])  # type: ignore[index, operator, union-attr]


def _rank(deltas: Mapping[str, Delta], name: str) -> int:
    ranks = getattr(deltas, "ranks", None)
    if ranks is not None:
        return int(ranks[name])
    delta = deltas[name]
    return delta.rank if isinstance(delta, LowRank) else _MOST_RANK + 1
