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
from loratools.measures.request import MARKED, MeasureRequest, check_symptom

if TYPE_CHECKING:
    from loratools.base.model import Base, LoadedBase
    from loratools.measures.probe.encoded import PictureEncoder
    from loratools.measures.probe.feature_measure import Describe
    from loratools.measures.probe.marked import Marked
    from loratools.measures.probe.marks import MarksMeasures, SecondProbe
    from loratools.measures.probe.pairs import PairChoice, PairMeasures


@dataclass(frozen=True, eq=False)
class MeasureContext:
    """What measures may be built from.

    Attributes:
        base: the base model, without any LoRA on it.
        symptoms: what is to be repaired.
        base_pictures: the base's own, of the same prompts and seeds as ``whole``.
        whole: the LoRA's, at its whole weights.
        training: its training pictures, or the folder that holds them, where that is known.
        marked: pictures that a person marked when the tune asked for it; None where it asked for nothing.
        choices: between pictures, which a person made when the tune asked for them; None where it asked for none.
        keeps: style and obedience are to be kept, by what the base sees where no judge is asked for. An order of epochs
            leaves that away: obedience by the base falls with style, so that it compares vectors and not epochs.
    """

    base: LoadedBase
    symptoms: tuple[str, ...]
    base_pictures: Sequence[Shown]
    whole: Sequence[Shown]
    training: Path | Sequence[Shown] | None = None
    marked: Marked | None = None
    choices: Sequence[PairChoice] | None = None
    keeps: bool = True

    @property
    def taught(self) -> Sequence[Shown]:
        """The training pictures; where they are not known, the whole LoRA's.

        Raises:
            FileError, DatasetError: for a folder that cannot be read.
        """
        from loratools.measures.pictures import read_shown

        own = read_shown(self.training) if isinstance(self.training, Path) else self.training
        return own or self.whole


@dataclass(frozen=True)
class MeasureSet:
    """Measures by what a search does with them.

    Attributes:
        targets: what is to become better.
        kept: what must not become worse: style, obedience, the other defects.
        checks: lead nothing; a gain over plain strength has to show in each of them too, by more than an error.
        by_votes: people's votes lead the search as well, or alone.
        notes: sentences for a person: how far each measure can be trusted, and what could not be measured.
    """

    targets: tuple[Measure, ...] = ()
    kept: tuple[Measure, ...] = ()
    checks: tuple[Measure, ...] = ()
    by_votes: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class _Building:
    targets: list[Measure] = field(default_factory=list)
    kept: list[Measure] = field(default_factory=list)
    checks: list[Measure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, led: MarksMeasures | PairMeasures, second: SecondProbe) -> None:
        """What a person said, with its guard, and the probe that has to agree."""
        self.targets.append(led.measure)
        if not any(own.name == led.guard.name for own in self.kept):
            self.kept.append(led.guard)
        if second.measure is not None:
            self.checks.append(second.measure)
        self.notes += [*led.notes, second.note]


def build_measures(requests: Sequence[MeasureRequest], context: MeasureContext) -> MeasureSet:
    """The measures that ``requests`` ask for.

    Where no judge is asked for, the base itself says what is kept of style and obedience; without any request these are
    all that there is. ``like``, ``unlike`` and ``marks`` are one measure together.

    Raises:
        MeasureError: for an unknown symptom; a judge where there is none; a module, a command or a folder that cannot
            be used; marks that tell nothing; two measures of one name.
        FileError, DatasetError, FormatError: for pictures or votes that cannot be read.
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
    kinds = {request.kind for request in requests}
    kept = context.keeps and "judge" not in kinds
    if kept and unet_base(context.base) is None:
        kept = False
        building.notes.append(
            f"style and obedience: {context.base.name} has no UNet that sees them, so that nothing keeps them but what "
            "you measure"
        )
    if kept or kinds & MARKED or context.choices is not None:
        check_base(requests, context.base)
        _by_base(requests, context, building, kept=kept)
    _check_names([*building.targets, *building.kept, *building.checks])
    return MeasureSet(
        tuple(building.targets), tuple(building.kept), tuple(building.checks), "votes" in kinds, tuple(building.notes)
    )


def _check_names(measures: Sequence[Measure]) -> None:
    """Raise MeasureError where two measures have one name, by which all figures are kept."""
    names = [measure.name for measure in measures]
    for name in names:
        if names.count(name) > 1:
            raise MeasureError(
                f"two measures are called '{name}'; rename the function or the program, or leave one of them out"
            )


def check_measures(requests: Sequence[MeasureRequest], base: str) -> None:
    """Raise for measures that :func:`build_measures` would refuse, as far as that shows before anything is drawn.

    Args:
        base: its name.
    Raises:
        MeasureError: for a judge where there is none, a function or a program that is not there, or too few marks.
        FileError, DatasetError, FormatError: for marked pictures or votes that cannot be read.
    """
    kinds = {request.kind for request in requests}
    for request in requests:
        if request.kind == "python":
            function_measure(request.source, request.better)
        elif request.kind == "command":
            CommandMeasure(request.source, request.better).check()
    if "judge" in kinds:
        _check_judge(base)
    if kinds & MARKED:
        from loratools.measures.probe.marked import read_marked

        read_marked(requests)


def check_base(requests: Sequence[MeasureRequest], base: LoadedBase) -> None:
    """Raise MeasureError for what is measured by a base's UNet, where the base has none."""
    seen = [request.kind for request in requests if request.kind in {*MARKED, "votes"}]
    if seen and unet_base(base) is None:
        raise MeasureError(
            f"'{seen[0]}' reads pictures by the base's UNet, and {base.name} has none; name python=FILE.py:FUNCTION or "
            "command=COMMAND"
        )


