"""The order in which steps run, several at once if wanted, and what still runs after one has failed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

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
    waiting = list(steps)
    done: dict[str, T] = {}
    failures: list[StepFailure] = []
    answers: queue.Queue[tuple[Planned, T | Exception]] = queue.Queue()
    running: dict[str, StepKind] = {}

    def answer(planned: Planned) -> tuple[Planned, T | Exception]:
        try:
            return planned, run(planned)
        except Exception as error:
            return planned, error

    def finish(planned: Planned, result: T | Exception) -> None:
        del running[planned.name]
        if not isinstance(result, Exception):
            done[planned.name] = result
            return
        lost = _needing(planned.name, waiting)
        waiting[:] = [step for step in waiting if step.name not in lost]
        failures.append(StepFailure(planned, result, tuple(lost)))
        if on_fail is not None:
            on_fail(failures[-1])

    def start() -> bool:
        """Start what can run now; True if one step ran here, to its end."""
        ready = [step for step in waiting if all(need in done for need in step.needs)]
        if jobs > 1:
            ready.sort(key=lambda step: step.step_kind.loads_model)  # threads first, then what takes this one
        for step in ready:
            if len(running) >= jobs or not _fits(step.step_kind, running.values()):
                continue
            waiting.remove(step)
            running[step.name] = step.step_kind
            if jobs <= 1 or step.step_kind.loads_model:  # where an interrupt reaches it
                finish(*answer(step))
                return True
            threading.Thread(target=lambda step=step: answers.put(answer(step)), daemon=True).start()
        return False

    while waiting or running:
        if not start():
            finish(*answers.get())
    return [done[step.name] for step in steps if step.name in done], failures


def _fits(kind: StepKind, beside: Iterable[StepKind]) -> bool:
    """Whether a step of this kind may run in one process beside those."""
    computing = [other for other in beside if other.computes]
    return not kind.computes or not computing or not any(other.loads_model for other in (kind, *computing))


def _needing(name: str, steps: Sequence[Planned]) -> list[str]:
    """The steps that need ``name``, directly or through others."""
    lost = {name}
    for step in steps:  # they stand in an order in which they can run
        if lost & set(step.needs):
            lost.add(step.name)
    return [step.name for step in steps if step.name in lost]
