"""Plans for how often each class of a dataset folder is shown, by guide 004's rules or guide 003's steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from loratools.dataset.balance.classes import ImageClass, asymmetric_tags, read_classes
from loratools.dataset.balance.repeats import ClassKind, RepeatPlan, best_plans
from loratools.dataset.tags.store import DatasetFolder
from loratools.errors import OptionError
from loratools.progress import OnProgress

Rule = Literal["guide-004", "guide-003"]
MIRRORED, PLAIN = 2.0, 4.0  # factors of guide 004's sum
STEPS, EPOCHS = 3000, 10  # guide 003's
_SWEET: Final = (2300, 3000)  # steps at which guide 003 found its best epochs
_SHOWN = 5


@dataclass(frozen=True)
class BalanceRequest:
    """How a folder is to be balanced.

    Attributes:
        mirrored: whether training shows mirrored copies too.
        factor: of guide 004's sum; by ``mirrored`` if left out.
        steps, epochs: that guide 003's way aims at.
        kinds: what classes are, instead of what their names say.
        others: how often the rest is shown: ``fewest`` repeats, or ``even``: each picture as often as a main one, as
            far as they stay below the faces.
        filled: whether groups of variants are filled up with copies, which needs a folder of its own.
    """

    rule: Rule = "guide-004"
    mirrored: bool = False
    factor: float | None = None
    steps: int = STEPS
    epochs: int = EPOCHS
    kinds: Mapping[str, ClassKind] = field(default_factory=dict)
    filled: bool = True
    others: Literal["fewest", "even"] = "fewest"


@dataclass(frozen=True)
class Balance:
    """The classes of a folder, and plans for their repeats, best first."""

    classes: tuple[ImageClass, ...]
    plans: tuple[RepeatPlan, ...]
    request: BalanceRequest
    warnings: tuple[str, ...]

    @property
    def best(self) -> RepeatPlan:
        """The plan that is written."""
        return self.plans[0]

    def repeats(self) -> dict[str, int]:
        """Repeats of each class by the best plan."""
        return {each.word: times for each, times in zip(self.classes, self.best.repeats, strict=True)}

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        words = [each.word for each in self.classes]
        return {
            "classes": {
                each.word: {
                    "kind": each.kind,
                    "pictures": len(each.pictures),
                    "groups": len(each.groups),
                    "grey": each.grey,
                    "repeats": each.repeats,
                }
                for each in self.classes
            },
            "plans": [
                {
                    "repeats": dict(zip(words, plan.repeats, strict=True)),
                    "images_x_repeats": plan.count,
                    "sum": plan.total,
                    "main_to_faces": plan.ratio,
                    "broken": list(plan.broken),
                }
                for plan in self.plans
            ],
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """For a person."""
        lines = [f"{each.word}: {self._size(each)}" for each in self.classes]
        for number, plan in enumerate(self.plans, 1):
            repeats = ", ".join(
                f"{each.word} x {times}" for each, times in zip(self.classes, plan.repeats, strict=True)
            )
            lines.append(f"plan {number}: {repeats} ({self._sum(plan)})")
            lines += [f"  but {sentence}" for sentence in plan.broken]
        return "\n".join(lines)

    def _size(self, each: ImageClass) -> str:
        grey = f", {each.grey} without colour" if each.grey else ""
        if each.kind == "variants":
            return f"{len(each.pictures)} variants in {len(each.groups)} groups of up to {each.group_size}{grey}"
        return f"{len(each.pictures)} pictures ({each.kind}){grey}"

    def _sum(self, plan: RepeatPlan) -> str:
        if self.request.rule == "guide-003":
            return f"{plan.count} an epoch, {plan.total:g} steps in {self.request.epochs} epochs"
        ratio = f"main to faces {plan.ratio:.1f} to 1, " if plan.ratio is not None else ""
        return f"{ratio}{plan.count} an epoch, guide 004's sum {plan.total:g}"


def balance(
    folder: DatasetFolder, request: BalanceRequest = BalanceRequest(), on_progress: OnProgress | None = None
) -> Balance:
    """The best plan for a folder and the next two.

    Raises:
        DatasetError: if it holds no pictures.
        OptionError: for a request that makes no sense.
    """
    _check(request)
    classes = read_classes(folder, request.kinds, on_progress)
    if request.rule == "guide-003":
        plans = _by_steps(classes, request)
    else:
        factor = request.factor or (MIRRORED if request.mirrored else PLAIN)
        even = request.others == "even"
        asked = [each.repeat_class(filled=request.filled, even=even) for each in classes]
        plans = tuple(best_plans(asked, factor))
    return Balance(classes, plans, request, tuple(_warnings(classes, request)))


def _by_steps(classes: tuple[ImageClass, ...], request: BalanceRequest) -> tuple[RepeatPlan, ...]:
    """Guide 003: the same repeats for all, steps over (epochs x pictures), rounded up; then one less and one more."""
    count = sum(each.repeat_class(filled=request.filled).images for each in classes)
    best = math.ceil(request.steps / (request.epochs * count))
    plans = []
    for repeats in dict.fromkeys((best, max(best - 1, 1), best + 1)):
        steps = count * repeats * request.epochs
        broken = (
            ()
            if _SWEET[0] <= steps <= max(_SWEET[1], request.steps) + count * request.epochs
            else (f"{steps} steps are outside of {_SWEET[0]} to {_SWEET[1]}, where guide 003 found its best epochs",)
        )
        plans.append(RepeatPlan((repeats,) * len(classes), count * repeats, steps, None, broken))
    return tuple(plans)


def _warnings(classes: tuple[ImageClass, ...], request: BalanceRequest) -> list[str]:
    warnings = []
    asymmetric = asymmetric_tags(classes)
    if request.mirrored and asymmetric:
        shown = ", ".join(f"{name} ({count})" for name, count in list(asymmetric.items())[:_SHOWN])
        warnings.append(
            f"pictures have tags that a mirrored copy makes untrue: {shown}; train without mirrored copies (factor 4), "
            "or take these pictures out"
        )
    uneven = [each.word for each in classes if each.uneven]
    if uneven and not request.filled:
        warnings.append(
            f"{', '.join(uneven)}: groups of variants are of different sizes, so that some scenes are shown more "
            "often; `out=FOLDER` fills them up with copies"
        )
    return warnings


def _check(request: BalanceRequest) -> None:
    if request.rule not in ("guide-004", "guide-003"):
        raise OptionError(f"`rule={request.rule}`: write guide-004 or guide-003")
    if request.others not in ("fewest", "even"):
        raise OptionError(f"`others={request.others}`: write fewest or even")
    for name in ("steps", "epochs"):
        if getattr(request, name) < 1:
            raise OptionError(f"`{name}={getattr(request, name)}`: write a whole number from 1")
    if request.factor is not None and request.factor <= 0:
        raise OptionError(f"`factor={request.factor:g}`: write a number above 0; guide 004 has 2 and 4")
