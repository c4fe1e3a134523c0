"""The order in which steps run, several at once if wanted, and what still runs after one has failed."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from loratools.recipe.observer import StepFailure
from loratools.recipe.plan.step import Planned
from loratools.recipe.run.assign import assign
from loratools.recipe.schema.kinds import StepKind

T = TypeVar("T")


@dataclass(frozen=True)
class Places:
    """Where launched processes run: ``slots``, by number.

    ``processes`` is how many of them a step gains from, 0 for one that is not launched. ``prepare`` is told in which
    groups of them the next steps will run.
    """

    slots: Sequence[int]
    processes: Callable[[Planned], int]
    prepare: Callable[[Sequence[Sequence[int]]], object] = lambda groups: None


def run_in_order(
    steps: Sequence[Planned],
    run: Callable[[Planned, Sequence[int]], T],
    jobs: int = 1,
    on_fail: Callable[[StepFailure], None] | None = None,
    places: Places | None = None,
) -> tuple[list[T], list[StepFailure]]:
    """Run every step once those that it needs have run: up to ``jobs`` at once in this process, and beside them those
    that have processes of their own, in ``places``.

    Steps share one process, in which loading a model changes what torch makes everywhere (the device and the dtype of
    new tensors) and training its random numbers. So a step that loads one has torch to itself: beside it only drawings
    are made, while merges and the like run beside each other.

    With ``places``, steps that are launched run there, on devices of their own, whatever else runs
    (:func:`~loratools.recipe.run.assign.assign`).

    A step that fails takes only those with it that need it. An interrupt ends at once: a step that loads a model runs
    in the calling thread, so it is stopped as in a run of one job; threads that still work are left to die with the
    process, which is safe because every file appears whole or not at all.

    Args:
        run: computes one step, in processes at the given places; in this process where there are none.
        on_fail: called with each failure as it happens.
    Returns:
        What ``run`` returned, in the order of ``steps``, without those that did not run; and the failures.
    """
    return _Scheduler(steps, run, jobs, on_fail, places).run()


class _Scheduler(Generic[T]):
    """The state of :func:`run_in_order`."""

    def __init__(
        self,
        steps: Sequence[Planned],
        run: Callable[[Planned, Sequence[int]], T],
        jobs: int,
        on_fail: Callable[[StepFailure], None] | None,
        places: Places | None,
    ) -> None:
        self._steps, self._run, self._jobs, self._on_fail = steps, run, jobs, on_fail
        self._places = places or Places((), lambda step: 0)
        self._taken: dict[str, Sequence[int]] = {}  # launched step -> its places
        self._waiting = list(steps)
        self._running: dict[str, StepKind] = {}
        self._done: dict[str, T] = {}
        self._failures: list[StepFailure] = []
        self._finished: queue.Queue[tuple[Planned, T | BaseException]] = queue.Queue()  # by threads

    def run(self) -> tuple[list[T], list[StepFailure]]:
        """Run everything."""
        while self._waiting or self._running:
            self._launch()
            if not self._start():
                self._finish(*self._next_finished())
        return [self._done[step.name] for step in self._steps if step.name in self._done], self._failures

    def _start(self) -> bool:
        """Start what can run now; True if one step ran here, to its end."""
        threads = self._jobs > 1 or bool(self._places.slots)
        ready = [step for step in self._ready() if not self._places.processes(step)]
        if threads:
            ready.sort(key=lambda step: step.step_kind.loads_model)  # threads first, then what takes this one
        for step in ready:
            here = [kind for name, kind in self._running.items() if name not in self._taken]
            if len(here) >= self._jobs or not _fits(step.step_kind, here):
                continue
            self._waiting.remove(step)
            self._running[step.name] = step.step_kind
            if not threads or step.step_kind.loads_model:  # where an interrupt reaches it
                self._finish(step, self._result(step, ()))
                return True
            self._in_thread(step, ())
        return False

    def _launch(self) -> None:
        """Start what can be launched now."""
        taken = {slot for slots in self._taken.values() for slot in slots}
        free = [slot for slot in self._places.slots if slot not in taken]
        ready = [(step, most) for step in self._ready() if (most := self._places.processes(step))]
        for (step, _), slots in zip(ready, assign([most for _, most in ready], free, self._soon()), strict=False):
            self._waiting.remove(step)
            self._running[step.name], self._taken[step.name] = step.step_kind, slots
            self._in_thread(step, slots)
        self._prepare()

    def _prepare(self) -> None:
        """Have processes ready where the next steps will run, once what runs now has ended."""
        waiting = [most for step in self._waiting if (most := self._places.processes(step))]
        self._places.prepare(assign(waiting, self._places.slots))

    def _soon(self) -> int:
        """How many steps to be launched wait only for what this process makes now, such as drawings."""
        here = {name for name in self._running if name not in self._taken}
        here |= {step.name for step in self._ready() if not self._places.processes(step)}
        waiting = [step for step in self._waiting if here & set(step.needs) and self._places.processes(step)]
        return sum(all(need in self._done or need in here for need in step.needs) for step in waiting)

    def _ready(self) -> list[Planned]:
        return [step for step in self._waiting if all(need in self._done for need in step.needs)]

    def _in_thread(self, step: Planned, slots: Sequence[int]) -> None:
        def work() -> None:
            result: T | BaseException
            try:
                result = self._result(step, slots)
            except BaseException as error:  # ends the run, in the calling thread
                result = error
            self._finished.put((step, result))

        threading.Thread(target=work, daemon=True).start()

    def _result(self, step: Planned, slots: Sequence[int]) -> T | Exception:
        try:
            return self._run(step, slots)
        except Exception as error:
            return error

    def _next_finished(self) -> tuple[Planned, T | BaseException]:
        while True:
            with contextlib.suppress(queue.Empty):  # Windows hands on Ctrl-C only between two waits
                return self._finished.get(timeout=1)

    def _finish(self, step: Planned, result: T | BaseException) -> None:
        del self._running[step.name]
        self._taken.pop(step.name, None)
        if not isinstance(result, BaseException):
            self._done[step.name] = result
            return
        if not isinstance(result, Exception):
            raise result
        skipped = _needing(step.name, self._waiting)
        self._waiting = [other for other in self._waiting if other.name not in skipped]
        self._failures.append(StepFailure(step, result, tuple(skipped)))
        if self._on_fail is not None:
            self._on_fail(self._failures[-1])


def _fits(kind: StepKind, beside: Iterable[StepKind]) -> bool:
    """Whether a step of this kind may run in one process beside those."""
    computing = [other for other in beside if other.computes]
    return not kind.computes or not computing or not any(other.loads_model for other in (kind, *computing))


def _needing(name: str, steps: Sequence[Planned]) -> list[str]:
    """The steps that need ``name``, directly or through others."""
    needing = {name}
    for step in steps:  # they stand in an order in which they can run
        if needing & set(step.needs):
            needing.add(step.name)
    return [step.name for step in steps if step.name in needing]
