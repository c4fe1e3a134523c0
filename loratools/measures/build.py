"""From what ``--measure`` asks for to measures: which are to fall or rise, and which must be kept meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import MeasureError
from loratools.measures.measure import Measure, Shown
from loratools.measures.own_command import CommandMeasure
from loratools.measures.own_function import function_measure
from loratools.measures.request import MeasureRequest, check_symptom

if TYPE_CHECKING:
    from loratools.base.model import Base


@dataclass(frozen=True, eq=False)
class MeasureContext:
    """What measures may be built from.

    Attributes:
        base: the base model, without any LoRA on it.
        symptoms: what is to be repaired.
        base_pictures: the base's own, of the same prompts and seeds as ``whole``.
        whole: the LoRA's, at its whole weights.
        training: the folder of its training pictures, where that is known.
    """

    base: Base
    symptoms: tuple[str, ...]
    base_pictures: Sequence[Shown]
    whole: Sequence[Shown]
    training: Path | None = None


@dataclass(frozen=True)
class MeasureSet:
    """Measures by what a search does with them.

    Attributes:
        targets: what is to become better.
        kept: what must not become worse: style, obedience, the other defects.
        by_votes: people's votes lead the search as well, or alone.
        notes: sentences for a person: how far each measure can be trusted, and what could not be measured.
    """

    targets: tuple[Measure, ...] = ()
    kept: tuple[Measure, ...] = ()
    by_votes: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class _Building:
    targets: list[Measure] = field(default_factory=list)
    kept: list[Measure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build_measures(requests: Sequence[MeasureRequest], context: MeasureContext) -> MeasureSet:
    """The measures that ``requests`` ask for.

    Raises:
        MeasureError: for an unknown symptom; a judge where there is none; a module, a command or a folder that cannot
            be used; marks that tell nothing.
    """
    for symptom in context.symptoms:
        check_symptom(symptom)
    building = _Building()
    for request in requests:
        if request.kind == "judge":
            _judge(request, context, building)
        elif request.kind == "python":
            building.targets.append(function_measure(request.source, request.better))
        elif request.kind == "command":
            building.targets.append(CommandMeasure(request.source, request.better))
    by_votes = any(request.kind == "votes" for request in requests)
    return MeasureSet(tuple(building.targets), tuple(building.kept), by_votes, tuple(building.notes))


def _judge(request: MeasureRequest, context: MeasureContext, building: _Building) -> None:
    from loratools.measures.judged import judge_measures, style_seen
    from loratools.measures.pictures import read_shown

    if context.base.name != "pocket":
        raise MeasureError(
            f"the judge reads pictures of the pocket base alone, not of {context.base.name}; name another measure, "
            "such as like=FOLDER with unlike=FOLDER"
        )
    taught = read_shown(context.training) if context.training else context.whole
    style = request.source or style_seen(taught, context.base_pictures)
    measures = judge_measures(style).by_name
    if style is None:
        building.notes.append("judge: no style of its own is seen, so none is kept; name one by judge=STYLE")
    if "style" in context.symptoms and style is None:
        raise MeasureError("the symptom is 'style', and the judge sees none; name it, as in judge=ink")
    building.targets += [measures[symptom] for symptom in context.symptoms]
    kept = [name for name in ("style", "tags", "defects") if name in measures and name not in context.symptoms]
    building.kept += [measures[name] for name in kept]
