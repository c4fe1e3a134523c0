"""The pocket's judge as measures: a defect's grade, the mean of all, the style's probability, the share of tags obeyed.

Real bases have no judge; see :mod:`loratools.measures.probe` for what tells there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from loratools.errors import MeasureError, did_you_mean
from loratools.measures.estimate import Values
from loratools.measures.last_batch import LastBatch
from loratools.measures.measure import Better, Shown
from loratools.measures.smooth import SmoothBatch

if TYPE_CHECKING:
    from torch import Tensor

    from loratools.pocket.judge import Judge, Reading

OTHERS = "other defects"
PLAIN = "house"  # the style that the pocket base draws when none is asked for
_WORST = 3.0  # the judge's greatest grade
_BEYOND = 0.05  # of a change of a grade that lies outside of 0 to 3, which a gradient still sees
_CLEAR = 0.1  # a rise of a style's probability over the base's that is taken for the LoRA's style


Answers = Mapping[str, "Tensor"]  # the judge's logits by question, each (n, size)


@dataclass(frozen=True)
class JudgeMeasure:
    """One figure of what the judge reads in a picture; pictures are read once for all measures of one judge.

    Attributes:
        figure: of one picture, from its reading; ``smooth_figure`` of several, (n,), from the logits and the prompts.
        exact: False, since obeyed tags are counted, and their chances differentiated.
    """

    name: str
    better: Better
    look: JudgeLook
    figure: Callable[[Shown, Reading], float]
    smooth_figure: Callable[[Answers, Sequence[str]], Tensor]
    exact: bool = field(default=False, init=False)

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        pairs = zip(pictures, self.look.readings(pictures), strict=True)
        return np.array([self.figure(picture, reading) for picture, reading in pairs], dtype=np.float64)

    def smooth(self, drawn: SmoothBatch) -> Tensor:
        """As :meth:`loratools.measures.smooth.SmoothMeasure.smooth`."""
        return self.smooth_figure(drawn.read(self.look.answers), drawn.prompts)


class JudgeLook:
    """What a judge sees in pictures, for all measures that ask."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.readings = LastBatch(lambda pictures: judge.read([picture.image for picture in pictures]))

    def answers(self, drawn: SmoothBatch) -> Answers:
        """The logits of pictures that carry gradients."""
        return self._judge.logits(drawn.images)


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
        return _grades(OTHERS, rest, every.look)


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
    look = JudgeLook(judge)
    measures = [*(_grades(name, [name], look) for name in layout.faults), _grades("defects", layout.faults, look)]

    def likeliest(answers: Answers, prompts: Sequence[str]) -> Tensor:
        """The mean probability of the tags that were asked for; 1 where none was."""
        import torch

        chances = {name: answers[f"tag_{name}"].softmax(1) for name in layout.attributes}
        rows = []
        for row, prompt in enumerate(prompts):
            own = [
                chances[name][row, layout.attributes[name].index(tag)]
                for name, tag in asked_tags(prompt).items()
                if tag in layout.attributes.get(name, ())
            ]
            rows.append(torch.stack(own).mean() if own else answers["style"].new_ones(()))
        return torch.stack(rows)

    measures.append(
        JudgeMeasure(
            "tags", "higher", look, lambda picture, reading: reading.obeys(asked_tags(picture.prompt)), likeliest
        )
    )
    if style is not None:
        place = layout.styles.index(style)
        measures.append(
            JudgeMeasure(
                "style",
                "higher",
                look,
                lambda _, reading: reading.style[style],
                lambda answers, _: answers["style"].softmax(1)[:, place],
            )
        )
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


def _grades(name: str, faults: Sequence[str], look: JudgeLook) -> JudgeMeasure:
    """The mean grade of some defects."""

    def smooth(answers: Answers, _: Sequence[str]) -> Tensor:
        import torch

        own = torch.stack([answers[f"fault_{fault}"][:, 0] for fault in faults])
        inside = own.clamp(0, _WORST)
        return (inside + _BEYOND * (own - inside)).mean(0)

    return JudgeMeasure(
        name, "lower", look, lambda _, reading: fmean(reading.faults[fault] for fault in faults), smooth
    )


def _mean_style(readings: Sequence[Reading]) -> dict[str, float]:
    return {name: fmean(reading.style[name] for reading in readings) for name in readings[0].style}
