"""Per-row LoRA: the rows of one UNet batch under different adapters, ``y_i = W x_i + b + w_i up_i (down_i x_i)``.

A UNet call with two rows spends its time on kernel launches and on reading every weight; sixteen rows cost little more.
So pictures of different stacks are cheapest in one batch, each row with its own low-rank branch beside the frozen
modules, while the base's weights stay as they are. The factors lie in buffers that a captured CUDA graph reads: other
stacks need other contents of the buffers, and no new capture.
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

_ROW_CACHE = 1 << 29  # bytes of whole rows that are kept: the weights of one stack follow each other
_MOST_RANK = 256  # of one module's sum; beyond it branches cost about what they save


@dataclass(frozen=True, eq=False)
class RowAdapters:
    """One picture's adapters: ``weight`` * ``deltas``; ``content_keys`` identify each delta's content, by module."""

    deltas: Mapping[str, Delta]
    weight: float
    content_keys: Mapping[str, Hashable]

    @property
    def names(self) -> list[str]:
        """The UNet's modules among the deltas; none at weight 0."""
        return [name for name in self.deltas if name.startswith("unet.")] if self.weight else []


class BatchedLora:
    """Low-rank branches beside a base's UNet modules, for batches of up to a number of rows that grows as needed.

    All down factors of a row lie in one buffer and all up factors in another, so that a row is set by two launches.
    """

    def __init__(self, base: Base) -> None:
        live = live_modules(base)
        self._modules = {name: live[name] for name in live if name.startswith("unet.") and _is_matrix(live[name])}
        self._device, self._dtype = base.device, base.dtype
        self._factor_cache = TensorCache(cache_bytes(base.device))
        self._row_cache = TensorCache(_ROW_CACHE)
        self._ranks: dict[str, int] = {}
        self._layout = _Layout({}, {})
        self._downs = self._ups = torch.empty(0)
        self._hooks: dict[str, _LinearBranch] = {}
        self._rows = 0

    def fits(self, deltas: Mapping[str, Delta]) -> bool:
        """Whether every UNet module of ``deltas`` is a low-rank sum beside a linear module or a 1x1 convolution.

        Reads no factor where the mapping has ``ranks`` and ``dense`` modules; see
        :mod:`loratools.ops.merging.lazy_result`.
        """
        dense: frozenset[str] = getattr(deltas, "dense", frozenset())
        names = [name for name in deltas if name.startswith("unet.")]
        return all(name in self._modules and name not in dense and _rank(deltas, name) <= _MOST_RANK for name in names)

    def register(self, stacks: Iterable[Mapping[str, Delta]]) -> None:
        """Make every buffer wide enough for each of ``stacks``, from the next :meth:`reserve` on."""
        for deltas in stacks:
            for name in (name for name in deltas if name.startswith("unet.")):
                self._ranks[name] = max(self._ranks.get(name, 0), _rank(deltas, name))

    def buffer_bytes(self, rows: int) -> int:
        """Bytes of the buffers for ``rows`` rows of any registered stack."""
        numbers = sum(rank * sum(_shape(self._modules[name])) for name, rank in self._ranks.items())
        return numbers * rows * self._dtype.itemsize

    @torch.no_grad()
    def reserve(self, rows: int) -> bool:
        """Have buffers for ``rows`` rows; True if they were allocated anew, so that captured graphs are stale."""
        if rows <= self._rows and self._layout.ranks == self._ranks:
            return False
        self._rows = max(rows, self._rows)
        self._layout = _Layout(dict(self._ranks), {name: _shape(self._modules[name]) for name in self._ranks})
        self._row_cache.clear()
        self._hooks.clear()  # the old buffers' memory is free before the new ones are taken
        self._downs = self._ups = torch.empty(0)
        self._downs = torch.zeros(self._rows, self._layout.down_size, device=self._device, dtype=self._dtype)
        self._ups = torch.zeros(self._rows, self._layout.up_size, device=self._device, dtype=self._dtype)
        self._hooks = {name: self._hook(name) for name in self._ranks}
        return True

    @torch.no_grad()
    def fill(self, pictures: Sequence[RowAdapters], owners: Sequence[int]) -> None:
        """Set row i of the next batch to the adapters of ``pictures[owners[i]]``.

        Args:
            pictures: of registered stacks.
            owners: no more of them than rows are reserved.
        """
        for row, owner in enumerate(owners):
            picture = pictures[owner]
            if not picture.names:
                self._ups[row].zero_()
                continue
            down, up = self._whole_row(picture)
            self._downs[row].copy_(down)
            torch.mul(up, picture.weight, out=self._ups[row])

    @torch.no_grad()
    def prefetch(self, picture: RowAdapters) -> None:
        """Upload what :meth:`fill` will need for a picture of a later batch."""
        if picture.names and self._rows:
            self._whole_row(picture)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Run the block with the branches beside the UNet's modules."""
        handles = [self._modules[name].register_forward_hook(hook) for name, hook in self._hooks.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def clear_cache(self) -> None:
        """Free what can be uploaded again."""
        self._factor_cache.clear()
        self._row_cache.clear()

    def free(self) -> None:
        """Free buffers and factors."""
        self.clear_cache()
        self._ranks.clear()
        self._hooks.clear()
        self._layout = _Layout({}, {})
        self._downs = self._ups = torch.empty(0)
        self._rows = 0

    def _hook(self, name: str) -> _LinearBranch:
        down, up = self._layout.parts(name, self._downs, self._ups)
        return _ConvBranch(down, up) if isinstance(self._modules[name], nn.Conv2d) else _LinearBranch(down, up)

    def _whole_row(self, picture: RowAdapters) -> tuple[Tensor, ...]:
        """A stack's row, laid out as in the buffers: down factors in the UNet's dtype, up factors in float32."""
        names = picture.names
        key = frozenset((name, picture.content_keys[name]) for name in names)
        cached = self._row_cache.get(key)
        if cached is None:
            down = torch.zeros(1, self._layout.down_size, device=self._device, dtype=self._dtype)
            up = torch.zeros(1, self._layout.up_size, device=self._device)
            factors = self._uploaded(picture, names)
            views = [self._layout.parts(name, down, up) for name in names]
            for side in (0, 1):
                targets = [view[side][0, : len(pair[side])] for view, pair in zip(views, factors, strict=True)]
                torch._foreach_copy_(targets, [pair[side] for pair in factors])
            cached = down[0], up[0]
            self._row_cache.put(key, cached)
        return cached

    def _uploaded(self, picture: RowAdapters, names: Sequence[str]) -> list[tuple[Tensor, ...]]:
        """Every module's down (r, in) and transposed up (r, out) in float32 on the device, cached by content."""
        keys = [(name, picture.content_keys[name]) for name in names]
        known = {key: self._factor_cache.get(key) for key in keys}
        lacking = [key for key, cached in known.items() if cached is None]
        parts = upload_all([_factors(picture.deltas[name]) for name, _ in lacking], self._device)
        for key, balanced in zip(lacking, _balanced(parts), strict=True):
            self._factor_cache.put(key, balanced)
            known[key] = balanced
        return [pair for key in keys if (pair := known[key]) is not None]


@dataclass(frozen=True)
class _Layout:
    """Where each module's factors lie in a row: ``ranks`` and ``shapes`` (out, in) by name."""

    ranks: Mapping[str, int]
    shapes: Mapping[str, tuple[int, int]]

    @cached_property
    def _offsets(self) -> tuple[dict[str, tuple[int, int]], int, int]:
        """The start of every module's down and up factor, and the sizes of both buffers' rows."""
        starts, down, up = {}, 0, 0
        for name, rank in self.ranks.items():
            starts[name] = down, up
            wide, deep = self.shapes[name]
            down, up = down + _aligned(rank * deep), up + _aligned(rank * wide)
        return starts, down, up

    @property
    def down_size(self) -> int:
        """How many numbers a row's down factors are."""
        return self._offsets[1]

    @property
    def up_size(self) -> int:
        """How many numbers a row's up factors are."""
        return self._offsets[2]

    def parts(self, name: str, downs: Tensor, ups: Tensor) -> tuple[Tensor, Tensor]:
        """A module's down (rows, r, in) and up (rows, r, out) in ``downs`` (rows, numbers) and ``ups``."""
        (down, up), rank, (wide, deep) = self._offsets[0][name], self.ranks[name], self.shapes[name]
        return (
            downs[:, down : down + rank * deep].view(-1, rank, deep),
            ups[:, up : up + rank * wide].view(-1, rank, wide),
        )


class _LinearBranch:
    """The branches of a linear module, and the forward hook that adds them: down (rows, r, in), up (rows, r, out)."""

    def __init__(self, down: Tensor, up: Tensor) -> None:
        self.down, self.up = down, up

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
        """x (rows, ..., in), y (rows, ..., out): adds (x down^T) up to y in place, before anything reads it."""
        x: Tensor = inputs[0]
        rows = len(x)
        inner = torch.bmm(x.reshape(rows, -1, x.shape[-1]), self.down[:rows].mT)
        y.view(rows, -1, y.shape[-1]).baddbmm_(inner, self.up[:rows])
        return y


class _ConvBranch(_LinearBranch):
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
        raise TypeError("a full difference has no branch; BatchedLora.fits() says so")
    return delta.down, delta.up


def _balanced(parts: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, Tensor]]:
    """Each down (r, in) and up (out, r) as down and transposed up (r, out), each component scaled by a power of two so
    that both factors have about the same magnitude: half precision then loses nothing that matters. Modules of one
    shape share their launches."""
    by_shape: dict[Hashable, list[int]] = {}
    for n, (down, up) in enumerate(parts):
        by_shape.setdefault((down.shape, up.shape), []).append(n)
    balanced: dict[int, tuple[Tensor, Tensor]] = {}
    for same in by_shape.values():
        downs, ups = torch.stack([parts[n][0] for n in same]), torch.stack([parts[n][1].mT for n in same])
        largest = [side.abs().amax(2, keepdim=True) for side in (downs, ups)]
        down_exponent, up_exponent = (torch.frexp(each).exponent for each in largest)
        shift = torch.where((largest[0] == 0) | (largest[1] == 0), 0, (up_exponent - down_exponent) // 2)
        balanced |= dict(zip(same, zip(torch.ldexp(downs, shift), torch.ldexp(ups, -shift), strict=True), strict=True))
    return [balanced[n] for n in range(len(parts))]


def _aligned(numbers: int) -> int:
    """Rounded up to 16 bytes in half precision, the alignment that fast matrix kernels need."""
    return -(-numbers // 8) * 8


def _is_matrix(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == module.stride == (1, 1) and module.groups == 1 and module.padding == (0, 0)
    return isinstance(module, nn.Linear)


def _shape(module: nn.Module) -> tuple[int, int]:
    """(out, in) of a matrix module."""
    weight = module.weight
    return int(weight.shape[0]), int(weight.shape[1])  # type: ignore[index, operator, union-attr]


def _rank(deltas: Mapping[str, Delta], name: str) -> int:
    ranks = getattr(deltas, "ranks", None)
    if ranks is not None:
        return int(ranks[name])
    delta = deltas[name]
    return delta.rank if isinstance(delta, LowRank) else _MOST_RANK + 1
