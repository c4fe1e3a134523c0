"""The order in which steps run, several at once if wanted, and what still runs after one has failed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from loratools.recipe.observer import StepFailure
from loratools.recipe.plan.step import Planned
from loratools.recipe.schema.kinds import StepKind

T = TypeVar("T")


def run_in_order(
    steps: Sequence[Planned],
    run: Callable[[Planned], T],
    jobs: int = 1,
    on_fail: Callable[[StepFailure], None] | None = None,
) -> tuple[list[T], list[StepFailure]]:
    """Run every step once those that it needs have run, up to ``jobs`` at once.

    Steps share one process, in which loading a model changes what torch makes everywhere (the device and the dtype of
    new tensors) and training its random numbers. So a step that loads one has torch to itself: beside it only drawings
    are made, while merges and the like run beside each other.

    A step that fails takes only those with it that need it. An interrupt ends at once: a step that loads a model runs
    in the calling thread, so it is stopped as in a run of one job; threads that still work are left to die with the
    process, which is safe because every file appears whole or not at all.

    Args:
        run: computes one step.
        on_fail: called with each failure as it happens.
    Returns:
        What ``run`` returned, in the order of ``steps``, without those that did not run; and the failures.
    """
    return _Scheduler(steps, run, jobs, on_fail).run()


class _Scheduler(Generic[T]):
    """The state of :func:`run_in_order`."""

    def __init__(
        self,
        steps: Sequence[Planned],
        run: Callable[[Planned], T],
        jobs: int,
        on_fail: Callable[[StepFailure], None] | None,
    ) -> None:
        self._steps, self._run, self._jobs, self._on_fail = steps, run, jobs, on_fail
        self._waiting = list(steps)
        self._running: dict[str, StepKind] = {}
        self._done: dict[str, T] = {}
        self._failures: list[StepFailure] = []
        self._finished: queue.Queue[tuple[Planned, T | Exception]] = queue.Queue()  # by threads

    def run(self) -> tuple[list[T], list[StepFailure]]:
        """Run everything."""
        while self._waiting or self._running:
            if not self._start():
                self._finish(*self._finished.get())
        return [self._done[step.name] for step in self._steps if step.name in self._done], self._failures

    def _start(self) -> bool:
        """Start what can run now; True if one step ran here, to its end."""
        ready = [step for step in self._waiting if all(need in self._done for need in step.needs)]
        if self._jobs > 1:
            ready.sort(key=lambda step: step.step_kind.loads_model)  # threads first, then what takes this one
        for step in ready:
            if len(self._running) >= self._jobs or not _fits(step.step_kind, self._running.values()):
                continue
            self._waiting.remove(step)
            self._running[step.name] = step.step_kind
            if self._jobs <= 1 or step.step_kind.loads_model:  # where an interrupt reaches it
                self._finish(step, self._result(step))
                return True
            threading.Thread(
                target=lambda step=step: self._finished.put((step, self._result(step))), daemon=True
            ).start()
        return False

    def _result(self, step: Planned) -> T | Exception:
        try:
            return self._run(step)
        except Exception as error:
            return error

    def _finish(self, step: Planned, result: T | Exception) -> None:
        del self._running[step.name]
        if not isinstance(result, Exception):
            self._done[step.name] = result
            return
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
