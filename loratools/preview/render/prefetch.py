"""Deltas of the stacks that come next are read from their files on a thread while the device works."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from loratools.adapter.algebra.factor_sum import Summand
from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.adapter.architectures.names import is_text
from loratools.base.patching.summands import AdapterSum
from loratools.preview.plan.jobs import Job, Stack
from loratools.preview.render.batches import StackBatch

_MOST = 1 << 29  # bytes of deltas that are read and not yet used


class DeltaPrefetcher:
    """Reads the deltas of groups in order on a thread, which ends with the ``with`` block.

    A delta that the thread has not read yet is read by its user: nobody waits for the thread, and an error is raised
    where it would be without one. The stacks of groups that are added have to live as long as the block.

    Args:
        most: bytes of deltas that may be read and not yet used; the thread waits beyond that.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._room = threading.Condition()
        self._most, self._bytes, self._over = most, 0, False
        self._ready: dict[tuple[int, bool], _Ready] = {}  # by the id of a stack's deltas, and whether it is mixed
        self._adapters: dict[int, _Ready] = {}
        self._order: list[tuple[_Ready, Mapping[str, Hashable]]] = []  # and the content keys of what is read of it
        self._stacks: dict[tuple[int, bool], Stack] = {}
        self._through = 0  # of the order, what the thread has read
        self._thread = threading.Thread(target=self._read, name="read ahead", daemon=True)

    def __enter__(self) -> DeltaPrefetcher:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._room:
            self._over = True
            self._room.notify_all()
        self._thread.join()

    def add(self, groups: Sequence[StackBatch]) -> list[StackBatch]:
        """``groups`` with stacks whose deltas come from the thread; it reads them after those added before."""
        with self._room:
            made = [self._group(group) for group in groups]
            self._room.notify_all()
        return made

    def take(self, ready: _Ready, name: str) -> Delta | None:
        """The delta of a module, if the thread has read it; the thread keeps no copy, and does not read it later."""
        with self._room:
            delta = ready.held.pop(name, None)
            ready.asked.add(name)
            if delta is not None:
                self._bytes -= _size(delta)
                self._room.notify_all()
            return delta

    def _group(self, group: StackBatch) -> StackBatch:
        mixed = group.stack is None
        batches = tuple(tuple(self._job(job, mixed) for job in batch) for batch in group.batches)
        return StackBatch(self._stack(group.stack, mixed) if group.stack else None, batches)

    def _job(self, job: Job, mixed: bool) -> Job:
        return replace(job, stack=self._stack(job.stack, mixed))

    def _stack(self, stack: Stack, mixed: bool) -> Stack:
        """``stack`` over a mapping that the thread reads; for a mixed batch the UNet's part by adapter."""
        if not stack.deltas or not stack.weight:
            return stack
        if (id(stack), mixed) not in self._stacks:
            ready = self._ready.get((id(stack.deltas), mixed))
            if ready is None:
                ready = self._ready[id(stack.deltas), mixed] = _Ready(stack.deltas, self)
                content_keys = stack.keys_by_module
                if mixed:
                    content_keys = {name: key for name, key in content_keys.items() if is_text(name)}
                self._order.append((ready, content_keys))
                if mixed:
                    self._adapters.setdefault(id(stack.deltas), ready)
                    ready.summands = self._by_adapter(stack.unet_part)
            self._stacks[id(stack), mixed] = replace(stack, deltas=ready)
        return self._stacks[id(stack), mixed]

    def _by_adapter(self, whole: AdapterSum) -> dict[str, tuple[Summand, ...]]:
        """The summands of every module, over mappings of their adapters that the thread reads."""
        read: dict[Hashable, _Ready] = {}
        for key, (adapter, _) in whole.adapters.items():
            read[key] = self._adapters.setdefault(id(adapter.source), _Ready(adapter.source, self))
            names = [name for name, own in whole.modules.items() if any(summand.key == key for summand in own)]
            self._order.append((read[key], dict.fromkeys(names, ("adapter", key))))
        return {
            name: tuple(replace(summand, source=read[summand.key]) for summand in own)
            for name, own in whole.modules.items()
        }

    def _read(self) -> None:
        seen: set[Hashable] = set()
        for ready, content_keys in self._in_order():
            for name, content_key in content_keys.items():
                if (name, content_key) in seen:
                    continue  # the device has it from another stack
                seen.add((name, content_key))
                with self._room:
                    self._room.wait_for(lambda: self._over or self._bytes < self._most)
                    if self._over:
                        return
                    if name in ready.asked:
                        continue
                try:
                    delta = ready.whole[name]
                except Exception:  # its user reads it again and meets the same error
                    return
                with self._room:
                    if name not in ready.asked:
                        ready.held[name] = delta
                        self._bytes += _size(delta)

    def _in_order(self) -> Iterator[tuple[_Ready, Mapping[str, Hashable]]]:
        """All mappings in the order in which they were added, until the block ends."""
        for at in itertools.count():
            with self._room:
                self._through = at
                self._room.wait_for(lambda: self._over or at < len(self._order))  # noqa: B023 it waits here
                if self._over:
                    return
                following = self._order[at]
            yield following


class _Ready(Mapping[str, Delta]):
    """A mapping of deltas that takes from the thread what it has read, and reads the rest itself."""

    def __init__(self, whole: Mapping[str, Delta], ahead: DeltaPrefetcher) -> None:
        self.whole, self._ahead = whole, ahead
        self.held: dict[str, Delta] = {}
        self.asked: set[str] = set()
        self.summands: Mapping[str, tuple[Summand, ...]] | None = None

    def __getattr__(self, name: str) -> Any:
        """``shapes``, ``ranks`` and ``dense``, where the mapping has them."""
        if name in ("shapes", "ranks", "dense"):
            return getattr(self.whole, name)
        raise AttributeError(name)

    def __getitem__(self, name: str) -> Delta:
        delta = self._ahead.take(self, name)
        return self.whole[name] if delta is None else delta

    def __contains__(self, name: object) -> bool:
        return name in self.whole

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole)

    def __len__(self) -> int:
        return len(self.whole)


def _size(delta: Delta) -> int:
    return delta.up.nbytes + delta.down.nbytes if isinstance(delta, LowRank) else delta.value.nbytes
