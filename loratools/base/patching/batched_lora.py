"""Rows of one UNet batch under different adapters: ``y_i = W x_i + b + w_i up_i (down_i x_i)`` beside frozen modules.

A UNet that gets two rows waits for its launches and reads every weight for them alone; sixteen rows cost it little more
a call. So pictures of different stacks are cheapest in one batch, each with its own low-rank branch, while the base's
weights stay as they are. The factors lie in buffers that a captured graph reads: other stacks need other contents only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.base.model import Base
from loratools.base.patching.patch import live_modules
from loratools.base.patching.weight_writer import TensorCache, cache_bytes, upload_all

_WHOLES = 1 << 29  # bytes of rows kept: the weights of one stack follow each other
_MOST_RANK = 256  # of one module's sum; beyond it branches cost about what they save


@dataclass(frozen=True, eq=False)
class RowAdapters:
    """What one picture's rows are under: ``weight`` * ``deltas``, whose contents ``marks`` name by module."""

    deltas: Mapping[str, Delta]
    weight: float
    marks: Mapping[str, Hashable]

    @property
    def names(self) -> list[str]:
        """The UNet's modules among the deltas."""
        return [name for name in self.deltas if name.startswith("unet.")] if self.weight else []


class BatchedLora:
    """Branches beside a base's UNet modules, for batches of up to a number of rows that grows as it is needed.

    All down factors of a row lie in one buffer and all up factors in another, so that a row is set by two launches.
    """

    def __init__(self, base: Base) -> None:
        live = live_modules(base)
        self._modules = {name: live[name] for name in live if name.startswith("unet.") and _is_matrix(live[name])}
        self._device, self._dtype = base.device, base.dtype
        self._factors = TensorCache(cache_bytes(base.device))
        self._wholes = TensorCache(_WHOLES)
        self._ranks: dict[str, int] = {}
        self._layout = _Layout({}, {})
        self._downs = self._ups = torch.empty(0)
        self._sides: dict[str, _Side] = {}
        self._rows = 0

    def fits(self, deltas: Mapping[str, Delta]) -> bool:
        """Whether every UNet module of ``deltas`` is a low-rank sum beside a linear module or a 1x1 convolution.

        Reads no factor where the mapping knows its ``ranks`` and ``dense`` modules; see
        :class:`~loratools.ops.merging.lazy_result.LazyResult`.
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
        if rows <= self._rows and self._layout.ranks == self._ranks:
            return False
        self._rows = max(rows, self._rows)
        self._layout = _Layout(dict(self._ranks), {name: _widths(self._modules[name]) for name in self._ranks})
        self._wholes.clear()
        self._sides.clear()  # the old buffers' memory is free before the new ones are taken
        self._downs = self._ups = torch.empty(0)
        self._downs = torch.zeros(self._rows, self._layout.downs, device=self._device, dtype=self._dtype)
        self._ups = torch.zeros(self._rows, self._layout.ups, device=self._device, dtype=self._dtype)
        self._sides = {name: self._side(name) for name in self._ranks}
        return True

    @torch.no_grad()
    def fill(self, pictures: Sequence[RowAdapters], owners: Sequence[int]) -> None:
        """Set row i of the next batch under ``pictures[owners[i]]``, of stacks that are known, in reserved rows."""
        for row, owner in enumerate(owners):
            picture = pictures[owner]
            if not picture.names:
                self._ups[row].zero_()
                continue
            down, up = self._whole(picture)
            self._downs[row].copy_(down)
            torch.mul(up, picture.weight, out=self._ups[row])

    @torch.no_grad()
    def bring(self, picture: RowAdapters) -> None:
        """Have what :meth:`fill` will need for a picture on the device, before it is its turn."""
        if picture.names and self._rows:
            self._whole(picture)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Run the block with the branches beside the UNet's modules."""
        handles = [self._modules[name].register_forward_hook(side) for name, side in self._sides.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def shrink(self) -> None:
        """Free what is kept only to save work."""
        self._factors.clear()
        self._wholes.clear()

    def forget(self) -> None:
        """Free buffers and factors."""
        self.shrink()
        self._ranks.clear()
        self._sides.clear()
        self._layout = _Layout({}, {})
        self._downs = self._ups = torch.empty(0)
        self._rows = 0

    def _side(self, name: str) -> _Side:
        down, up = self._layout.parts(name, self._downs, self._ups)
        return _Convolved(down, up) if isinstance(self._modules[name], nn.Conv2d) else _Side(down, up)

    def _whole(self, picture: RowAdapters) -> tuple[Tensor, ...]:
        """A stack's row: all down factors as the UNet computes, all up factors in float32, as the buffers lie."""
        names = picture.names
        key = frozenset((name, picture.marks[name]) for name in names)
        kept = self._wholes.get(key)
        if kept is None:
            down = torch.zeros(1, self._layout.downs, device=self._device, dtype=self._dtype)
            up = torch.zeros(1, self._layout.ups, device=self._device)
            factors = self._uploaded(picture, names)
            rooms = [self._layout.parts(name, down, up) for name in names]
            torch._foreach_copy_(
                [into[0, : len(part)] for (into, _), (part, _) in zip(rooms, factors, strict=True)],
                [part for part, _ in factors],
            )
            torch._foreach_copy_(
                [into[0, : len(part)] for (_, into), (_, part) in zip(rooms, factors, strict=True)],
                [part for _, part in factors],
            )
            kept = down[0], up[0]
            self._wholes.put(key, kept)
        return kept

    def _uploaded(self, picture: RowAdapters, names: Sequence[str]) -> list[tuple[Tensor, ...]]:
        """Every module's down (r, in) and transposed up (r, out) in float32 on the device, kept by content."""
        keys = [(name, picture.marks[name]) for name in names]
        known = {key: self._factors.get(key) for key in keys}
        lacking = [key for key, kept in known.items() if kept is None]
        parts = upload_all([_factors(picture.deltas[name]) for name, _ in lacking], self._device)
        for key, made in zip(lacking, _balanced(parts), strict=True):
            self._factors.put(key, made)
            known[key] = made
        return [pair for key in keys if (pair := known[key]) is not None]


@dataclass(frozen=True)
class _Layout:
    """Where each module's factors lie in a row: ``ranks`` and ``widths`` (out, in) by name."""

    ranks: Mapping[str, int]
    widths: Mapping[str, tuple[int, int]]

    @cached_property
    def _starts(self) -> tuple[dict[str, tuple[int, int]], int, int]:
        found, down, up = {}, 0, 0
        for name, rank in self.ranks.items():
            found[name] = down, up
            out, across = self.widths[name]
            down, up = down + _even(rank * across), up + _even(rank * out)
        return found, down, up

    @property
    def downs(self) -> int:
        """Numbers of a row's down factors."""
        return self._starts[1]

    @property
    def ups(self) -> int:
        """Numbers of a row's up factors."""
        return self._starts[2]

    def parts(self, name: str, downs: Tensor, ups: Tensor) -> tuple[Tensor, Tensor]:
        """A module's down (rows, r, in) and up (rows, r, out) in ``downs`` (rows, numbers) and ``ups``."""
        (down, up), rank, (out, across) = self._starts[0][name], self.ranks[name], self.widths[name]
        return (
            downs[:, down : down + rank * across].view(-1, rank, across),
            ups[:, up : up + rank * out].view(-1, rank, out),
        )


class _Side:
    """A linear module's branches, and the forward hook that adds them: down (rows, r, in), up (rows, r, out)."""

    def __init__(self, down: Tensor, up: Tensor) -> None:
        self.down, self.up = down, up

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
    """down (r, in) and up (out, r)."""
    if not isinstance(delta, LowRank):
        raise TypeError("a full difference has no branch; Branches.fits() says so")
    return delta.down, delta.up


def _balanced(parts: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, Tensor]]:
    """Each down (r, in) and up (out, r) as down and transposed up, with every component moved by a power of two to
    where both are alike: half precision then loses nothing that matters. Modules of one shape share their launches."""
    by_shape: dict[Hashable, list[int]] = {}
    for n, (down, up) in enumerate(parts):
        by_shape.setdefault((down.shape, up.shape), []).append(n)
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for same in by_shape.values():
        downs, ups = torch.stack([parts[n][0] for n in same]), torch.stack([parts[n][1].mT for n in same])
        largest = [side.abs().amax(2, keepdim=True) for side in (downs, ups)]
        one, other = (torch.frexp(each).exponent for each in largest)
        shift = torch.where((largest[0] == 0) | (largest[1] == 0), 0, (other - one) // 2)
        found |= dict(zip(same, zip(torch.ldexp(downs, shift), torch.ldexp(ups, -shift), strict=True), strict=True))
    return [found[n] for n in range(len(parts))]


def _even(numbers: int) -> int:
    """Rounded up to 16 bytes of half precision, which is where matrix kernels like to begin."""
    return -(-numbers // 8) * 8


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
