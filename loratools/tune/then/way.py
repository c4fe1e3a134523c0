"""What every way is given, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratools.measures.measure import Shown
from loratools.ops.merging.terms import Term
from loratools.preview.plan.vector_stacks import vector_stacks
from loratools.tune.problem.then import ThenEffort
from loratools.tune.then.grading import Graded
from loratools.tune.then.material import Material
from loratools.tune.then.workplace import Workplace


@dataclass(frozen=True)
class Made:
    """LoRAs that a way made, to be compared; none where it could not make any.

    Attributes:
        says: how it came about, or why nothing did: the first half of a sentence for a person.
        facts: for ``tune.json``.
    """

    terms: tuple[Term, ...]
    says: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Turn:
    """One way's turn.

    Attributes:
        terms: the answer so far.
        number: of the way, from 1, and ``answers`` of that answer, from 1.
        owner: of the files that are written.
    """

    workplace: Workplace
    way: str
    terms: tuple[Term, ...]
    number: int
    answers: int
    material: Material
    owner: str

    @property
    def name(self) -> str:
        """Of its folder and its pictures."""
        return f"{self.number}-{self.way}"

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.workplace.folder.path / "then" / self.name

    @property
    def effort(self) -> ThenEffort:
        """How much is drawn and trained."""
        return ThenEffort.of(self.workplace.request.effort)

    @property
    def digest(self) -> str:
        """Of the answer so far."""
        return vector_stacks(self.terms, [{}])[0].digest

    def candidates(self, enough: Callable[[Graded], bool]) -> Graded:
        """The answer's own pictures, graded, drawn in rounds until there are enough good ones or no round is left; two
        ways that follow the same answer share them.

        Raises:
            Stopped: if a stop is wanted meanwhile.
        """
        place, effort = self.workplace, self.effort
        place.clock.begin(self.way)
        shown: list[Shown] = []
        for turn in range(effort.rounds):
            shots = self.material.shots(effort.candidates, place.shots, self.answers, turn)
            shown += place.pictures(f"candidates-{self.answers}-{turn + 1}", self.terms, shots, fine=True)
            graded = Graded.of(shown, place.values(shown), place.goals)
            if graded.is_sound or enough(graded):
                break
        return graded
