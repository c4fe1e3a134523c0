"""Asking for votes: which of two vectors' pictures, side by side, are better."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from loratools.errors import NothingToAskError
from loratools.files import replacing
from loratools.measures.build import MeasureSet
from loratools.measures.estimate import Values
from loratools.measures.measure import Shown
from loratools.measures.probe.pairs import FEWEST, PairChoice, bounded, sides_of
from loratools.measures.probe.ridge import Scaling
from loratools.measures.votes.choose import telling_pairs
from loratools.measures.votes.preference import FEATURE_KERNELS, fit_preference
from loratools.measures.votes.votes_file import Votes
from loratools.tune.asking.kept_draws import KeptDraws, picture_key
from loratools.tune.asking.round_page import Cell, PageContent, Part, RoundPage
from loratools.tune.asking.rounds import Answered
from loratools.tune.history import Generation
from loratools.tune.problem.prompts import Shot
from loratools.tune.report.columns import STRENGTH, TUNED
from loratools.tune.report.result import TuneResult

PAIRS = 20  # of a round, three rounds of which make sixty choices
_SHOWN = 3  # pictures of a side, of different prompts where there are as many
_GAP = 4  # pixels between them
_SURE = 1.96  # standard deviations: an interval of 95 %
_LEFT = 0.1  # of the defect, by the measure: less is not worth a round of choices
_MOST = 200  # choices that are foretold


@dataclass(frozen=True, eq=False)
class Question:
    """A pair that is to be answered.

    Attributes:
        left, right: pictures of the same prompts and seeds, and ``files`` the two picture files that show them.
        done, total: pairs of this round.
    """

    left: tuple[Shown, ...]
    right: tuple[Shown, ...]
    files: tuple[Path, Path]
    done: int
    total: int


Chooser = Callable[[Question], float | None]  # 1 for the left side, 0.5, 0 for the right one; None asks no more now


class MakeVotedMeasures(Protocol):
    """What makes measures of choices."""

    def __call__(self, drawn: Sequence[Shown], whole: Sequence[Shown], *, choices: Sequence[PairChoice]) -> MeasureSet:
        """Of the base's and of the whole LoRA's pictures, and of all choices."""
        ...


@dataclass(frozen=True, eq=False)
class VotesAsker:
    """Asks for choices.

    Attributes:
        shots: of the search.
        describe: features of pictures, by which pairs are chosen that tell most.
        chooser: chooses in place of a person at a page: a terminal, or a program.
        seed: of the choice of pairs.
    """

    shots: Sequence[Shot]
    symptoms: tuple[str, ...]
    make_measures: MakeVotedMeasures
    describe: Callable[[Sequence[Shown]], Values]
    chooser: Chooser | None = None
    seed: int = 1
    folder: str = "votes"
    wanted: str = "answer the pairs"

    def content(
        self, number: int, generations: Sequence[Generation], answered: Sequence[Answered], draws: KeptDraws
    ) -> PageContent:
        """Sides of the vectors that were drawn last, and the pairs of them that tell most."""
        groups = self._groups(generations, draws)
        cells = [cell for own in groups for cell in own]
        pairs = self._pairs(groups, self._choices(answered, draws), draws)
        if not pairs:
            raise NothingToAskError("every pair that could be asked has been answered; give more prompts or seeds")
        symptoms = " and ".join(self.symptoms)
        about = (
            f"each side is one vector, {_SHOWN} pictures of the same prompts and seeds on both sides",
            f"choose by the {symptoms}; what is kept of the style is measured without you",
            "when all are answered, E exports votes.json: save it in this page's folder, and run the command again",
        )
        used = {key for pair in pairs for key in pair}
        size = self._strips([cell for cell in cells if cell.key in used], draws)
        asked = tuple(cell for cell in cells if cell.key in used)
        return PageContent(
            f"votes, round {number}: {symptoms}",
            about,
            asked,
            size,
            tuple(pairs),
            f"Which side has less bad {symptoms}?",
        )

    def reply(self, number: int, page: RoundPage, draws: KeptDraws) -> None:
        """By the chooser, if there is one; each answer is written at once."""
        if self.chooser is None:
            return
        known, cells = page.votes(), {cell.key: cell for cell in page.cells()}
        given = [] if known is None else [(pair.left, pair.right, pair.points) for pair in known.pairs]
        done, total = {frozenset((left, right)) for left, right, _ in given}, len(page.pairs())
        for left, right in page.pairs():
            if frozenset((left, right)) in done:
                continue
            sides = tuple(_opened(cells[key], draws) for key in (left, right))
            files = (page.folder / cells[left].file, page.folder / cells[right].file)
            won = self.chooser(Question(sides[0], sides[1], files, len(given), total))
            if won is None:
                return
            given.append((left, right, won))
            page.answer({}, given)

    def complete(self, votes: Votes) -> bool:
        """Whether there are choices enough to learn from."""
        return len(votes.pairs) >= FEWEST

    def measures(
        self, base: Sequence[Shown], whole: Sequence[Shown], answered: Sequence[Answered], draws: KeptDraws
    ) -> MeasureSet:
        """By the choices of all rounds."""
        return self.make_measures(base, whole, choices=self._choices(answered, draws))

    def enough(self, result: TuneResult, answered: Sequence[Answered], draws: KeptDraws) -> tuple[bool, str]:
        """Whether the tuned vector is above plain strength beyond its interval, with next to nothing left to repair."""
        from loratools.measures.pictures import open_shown

        choices = self._choices(answered, draws)
        sides = sides_of(choices, self.describe)
        preference = fit_preference(sides.features, sides.choices, FEATURE_KERNELS)
        means = []
        for name in (TUNED, STRENGTH):
            shown = [open_shown(path) for path in result.held.column(name).pictures]
            means.append(bounded(sides.scaling, self.describe(shown)).mean(0))
        above, deviation = preference.difference(means[0], means[1])
        left = float(np.nanmean(result.goals.cost(result.held.column(TUNED).values)))
        clears = above - _SURE * deviation > 0
        said = (
            f"votes: after {len(choices)} choices the tuned vector is {above:.1f} +- {_SURE * deviation:.1f} above "
            "plain strength, in units of how unsure a choice is"
        )
        if clears:
            return left <= _LEFT, f"{said}; {max(0.0, left):.0%} of the defect seems to be left"
        more = math.ceil(len(choices) * ((_SURE * deviation / above) ** 2 - 1)) if above > 0 else _MOST
        many = f"some {more} more choices are" if more < _MOST else f"more than {_MOST} choices would be"
        return False, f"{said}, which may be chance; {many} likely needed to tell"

    def _groups(self, generations: Sequence[Generation], draws: KeptDraws) -> list[list[Cell]]:
        """Sides that may be compared: vectors that were drawn for the same shots; those drawn for all go with each."""
        pool = len(self.shots)
        everywhere = [point for own in generations if len(own.shots) == pool for point in own.points]
        groups = []
        for n, own in enumerate(generations):
            if len(own.shots) == pool and any(len(other.shots) < pool for other in generations):
                continue
            shots = self._shown(own.shots, n)
            points = list(dict.fromkeys([*own.points, *everywhere]))
            groups.append([self._side(point, shots, n, at) for at, point in enumerate(points)])
        return groups

    def _shown(self, numbers: Sequence[int], group: int) -> list[Shot]:
        """Shots of a side: of different prompts first."""
        order = np.random.default_rng([self.seed, group]).permutation(len(numbers))
        shots = [self.shots[numbers[n]] for n in order]
        firsts = list({shot.prompt: shot for shot in reversed(shots)}.values())
        return [*firsts, *(shot for shot in shots if shot not in firsts)][:_SHOWN]

    @staticmethod
    def _side(point: tuple[float, ...], shots: Sequence[Shot], group: int, at: int) -> Cell:
        parts = tuple(Part(picture_key(point, shot, False), shot) for shot in shots)
        key = hashlib.sha256("".join(part.key for part in parts).encode()).hexdigest()[:32]
        return Cell(key, f"pictures {group + 1}", str(at + 1), f"../sides/{key}.png", parts)

    def _pairs(
        self, groups: Sequence[Sequence[Cell]], choices: Sequence[PairChoice], draws: KeptDraws
    ) -> list[tuple[str, str]]:
        """The round's pairs, sides by chance: any in the first round, later those that tell most."""
        random = np.random.default_rng([self.seed, len(choices)])
        if choices:
            pairs = self._telling(groups, choices, draws)
        else:
            pairs = [(one.key, two.key) for one, two in islice(_spread_pairs(groups, random), PAIRS)]
        return [(one, two) if random.random() < 0.5 else (two, one) for one, two in pairs]

    def _telling(
        self, groups: Sequence[Sequence[Cell]], choices: Sequence[PairChoice], draws: KeptDraws
    ) -> list[tuple[str, str]]:
        """Keys of sides of which nothing was asked yet."""
        sides = sides_of(choices, self.describe)
        cells = {cell.key: cell for own in groups for cell in own if cell.key not in sides.names}
        features = np.concatenate(
            [sides.features, *(self._mean(sides.scaling, cell, draws) for cell in cells.values())]
        )
        names = [*sides.names, *cells]
        preference = fit_preference(features, sides.choices, FEATURE_KERNELS)
        number = {name: n for n, name in enumerate(names)}
        numbered = [sorted({number[cell.key] for cell in own}) for own in groups]
        return [(names[a], names[b]) for a, b in telling_pairs(preference, numbered, PAIRS, self.seed)]

    def _mean(self, scaling: Scaling, cell: Cell, draws: KeptDraws) -> Values:
        """(1, d) of a side."""
        mean: Values = bounded(scaling, self.describe(_opened(cell, draws))).mean(0, keepdims=True)
        return mean

    def _choices(self, answered: Sequence[Answered], draws: KeptDraws) -> list[PairChoice]:
        choices = []
        for own in answered:
            cells = {cell.key: cell for cell in own.page.cells()}
            opened = {key: _opened(cells[key], draws) for pair in own.votes.pairs for key in (pair.left, pair.right)}
            choices += [
                PairChoice(opened[pair.left], opened[pair.right], pair.points, (pair.left, pair.right))
                for pair in own.votes.pairs
            ]
        return choices

    @staticmethod
    def _strips(cells: Sequence[Cell], draws: KeptDraws) -> tuple[int, int]:
        """Draw each side's pictures beside one another; (width, height) of what comes out."""
        size = (0, 0)
        for cell in cells:
            images = [picture.image for picture in _opened(cell, draws)]
            width = sum(image.width for image in images) + _GAP * (len(images) - 1)
            strip = Image.new("RGB", (width, max(image.height for image in images)), "white")
            left = 0
            for image in images:
                strip.paste(image, (left, 0))
                left += image.width + _GAP
            path = draws.folder.parent / "sides" / f"{cell.key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                strip.save(part, format="PNG")
            size = strip.size
        return size


def _spread_pairs(groups: Sequence[Sequence[Cell]], random: np.random.Generator) -> Iterator[tuple[Cell, Cell]]:
    """Pairs, group by group in turn, in which each side comes about as often as every other."""
    used: dict[str, int] = {}
    met: set[frozenset[str]] = set()
    waiting = list(groups)
    while waiting:
        own = waiting.pop(0)
        order = sorted(own, key=lambda cell: (used.get(cell.key, 0), random.random()))
        pairs = ((one, two) for n, one in enumerate(order) for two in order[n + 1 :])
        fresh = next((pair for pair in pairs if frozenset((pair[0].key, pair[1].key)) not in met), None)
        if fresh is None:
            continue  # all of its pairs are taken
        met.add(frozenset((fresh[0].key, fresh[1].key)))
        for cell in fresh:
            used[cell.key] = used.get(cell.key, 0) + 1
        waiting.append(own)
        yield fresh


def _opened(cell: Cell, draws: KeptDraws) -> tuple[Shown, ...]:
    return tuple(draws.opened(part.key, part.shot) for part in cell.parts)