def unet_base(base: LoadedBase) -> Base | None:
    """``base`` where it has a UNet, which sees pictures too; else None."""
    from loratools.base.model import Base

    return base if isinstance(base, Base) else None


def _check_judge(base: str) -> None:
    if base != "pocket":
        raise MeasureError(
            f"the judge reads pictures of the pocket base alone, not of {base}; name another measure, such as "
            "like=FOLDER with unlike=FOLDER (SD 1, SD 2, SDXL) or python=FILE.py:FUNCTION"
        )


def _judge(request: MeasureRequest, context: MeasureContext, building: _Building) -> None:
    from loratools.measures.judged import judge_measures, style_seen

    _check_judge(context.base.name)
    style = request.source or style_seen(context.taught, context.base_pictures)
    judge = judge_measures(style)
    measures = judge.by_name
    if style is None:
        building.notes.append("judge: no style of its own is seen, so none is kept; name one by judge=STYLE")
    if "style" in context.symptoms and style is None:
        raise MeasureError("the symptom is 'style', and the judge sees none; name it, as in judge=ink")
    building.targets += [measures[symptom] for symptom in context.symptoms]
    kept = [name for name in ("style", "tags") if name in measures and name not in context.symptoms]
    others = judge.defects_but(context.symptoms)
    building.kept += [*(measures[name] for name in kept), *([] if others is None else [others])]


def _by_base(requests: Sequence[MeasureRequest], context: MeasureContext, building: _Building, *, kept: bool) -> None:
    """What the base's own UNet sees: marks with their guard, and with ``kept`` style and obedience."""
    from loratools.measures.probe.encoded import PictureEncoder
    from loratools.measures.probe.marked import Marked, read_marked
    from loratools.measures.probe.marks import marks_measures, second_probe
    from loratools.measures.probe.pairs import pair_measures, second_pair_probe
    from loratools.measures.probe.unet_features import NEAR, UNetFeatures

    seeing = unet_base(context.base)
    if seeing is None:
        return
    encode = PictureEncoder(seeing)
    describe = UNetFeatures(seeing, encode=encode)
    outer = UNetFeatures(seeing, NEAR, encode, outer=True)
    base, whole, marked = context.base_pictures, context.whole, Marked()
    if any(request.kind in MARKED for request in requests):
        marked = read_marked(requests, context.marked)
        building.add(marks_measures(marked, describe, base), second_probe(marked, outer, base))
    if context.choices is not None:
        second = second_pair_probe(context.choices, outer, base, whole)
        building.add(pair_measures(context.choices, describe, base, whole), second)
    if kept:
        _keep_style(context, describe, marked, building)
        _keep_obedience(seeing, context, encode, building)


def _keep_style(context: MeasureContext, describe: Describe, marked: Marked, building: _Building) -> None:
    from loratools.measures.probe.marked import FEWEST
    from loratools.measures.probe.style import marked_style, style_measure

    seen = style_measure(describe, context.taught, context.base_pictures, context.whole, marked.good)
    building.notes.append(seen.note)
    if seen.measure is None and context.marked is not None:
        if min(len(marked.good), len(marked.lost)) >= FEWEST:
            seen = marked_style(describe, marked.good, marked.lost)
            building.notes.append(seen.note)
        else:
            building.notes.append(
                f"style: it can be kept by your marks; give 3 stars to {FEWEST} or more sound pictures that have lost "
                "it, and 4 or 5 to sound ones that have it"
            )
    if not context.training:
        building.notes.append(
            "style: the training pictures are not known, so that all that the LoRA shows counts as its style, its "
            "defect too; name their folder"
        )
    elif seen.measure is None and context.choices is not None:
        building.notes.append("style: nothing but your choices keeps it; take the side that is better all in all")
    if "style" not in context.symptoms:
        building.kept += [] if seen.measure is None else [seen.measure]
    elif seen.measure is None:
        raise MeasureError(f"the symptom is 'style', and none is seen ({seen.note.removeprefix('style: ')})")
    else:
        building.targets.append(seen.measure)


def _keep_obedience(base: Base, context: MeasureContext, encode: PictureEncoder, building: _Building) -> None:
    from loratools.measures.probe.obedience import Obedience

    if any(picture.prompt.strip() for picture in context.base_pictures):
        building.kept.append(Obedience(base, encode))
    else:
        building.notes.append("obedience: the prompts are empty, so that there is nothing to obey")
