"""The descent from the first step to the last: the next point, its pictures, and what is kept of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loratools.tune.descent.descent import Descent
from loratools.tune.descent.shots import DescentShots
from loratools.tune.descent.steps import Plan, Step, next_point, running_means
from loratools.tune.problem.space import Space
from loratools.tune.progress import Clock, Stopped


@dataclass(frozen=True, eq=False)
class DescentSearch:
    """A descent.

    Attributes:
        make: makes what draws, once something is to be drawn.
        known: the step of a number at a point that an earlier run made, if it did; ``keep`` keeps one.
        stopped: whether to stop before a step that takes so many search pictures' time; the same in every process.
    """

    space: Space
    plan: Plan
    shots: DescentShots
    clock: Clock
    make: Callable[[], Descent]
    known: Callable[[int, tuple[float, ...]], Step | None]
    keep: Callable[[int, Step], None]
    stopped: Callable[[int], bool]

    def run(self, start: Mapping[str, float]) -> list[Step]:
        """All steps, or those until it was stopped.

        Args:
            start: what the whole LoRA's pictures are worth, by measure.
        """
        descent: Descent | None = None
        steps: list[Step] = []
        cost = self.plan.cost * self.plan.shots
        self.clock.begin("descent")
        for number in range(1, 1 + self.plan.steps):
            point = next_point(steps, self.space, self.plan)
            step = self.known(number, tuple(point.tolist()))
            if step is not None:
                self.clock.skip(cost)
                steps.append(step)
                continue
            if self.stopped(cost):
                break
            descent = descent or self.make()
            step = descent.step(point, self.shots.of(number, self.plan.shots), running_means(steps, start))
            self.keep(number, step)
            steps.append(step)
            with contextlib.suppress(Stopped):  # this step is whole; before the next one it stops
                self.clock.picture(cost)
        return steps
