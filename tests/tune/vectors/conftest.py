"""A made-up base and LoRA whose pictures hold their own figures, as known functions of the block weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratools.adapter.files.file import read
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Better, Shown
from loratools.ops.merging.terms import Term
from loratools.tune import run
from loratools.tune.arrays import Array
from loratools.tune.drawing import OnPicture
from loratools.tune.folder import TuneFolder
from loratools.tune.problem.effort import Effort
from loratools.tune.problem.prompts import Shot, split_prompts
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun
from tests.loras import lora_tensors, save

TINY = Effort(
    prompts=3,
    held_out=4,
    pool=6,
    shots=3,
    population=4,
    screening=16,
    generations=5,
    checks=1,
    fresh=6,
    strengths=(0.8, 0.6),
)
PROMPTS = tuple(f"1girl, prompt {number}" for number in range(8))
FIGURES = ("hands", "style", "tags")  # grade 0 to 3, share, share


def logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@dataclass
class World:
    """What pictures look like. A block's number in ``hands`` or ``style`` is how much of it the block carries.

    Attributes:
        drawn: how many pictures were drawn so far, and ``fine`` how many of them for the report.
        interrupt: called before every picture with their number.
    """

    names: tuple[str, ...]
    hands: dict[str, float] = field(default_factory=lambda: {"OUT08": 3.0, "OUT09": 2.0})
    style: dict[str, float] = field(default_factory=lambda: {"OUT06": 3.0, "OUT11": 3.0})
    base_hands: float = 0.1
    drawn: int = 0
    fine: int = 0
    interrupt: Callable[[int], None] = lambda number: None
    points: list[tuple[float, ...]] = field(default_factory=list)

    def figures(self, point: Array | None, shot: Shot) -> tuple[float, float, float]:
        """Hands, style and tags of one picture."""
        random = np.random.default_rng([shot.seed, *shot.prompt.encode()])
        own, other, third = random.normal(0, 0.4, 3)
        if point is None:
            return self.base_hands, 0.02, 0.95
        weights = dict(zip(self.names, point, strict=True))
        hands = sum(share * weights[block] for block, share in self.hands.items())
        style = sum(share * weights[block] for block, share in self.style.items())
        grade = self.base_hands + (3 - self.base_hands) * logistic(2 * (hands - 4 + own))
        return grade, logistic(1.5 * (style - 4 + other)), logistic(3 + third)

    def __call__(
        self, points: Sequence[Array | None], shots: Sequence[Shot], *, fine: bool, on_picture: OnPicture
    ) -> list[list[Shown]]:
        drawn = []
        for point in points:
            self.points.append(() if point is None else tuple(float(value) for value in point))
            own = []
            for shot in shots:
                self.interrupt(self.drawn)
                own.append(Shown(encoded(self.figures(point, shot)), shot.prompt, shot.seed))
                self.drawn += 1
                self.fine += fine
                on_picture()
            drawn.append(own)
        return drawn


def encoded(figures: Sequence[float]) -> np.ndarray:
    """Three numbers as a picture of 2 x 2 pixels."""
    return np.array(figures, dtype=np.float32).view(np.uint8).reshape(2, 2, 3).copy()


@dataclass(frozen=True)
class Figure:
    """A measure that reads one of the numbers of a picture."""

    name: str
    better: Better

    def __call__(self, pictures: Sequence[Shown]) -> np.ndarray:
        return np.array([picture.pixels.reshape(-1).view(np.float32)[FIGURES.index(self.name)] for picture in pictures])


def figures(base: Sequence[Shown], whole: Sequence[Shown]) -> MeasureSet:
    """Hands are to be mended, style and tags to be kept."""
    return MeasureSet((Figure("hands", "lower"),), (Figure("style", "higher"), Figure("tags", "higher")))


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA with modules in all of SD1's seventeen blocks."""
    return save(tmp_path_factory.mktemp("lora") / "ink.safetensors", lora_tensors("sd1", rank=1))


@pytest.fixture(autouse=True)
def no_drawings(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sheet and the plot take longer than all the rest; tests that take ``drawings`` draw them."""
    if "drawings" not in request.fixturenames:
        monkeypatch.setattr(run, "write_both", lambda result: None)


@pytest.fixture
def drawings() -> None:
    """Draw the sheet and the plot."""


@pytest.fixture
def space(lora: Path) -> Space:
    return Space.of([Term(read(lora), 1.0, label="ink")])


@dataclass
class Tuning:
    """Runs made-up tunes of one LoRA."""

    space: Space
    folder: Path

    def world(self, **words: Any) -> World:
        return World(self.space.names, **words)

    def run(self, world: World, *, key: str = "key", measures: Any = figures, **words: Any) -> TuneResult:
        """A tune in :attr:`folder`."""
        progress, notes = words.pop("on_progress", lambda _: None), words.pop("on_note", lambda _: None)
        owner, force = words.pop("owner", "test"), words.pop("force", False)
        request = replace(TuneRequest(("hands",), PROMPTS, seeds=(1, 2), effort=TINY), **words)
        shots = split_prompts(request.prompts, request.seeds, TINY, 1)
        run = TuneRun(self.space, request, shots, world, measures, key, TuneFolder(self.folder), 2, progress, notes)
        return run.run(owner, force=force)


@pytest.fixture
def tuning(space: Space, tmp_path: Path) -> Tuning:
    return Tuning(space, tmp_path / "tuned")
