"""In which order steps run, several at once if wanted, and what still runs when one has failed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from loratools.recipe.plan import Planned

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """A step that failed; ``skipped`` are those that need it, and so could not run."""

    planned: Planned
    error: Exception
    skipped: tuple[str, ...]


def in_turn(
    steps: Sequence[Planned],
    run: Callable[[Planned], T],
    jobs: int = 1,
    on_fail: Callable[[Failure], None] | None = None,
) -> tuple[list[T], list[Failure]]:
    """Run every step once those that it needs have run, up to ``jobs`` at once; results in the order of ``steps``.

    A step that fails takes only those with it that need it. An interrupt ends at once: threads that still work are
    left to die with the process, which is safe because every file appears whole or not at all.
    """
    waiting = list(steps)
    done: dict[str, T] = {}
    failures: list[Failure] = []
    answers: queue.Queue[tuple[Planned, T | Exception]] = queue.Queue()
    running: set[str] = set()

    def answer(planned: Planned) -> tuple[Planned, T | Exception]:
        try:
            return planned, run(planned)
        except Exception as error:
            return planned, error

    def took(planned: Planned, result: T | Exception) -> None:
        running.discard(planned.name)
        if not isinstance(result, Exception):
            done[planned.name] = result
            return
        lost = _needing(planned.name, waiting)
        waiting[:] = [step for step in waiting if step.name not in lost]
        failures.append(Failure(planned, result, tuple(lost)))
        if on_fail is not None:
            on_fail(failures[-1])

    while waiting or running:
        ready = [step for step in waiting if all(need in done for need in step.needs)]
        if jobs <= 1:
            waiting.remove(ready[0])
            took(*answer(ready[0]))
            continue
        for step in ready[: jobs - len(running)]:
            waiting.remove(step)
            running.add(step.name)
            threading.Thread(target=lambda step=step: answers.put(answer(step)), daemon=True).start()
        took(*answers.get())
    return [done[step.name] for step in steps if step.name in done], failures


def _needing(name: str, steps: Sequence[Planned]) -> list[str]:
    """The steps that need ``name``, directly or through others."""
    lost = {name}
    for step in steps:  # they stand in an order in which they can run
        if lost & set(step.needs):
            lost.add(step.name)
    return [step.name for step in steps if step.name in lost]
