"""The guide's rule for a symptom, to compare with: what `blocks fix` would do to the vector in three steps."""

from __future__ import annotations

from collections.abc import Sequence

from loratools.blocks.symptoms import combine_steps, find_symptom
from loratools.tune.arrays import Array
from loratools.tune.problem.space import Space

TIMES = 3
_COLUMNS = 4  # of every report: the base, the whole LoRA, plain strength, and what was tuned
_STEP = 0.1


def guide_point(space: Space, symptoms: Sequence[str]) -> Array | None:
    """The point after :data:`TIMES` steps of the symptoms' rules; None where they move nothing that the space has."""
    point, moved = space.start.copy(), False
    chosen = [find_symptom(symptom) for symptom in symptoms]
    for index in range(TIMES):
        steps = [(symptom, step) for symptom in chosen if (step := symptom.step_at(index)) is not None]
        combined = combine_steps(steps)
        for number, dimension in enumerate(space.dimensions):
            by = combined.moves.get(("GP1", dimension.block), 0)
            point[number] = max(0.0, round(float(point[number]) + _STEP * by, 10)) if by else point[number]
            moved = moved or by != 0
        if combined.strength != 1:
            point, moved = point * combined.strength, True
    return point if moved else None


def column_count(space: Space, symptoms: Sequence[str]) -> int:
    """How many columns a report has: the guide's rule is one where it moves something."""
    return _COLUMNS + (guide_point(space, symptoms) is not None)
