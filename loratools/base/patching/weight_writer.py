"""W0 + w * delta written into live weights: module by module, or all modules of one shape in one launch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from loratools.adapter.algebra.factor_sum import FactorSum, Summand, factor_sum_of
from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.adapter.files.encode import does_not_fit
from loratools.errors import NonFiniteError

_MOST_CACHED = 6 << 30  # bytes of formed deltas or factors, kept while a grid row's weights follow each other
_AT_ONCE = 1 << 25  # numbers of W0 in one launch: 128 MiB of float32, so that small cards have the room


@dataclass(frozen=True, eq=False)
class Target:
    """One parameter that a delta goes to; the delta is read from its mapping when it is needed."""

    name: str
    parameter: nn.Parameter
    deltas: Mapping[str, Delta]

    @property
    def delta(self) -> Delta:
        """The difference itself, which may come from a file."""
        return self.deltas[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        """The difference's shape, from the mapping's ``shapes`` where it has them: no factor is read for it."""
        shapes = getattr(self.deltas, "shapes", None)
        return tuple(shapes[self.name] if shapes is not None else self.delta.shape)


Pair = tuple[Target, Tensor]  # a target and its saved W0


class WeightWriter(Protocol):
    """Writes W0 + weight * delta; caches what it forms or uploads by ``content_keys``, which identify the deltas."""

    def write(self, pairs: Sequence[Pair], weight: float, content_keys: Mapping[str, Hashable]) -> None:
        """Set every target's parameter to W0 + ``weight`` * delta, summed in float32 and cast once."""
        ...

    def clear_cache(self) -> None:
        """Free all that is cached."""
        ...


def writer_for(device: torch.device) -> WeightWriter:
    """The grouped writer on an accelerator, where kernel launches are what costs; on a CPU grouping would only change
    the order of sums."""
    return SingleWriter() if device.type == "cpu" else GroupedWriter(cache_bytes(device))


