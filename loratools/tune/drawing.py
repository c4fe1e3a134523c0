"""Drawing vectors on a base and measuring the pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from loratools.base.model import is_scheduler
from loratools.measures.measure import Measure, Shown, take
from loratools.preview.plan.jobs import Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.tune.arrays import Array
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.space import Space

SEARCH_SAMPLER = "DDIM"
OnPicture = Callable[[], None]  # called after every picture; may raise Stopped


class Draws(Protocol):
    """What draws the pictures of a search; tests have one that computes them."""

    def __call__(
        self, points: Sequence[Array | None], shots: Sequence[Shot], *, fine: bool, on_picture: OnPicture
    ) -> list[list[Shown]]:
        """The pictures of each point, in the order of the shots; None is the base alone.

        Args:
            fine: sampled as pictures are meant to be, for the report; else quickly, for the search.
        """


@dataclass(frozen=True, eq=False)
class BaseDraws:
    """Draws on a base model.

    Attributes:
        fine: how the report's pictures are sampled, and ``coarse`` those of the search.
    """

    renderer: PopulationRenderer
    space: Space
    fine: SamplingSettings
    coarse: SamplingSettings

    def __call__(
        self, points: Sequence[Array | None], shots: Sequence[Shot], *, fine: bool, on_picture: OnPicture
    ) -> list[list[Shown]]:
        settings = self.fine if fine else self.coarse
        moved = self.space.stacks([point for point in points if point is not None])
        waiting = iter(moved)
        stacks = [Stack() if point is None else next(waiting) for point in points]
        jobs = [PictureJob(shot.prompt, shot.seed, settings) for shot in shots]
        drawn: list[list[Shown]] = [[] for _ in points]
        for picture in self.renderer.draw(stacks, jobs):
            shot = shots[picture.job]
            drawn[picture.stack].append(Shown(picture.pixels, shot.prompt, shot.seed))
            on_picture()
        return drawn


def coarse_settings(fine: SamplingSettings, steps: int) -> SamplingSettings:
    """Few steps of a sampler that is steady with few; a pipeline keeps the scheduler of its folder."""
    sampler = fine.sampler if is_scheduler(fine.sampler) else SEARCH_SAMPLER
    return replace(fine, steps=min(steps, fine.steps), sampler=sampler)


def measured(
    measures: Sequence[Measure], pictures: Sequence[Sequence[Shown]]
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Measure -> for each point the value of each of its pictures; pictures are measured all at once.

    Raises:
        MeasureError: as :func:`loratools.measures.measure.take`.
    """
    every = [picture for own in pictures for picture in own]
    values: dict[str, tuple[tuple[float, ...], ...]] = {}
    for measure in measures:
        taken = iter(take(measure, every).values.tolist())
        values[measure.name] = tuple(tuple(next(taken) for _ in own) for own in pictures)
    return values
