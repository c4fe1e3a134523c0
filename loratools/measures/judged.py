"""The pocket's judge as measures: a defect's grade, the mean of all, the style's probability, the share of tags obeyed.

Real bases have no judge; see :mod:`loratools.measures.probe` for what tells there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from loratools.errors import MeasureError, did_you_mean
from loratools.measures.estimate import Values
from loratools.measures.last_batch import LastBatch
from loratools.measures.measure import Better, Shown

if TYPE_CHECKING:
    from loratools.pocket.judge import Reading

OTHERS = "other defects"
PLAIN = "house"  # the style that the pocket base draws when none is asked for
_CLEAR = 0.1  # a rise of a style's probability over the base's that is taken for the LoRA's style


@dataclass(frozen=True)
class JudgeMeasure:
    """One figure of what the judge reads in a picture; pictures are read once for all measures of one judge."""

    name: str
    better: Better
    readings: Callable[[Sequence[Shown]], Sequence[Reading]]
    figure: Callable[[Shown, Reading], float]

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        pairs = zip(pictures, self.readings(pictures), strict=True)
        return np.array([self.figure(picture, reading) for picture, reading in pairs], dtype=np.float64)


@dataclass(frozen=True)
class JudgeMeasures:
    """All measures of one judge, by name: each defect, ``defects`` (their mean), ``tags`` and, for a style, ``style``.

    Grades go from 0 (none) to 3 (bad), ``style`` and ``tags`` from 0 to 1.
    """

    by_name: Mapping[str, JudgeMeasure]
    style: str | None
    faults: tuple[str, ...] = ()

    def defects_but(self, symptoms: Sequence[str]) -> JudgeMeasure | None:
        """The mean grade of the defects that are no symptoms; None where all are.

        What repairs one defect must not pay with others, and in a mean over all of them it could.
        """
        every = self.by_name["defects"]
        rest = [name for name in self.faults if name not in symptoms]
        if len(rest) == len(self.faults) or not rest:
            return every if rest else None
        return JudgeMeasure(
            OTHERS, "lower", every.readings, lambda _, reading: fmean(reading.faults[name] for name in rest)
        )


def judge_measures(style: str | None = None) -> JudgeMeasures:
    """The measures of the shipped judge; ``style`` is the one that counts as kept, None for none.

    Raises:
        MeasureError: for a style that the judge does not know.
        PocketError: if the judge's weights are not in this install.
    """
    from loratools.pocket.draw import asked_tags
    from loratools.pocket.judge import Judge

    judge = Judge.load()
    layout = judge.layout
    if style is not None and style not in layout.styles:
        raise MeasureError(
            f"the judge knows no style '{style}'{did_you_mean(style, layout.styles)}; it knows "
            f"{', '.join(layout.styles)}"
        )
    read = LastBatch(lambda pictures: judge.read([picture.image for picture in pictures]))
    measures = [
        *(JudgeMeasure(name, "lower", read, _grade(name)) for name in layout.faults),
        JudgeMeasure("defects", "lower", read, lambda _, reading: fmean(reading.faults.values())),
        JudgeMeasure("tags", "higher", read, lambda picture, reading: reading.obeys(asked_tags(picture.prompt))),
    ]
    if style is not None:
        measures.append(JudgeMeasure("style", "higher", read, lambda _, reading: reading.style[style]))
    return JudgeMeasures({measure.name: measure for measure in measures}, style, tuple(layout.faults))


def style_seen(pictures: Sequence[Shown], base: Sequence[Shown]) -> str | None:
    """The style whose probability rises most from the base's pictures to these: what a LoRA or a folder teaches.

    Args:
        pictures: of the LoRA, or training pictures.
        base: the base's own; without any, the style that is likeliest in ``pictures``.
    Returns:
        None where no style is clearly more than in the base's: a character's LoRA, for instance.
    """
    from loratools.pocket.judge import shipped_judge

    own = _mean_style(shipped_judge([picture.image for picture in pictures]))
    before = _mean_style(shipped_judge([picture.image for picture in base])) if base else {PLAIN: 1.0}
    rises = {name: value - before.get(name, 0.0) for name, value in own.items()}
    best = max(rises, key=lambda name: rises[name])
    return best if best != PLAIN and rises[best] > _CLEAR else None


def _grade(fault: str) -> Callable[[Shown, Reading], float]:
    return lambda _, reading: reading.faults[fault]


def _mean_style(readings: Sequence[Reading]) -> dict[str, float]:
    return {name: fmean(reading.style[name] for reading in readings) for name in readings[0].style}