class TensorCache:
    """Tensors by key; once they take more than ``most`` bytes the least recently used are dropped."""

    def __init__(self, most: int = _MOST_CACHED) -> None:
        self._most, self._bytes = most, 0
        self._items: OrderedDict[Hashable, tuple[Tensor, ...]] = OrderedDict()

    def get(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """The tensors under ``key``, or None."""
        tensors = self._items.get(key)
        if tensors is not None:
            self._items.move_to_end(key)
        return tensors

    def put(self, key: Hashable, tensors: tuple[Tensor, ...]) -> None:
        """Keep ``tensors`` unless they alone are too large."""
        size = sum(tensor.nbytes for tensor in tensors)
        if size > self._most:
            return
        self._items[key] = tensors
        self._bytes += size
        while self._bytes > self._most:
            _, dropped = self._items.popitem(last=False)
            self._bytes -= sum(tensor.nbytes for tensor in dropped)

    def clear(self) -> None:
        """Drop everything."""
        self._items.clear()
        self._bytes = 0


def cache_bytes(device: torch.device) -> int:
    """How many bytes may be cached on ``device``: a quarter of what is free on a GPU, never more than six GiB."""
    return min(_MOST_CACHED, torch.cuda.mem_get_info(device)[0] // 4) if device.type == "cuda" else _MOST_CACHED


class SingleWriter:
    """One product and one sum for every module, so that the order of additions does not depend on other modules.

    That makes a live stack and its merged file bit-equal in float32. Of every module the delta formed last is kept, so
    that a row's weights form it once, and a search of a thousand vectors takes the memory of one.

    Args:
        most: bytes of formed deltas that are kept; those of further modules are formed each time.
    """

    def __init__(self, most: int = _MOST_CACHED) -> None:
        self._most, self._bytes = most, 0
        self._formed: dict[str, tuple[Hashable, Tensor]] = {}

    def write(self, pairs: Sequence[Pair], weight: float, content_keys: Mapping[str, Hashable]) -> None:
        """As :class:`WeightWriter` says; deltas are formed once for all weights of a row."""
        for target, saved in pairs:
            formed = self._form(target, content_keys[target.name])
            target.parameter.copy_(torch.add(saved.float(), formed.reshape(saved.shape), alpha=weight))

    def clear_cache(self) -> None:
        """Free the formed deltas."""
        self._formed.clear()
        self._bytes = 0

    def _form(self, target: Target, content_key: Hashable) -> Tensor:
        key, formed = self._formed.get(target.name, (None, None))
        if formed is None or key != content_key:
            known, formed = formed, _dense(target.delta, target.parameter.device)
            grown = formed.nbytes - (0 if known is None else known.nbytes)
            if self._bytes + grown <= self._most:
                self._formed[target.name] = content_key, formed
                self._bytes += grown
        return formed


class GroupedWriter:
    """Modules of one shape and rank in one batched product: ``baddbmm(W0, up, down)`` with the weight as its alpha.

    Only factors are uploaded and cached, never whole deltas, and of a sum of files those of the files themselves: under
    other strengths nothing is read or uploaded but the strengths. SD 1.5's 192 attention modules are some 15 groups.
    """

    def __init__(self, most: int = _MOST_CACHED) -> None:
        self._factors = TensorCache(most)

    def write(self, pairs: Sequence[Pair], weight: float, content_keys: Mapping[str, Hashable]) -> None:
        """As :class:`WeightWriter` says.

        Raises:
            NonFiniteError: if a sum that is to be rounded as a file rounds it does not fit the file's dtype.
        """
        sums = [_sum_of(target, content_keys[target.name]) for target, _ in pairs]
        factors = self._uploaded(
            [(target, own) for (target, _), whole in zip(pairs, sums, strict=True) for own in whole.summands]
        )
        written = [
            _Written(target, saved, whole, tuple(factors[target.name, own.key] for own in whole.summands))
            for (target, saved), whole in zip(pairs, sums, strict=True)
        ]
        groups = list(_groups(written))
        strengths = _strengths(groups)
        unfit = [_write_group(group, own, weight) for group, own in zip(groups, strengths, strict=True)]
        _check_rounded(groups, unfit)

    def clear_cache(self) -> None:
        """Free the factors."""
        self._factors.clear()

    def _uploaded(self, wanted: Sequence[tuple[Target, Summand]]) -> dict[tuple[str, Hashable], tuple[Tensor, ...]]:
        """The factors, or the whole value, of every module and source, in float32 on the device."""
        known = {(target.name, own.key): self._factors.get((target.name, own.key)) for target, own in wanted}
        found = {key: parts for key, parts in known.items() if parts is not None}
        lacking = {
            (target.name, own.key): (target, own) for target, own in wanted if known[target.name, own.key] is None
        }
        if lacking:
            parts = [_parts(own.source[target.name]) for target, own in lacking.values()]
            device = next(iter(lacking.values()))[0].parameter.device
            for key, moved in zip(lacking, upload_all(parts, device), strict=True):
                self._factors.put(key, moved)
                found[key] = moved
        return found


@dataclass(frozen=True, eq=False)
class _Written:
    """A target, its saved W0, what it is the sum of, and the factors of each summand on the device."""

    target: Target
    saved: Tensor
    whole: FactorSum
    factors: tuple[tuple[Tensor, ...], ...]

    @property
    def kind(self) -> Hashable:
        """Equal where one launch can write both."""
        shapes = tuple(tuple(tuple(part.shape) for part in parts) for parts in self.factors)
        return shapes, self.saved.dtype, self.whole.rounding


def _sum_of(target: Target, content_key: Hashable) -> FactorSum:
    """What a target's delta is the sum of: files' factors, or the delta alone."""
    known = factor_sum_of(target.deltas, target.name)
    return known or FactorSum((Summand(("whole", content_key), 1.0, target.deltas),))


def _parts(delta: Delta) -> tuple[Tensor, ...]:
    return (delta.up, delta.down) if isinstance(delta, LowRank) else (delta.value,)


def upload_all(parts: Sequence[tuple[Tensor, ...]], device: torch.device) -> list[tuple[Tensor, ...]]:
    """All tensors in float32 on ``device``: one copy for each dtype, as they are stored and through pinned memory, so
    that the upload takes the CPU little time and does not wait for what runs on the device."""
    by_kind: dict[torch.dtype, list[Tensor]] = {}
    for part in (part for own in parts for part in own):
        by_kind.setdefault(part.dtype, []).append(part.detach().cpu())
    moved = {kind: iter(_moved(own, kind, device)) for kind, own in by_kind.items()}
    return [tuple(next(moved[part.dtype]) for part in own) for own in parts]


def _moved(tensors: Sequence[Tensor], kind: torch.dtype, device: torch.device) -> list[Tensor]:
    """Tensors of one dtype on ``device`` in float32, as views of one."""
    sizes = [tensor.numel() for tensor in tensors]
    flat = torch.empty(sum(sizes), dtype=kind, pin_memory=device.type == "cuda")
    torch.cat([tensor.flatten() for tensor in tensors], out=flat)
    whole = flat.to(device, non_blocking=True).float()
    return [part.view(tensor.shape) for part, tensor in zip(torch.split(whole, sizes), tensors, strict=True)]


def _groups(written: Sequence[_Written]) -> Iterator[list[_Written]]:
    """Modules of one kind together, at most ``_AT_ONCE`` numbers each."""
    by_kind: dict[Hashable, list[_Written]] = {}
    for own in written:
        by_kind.setdefault(own.kind, []).append(own)
    for same in by_kind.values():
        most = max(1, _AT_ONCE // max(1, same[0].saved.numel()))
        for start in range(0, len(same), most):
            yield same[start : start + most]


def _strengths(groups: Sequence[Sequence[_Written]]) -> list[Tensor | None]:
    """The strengths (summands, modules) of each group on the device, uploaded together; None where all are 1."""
    rows = [
        [[own.whole.summands[n].strength for own in group] for n in range(len(group[0].factors))] for group in groups
    ]
    given = [n for n, row in enumerate(rows) if any(strength != 1 for own in row for strength in own)]
    uploaded: list[Tensor | None] = [None] * len(rows)
    if given:
        device = groups[0][0].saved.device
        parts = [(torch.tensor(rows[n], dtype=torch.float32),) for n in given]
        for n, (moved,) in zip(given, upload_all(parts, device), strict=True):
            uploaded[n] = moved
    return uploaded


def _write_group(group: Sequence[_Written], strengths: Tensor | None, weight: float) -> Tensor | None:
    """Write modules of one kind; whether their rounded factors are all finite, where they are rounded."""
    saved, rounding, fits = [own.saved for own in group], group[0].whole.rounding, None
    if len(group[0].factors[0]) == 2:
        ups, downs = _side_by_side([own.factors for own in group], strengths)
        if rounding is not None:
            ups, downs = rounding.read_back(ups, downs)
            fits = torch.isfinite(ups).all() & torch.isfinite(downs).all()
        start = torch.stack([w0.reshape(w0.shape[0], -1) for w0 in saved]).float()
        sums = torch.baddbmm(start, ups, downs, alpha=weight)
    else:
        values = torch.stack([own.factors[0][0].reshape(own.saved.shape) for own in group])
        sums = torch.add(torch.stack(saved).float(), values, alpha=weight)
    torch._foreach_copy_(
        [own.target.parameter for own in group],
        [whole.reshape(w0.shape) for whole, w0 in zip(sums, saved, strict=True)],
    )
    return fits


def _side_by_side(factors: Sequence[Sequence[tuple[Tensor, ...]]], strengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """ups (n, out, r), times their strengths, and downs (n, r, in) of the sums of n modules, summand beside summand."""
    pairs = [[torch.stack(side) for side in zip(*same, strict=True)] for same in zip(*factors, strict=True)]
    ups = [up if strengths is None else up * strengths[n, :, None, None] for n, (up, _) in enumerate(pairs)]
    downs = [down for _, down in pairs]
    return (ups[0], downs[0]) if len(pairs) == 1 else (torch.cat(ups, 2), torch.cat(downs, 1))


def _check_rounded(groups: Sequence[Sequence[_Written]], fits: Sequence[Tensor | None]) -> None:
    """Raise NonFiniteError for the first group that its file's dtype does not hold; waits for the device once."""
    asked = [n for n, own in enumerate(fits) if own is not None]
    if not asked:
        return
    for n, fine in zip(asked, torch.stack([own for own in fits if own is not None]).tolist(), strict=True):
        rounding = groups[n][0].whole.rounding
        if not fine and rounding is not None:
            raise NonFiniteError(does_not_fit(groups[n][0].target.name, rounding.dtype))


def _dense(delta: Delta, device: torch.device) -> Tensor:
    """The delta multiplied out in float32 on ``device``; only the factors are copied there."""
    if isinstance(delta, LowRank):
        return delta.up.to(device, torch.float32) @ delta.down.to(device, torch.float32)
    return delta.value.to(device, torch.float32)
