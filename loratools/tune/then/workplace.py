"""Where ways that follow a search work: drawing any LoRAs by name, and measuring them as the search did."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loratools.base.model import Base
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Measure, Shown
from loratools.ops.merging.terms import Term
from loratools.preview.plan.vector_stacks import vector_stacks
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.train.distributed import Ranks
from loratools.train.step.placement import offloaded
from loratools.tune.drawing import measured
from loratools.tune.folder import TuneFolder
from loratools.tune.problem.goals import Goals
from loratools.tune.problem.prompts import Shot, Split
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.progress import Clock

_PORTION = 32  # pictures between two writes, so that a kill loses no more


@dataclass(frozen=True, eq=False)
class Workplace:
    """What every way has at hand.

    Attributes:
        fine: how pictures are sampled for the report and to be learnt from, ``coarse`` those that only choose.
        key: of the search that the ways follow.
        goals: of the search's own shots; the report has others.
        weight: search pictures that a fine one costs, and ``costs`` what each way does, about.
    """

    base: Base
    request: TuneRequest
    space: Space
    shots: Split
    fine: SamplingSettings
    coarse: SamplingSettings
    folder: TuneFolder
    key: str
    measures: MeasureSet
    goals: Goals
    clock: Clock
    weight: int
    costs: Mapping[str, int]
    on_note: Callable[[str], None]
    ranks: Ranks = Ranks()  # noqa: RUF009  (frozen)
    _open: list[PopulationRenderer] = field(default_factory=list)

    @property
    def all_measures(self) -> list[Measure]:
        """Targets and what is kept, each once."""
        return list({each.name: each for each in (*self.measures.targets, *self.measures.kept)}.values())

    def pictures(self, name: str, terms: Sequence[Term], shots: Sequence[Shot], *, fine: bool) -> list[Shown]:
        """The pictures of ``terms`` on ``shots``; the folder keeps them by ``name``, a portion at a time.

        Raises:
            Stopped: if a stop is wanted meanwhile; whole portions are kept.
        """
        portions = [shots[begin : begin + _PORTION] for begin in range(0, len(shots), _PORTION)]
        names = [name] if len(portions) == 1 else [f"{name}-{number:02d}" for number in range(1, len(portions) + 1)]
        return [
            shown for own, part in zip(names, portions, strict=True) for shown in self._part(own, terms, part, fine)
        ]

    def values(self, shown: Sequence[Shown], *, checks: bool = False) -> dict[str, tuple[float, ...]]:
        """Measure -> the value of each picture.

        Args:
            checks: by those that lead nothing as well, as the report does.
        """
        every = [*self.all_measures, *(self.measures.checks if checks else ())]
        return {name: rows[0] for name, rows in measured(every, [shown]).items()}

    def total(self, values: dict[str, tuple[float, ...]]) -> float:
        """The mean cost of the search's shots, and far more where a constraint is missed."""
        cost = np.array([np.nanmean(self.goals.cost(values))])
        worths = [np.array([np.nanmean(each.worth(values[each.name]))]) for each in self.goals.constraints]
        return float(self.goals.total(cost, worths)[0])

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Inside the block the base that pictures are drawn with leaves the device to a training."""
        self.close()
        with offloaded(self.base):
            yield

    def close(self) -> None:
        """Free what drawing keeps; the base is as it was."""
        while self._open:
            self._open.pop().close()

    def key_of(self, *parts: object) -> str:
        """sha256 over the search's key and ``parts``, which are JSON values."""
        return hashlib.sha256(json.dumps([self.key, *parts], sort_keys=True).encode()).hexdigest()

    def _part(self, name: str, terms: Sequence[Term], shots: Sequence[Shot], fine: bool) -> list[Shown]:
        settings, weight = (self.fine, self.weight) if fine else (self.coarse, 1)
        stack = vector_stacks(terms, [{}])[0]
        digest = self.key_of(stack.digest, repr(settings))
        known = self.folder.pictures(name, digest, shots)
        self.ranks.wait()  # until every process has seen the same
        if known is not None:
            self.clock.skip(weight * len(known))
            return known
        jobs = [PictureJob(shot.prompt, shot.seed, settings) for shot in shots]
        drawn = []
        for picture in self._renderer().draw([stack], jobs):
            drawn.append(Shown(picture.pixels, shots[picture.job].prompt, shots[picture.job].seed))
            self.clock.picture(weight)
        self.folder.keep_pictures(name, digest, drawn)
        return drawn

    def _renderer(self) -> PopulationRenderer:
        if not self._open:
            self._open.append(PopulationRenderer(self.base, EngineOptions(batch=self.request.batch), rank=self.ranks))
        return self._open[0]
