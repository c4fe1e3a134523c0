"""The result of a tune: the vector, its figures beside those of plain strength, and where its files are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.blocks.vector import BlockVector
from loratools.ops.merging.terms import Term
from loratools.tune.arrays import Array
from loratools.tune.descent.steps import Step
from loratools.tune.history import History
from loratools.tune.problem.goals import Goals
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.request import GRADIENT, PICTURES, TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.report.columns import BASE, BEFORE, GUIDE, STRENGTH, TUNED, HeldOut, estimate_json
from loratools.tune.report.verdict import Verdict
from loratools.tune.report.way import WayResult

FILE = "tune.json"


@dataclass(frozen=True, eq=False)
class TuneResult:
    """A finished tune.

    Attributes:
        folder: with ``tuned.safetensors``, ``tune.json``, ``sheet.png`` and ``frontier.png``.
        point: the search's answer, in the order of ``space``; ``found`` is its own best, which may be another.
        strength: the best plain strength.
        vector: the answer as a block vector, of the shortest scheme with all of the LoRA's blocks.
        held: the columns of the report.
        effects: what lowering each block by a half does to the cost and to each constraint: mean and deviation.
        finished: whether the search ran to its end; it did not where a budget or a person stopped it.
        notes: sentences for a person.
        searched: the shots of the search.
        fresh: pictures by which the answer was chosen, which the model was not fitted to.
        steps: of the descent, where the gradient led the search.
        then: what each way that followed the search came to.
        waiting: what a person is asked next, where answers lead the search in rounds and some are still to come.
    """

    folder: Path
    request: TuneRequest
    space: Space
    goals: Goals
    history: History
    held: HeldOut
    verdict: Verdict
    point: Array
    found: Array
    strength: float
    vector: BlockVector
    effects: Mapping[str, Mapping[str, tuple[float, float]]]
    finished: bool
    notes: tuple[str, ...]
    seconds: float
    fresh: int = 0
    steps: tuple[Step, ...] = ()
    searched: tuple[Shot, ...] = ()
    waiting: str = ""
    then: tuple[WayResult, ...] = ()

    @property
    def answer(self) -> str:
        """The column of what is written: the last way that helped, else the search's answer."""
        return next((way.column for way in reversed(self.then) if way.helped), self.verdict.answer)

    @property
    def terms(self) -> list[Term]:
        """What is written, to be merged."""
        own = next((way.terms for way in reversed(self.then) if way.helped), None)
        return self.space.terms_at(self.point) if own is None else list(own)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the search's pictures."""
        return self.request.seeds or tuple(dict.fromkeys(shot.seed for shot in self.searched))

    @property
    def pictures(self) -> int:
        """How many the search drew, before the report."""
        return self.history.pictures + self.fresh + len(self.steps) * self.request.effort.descent_shots

    @property
    def file(self) -> Path:
        """The merged LoRA."""
        return self.folder / "tuned.safetensors"

    @property
    def sheet(self) -> Path:
        """The pictures of the report, side by side."""
        return self.folder / "sheet.png"

    @property
    def frontier(self) -> Path:
        """The plot of the defect against the style."""
        return self.folder / "frontier.png"

    @property
    def amount(self) -> float | None:
        """What the subtracted LoRA's weight is multiplied by, where that was searched."""
        return self.space.amount(self.point)

    @property
    def blend(self) -> dict[str, float] | None:
        """How much of each block is the earlier epoch's, where that was searched."""
        return self.space.blend(self.point) if self.space.earlier is not None else None

    def json(self) -> dict[str, Any]:
        """What ``tune.json`` holds."""
        held, shots = self.held, self.held.shots
        return {
            "version": 1,
            "vector": self.space.shortest(self.point),
            "amount": self.amount,
            "earlier": self.blend,
            "answer": self.answer,
            "symptoms": list(self.request.symptoms),
            "keep": self.request.keep,
            "measures": {each.name: each.better for each in self.goals.measures},
            "base": held.json(BASE),
            "before": held.json(BEFORE),
            "guide": held.json(GUIDE) if held.has(GUIDE) else None,
            "strength": held.json(STRENGTH),
            "after": held.json(self.answer),
            "found": {"vector": self.space.shortest(self.found), **held.json(TUNED)},
            "strength_weight": self.strength,
            "change": self._changes(),
            "lost": list(self.verdict.lost),
            "then": [way.json(held) for way in self.then],
            "effects": {
                block: {name: [_short(mean), _short(deviation)] for name, (mean, deviation) in own.items()}
                for block, own in self.effects.items()
            },
            "search": {
                "pictures": self.pictures,
                "method": GRADIENT if self.steps else PICTURES,
                "generations": len(self.history),
                "steps": len(self.steps),
                "finished": self.finished,
                "seeds": list(self.seeds),
            },
            "held_out": {
                "prompts": list(dict.fromkeys(shot.prompt for shot in shots)),
                "seeds": list(dict.fromkeys(shot.seed for shot in shots)),
                "pictures": len(shots),
            },
            "file": self.file.name,
            "sheet": self.sheet.name,
            "frontier": self.frontier.name,
            "seconds": round(self.seconds, 1),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """The result for a person, in a few lines."""
        before, after = self.held.estimates(BEFORE), self.held.estimates(self.answer)
        base = self.held.estimates(BASE)
        width = max(len(name) for name in before)
        shots = self.held.shots
        prompts, seeds = ({getattr(shot, what) for shot in shots} for what in ("prompt", "seed"))
        lines = [
            f"on {len(shots)} pictures that the search never saw ({len(prompts)} prompts x {len(seeds)} seeds):",
            *(
                f"  {name:<{width}}  {before[name].text()} -> {after[name].text()}  (base {base[name].text()})"
                for name in before
            ),
            f"vector: {self.vector.text()}",
        ]
        if self.answer != self.verdict.answer:
            lines[-1] += f", and then trained on: the answer is {self.answer}"
        if self.amount is not None:
            lines.append(f"amount of the subtracted LoRA: x {self.amount:g}")
        stopped = [] if self.finished else ["the search was stopped before its end; the same command goes on with it"]
        if self.blend is not None and self.space.earlier is not None:
            taken = ", ".join(f"{block} {part:g}" for block, part in self.blend.items() if part) or "nothing"
            lines.append(f"of {self.space.earlier.label}: {taken}")
        return "\n".join(
            [*lines, *(f"note: {note}" for note in (*stopped, *self.notes)), *([self.waiting] if self.waiting else [])]
        )

    def _changes(self) -> dict[str, Any]:
        """The answer's differences to the whole LoRA and to plain strength, picture by picture."""
        answer = self.answer
        return {
            measure: {
                "from_before": estimate_json(self.held.difference(answer, BEFORE, measure)),
                "from_strength": estimate_json(self.held.difference(answer, STRENGTH, measure)),
            }
            for measure in self.held.column(BEFORE).values
        }


def _short(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
