"""What leads a search and what it moves, where that is left to ``auto``; and why, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loratools.adapter.architectures.names import is_text
from loratools.errors import TuneError
from loratools.measures.request import GRADIENT as DESCENDED
from loratools.ops.merging.terms import Term
from loratools.tune.problem.request import AUTO, GRADIENT, KINDS, TuneRequest

_ASKED = "as you asked"


@dataclass(frozen=True)
class Choice:
    """Whether the gradient leads (``gradient``), whether kinds of layers are moved (``kinds``), and why."""

    gradient: bool
    kinds: bool
    why: str
    why_parts: str


def choose_method(request: TuneRequest, terms: Sequence[Term], earlier: Term | None, *, unet: bool) -> Choice:
    """What leads the search of a request, and what it moves.

    Args:
        earlier: an earlier epoch that is blended in.
        unet: whether the base has a UNet, through which a gradient leads.
    Raises:
        TuneError: where a gradient is asked for and cannot lead.
    """
    if request.method == GRADIENT and (lacking := _lacking(request, terms, earlier, unet=unet)):
        raise TuneError(lacking)
    gradient = request.by_gradient and not _lacking(request, terms, earlier, unet=unet)
    kinds, why = request.parts == KINDS, _ASKED
    if request.parts == AUTO:
        kinds, why = True, "auto: the gradient leads, and moves many numbers for no more pictures"
        if not gradient:
            kinds, why = _has_rules(terms), "auto: without a gradient few numbers are found sooner than many"
        if kinds and not gradient:
            why = "auto: the LoRA's vector weighs kinds of layers already"
    return Choice(gradient, kinds, _why(request, earlier, gradient=gradient), why)


def _lacking(request: TuneRequest, terms: Sequence[Term], earlier: Term | None, *, unet: bool) -> str:
    """What is lacking for a gradient to lead; empty for nothing."""
    if rough := [own.text for own in request.measures if own.kind not in DESCENDED]:
        return (
            f"the measure '{rough[0]}' has no gradient that could lead the search; use `method=pictures`, which needs "
            "none"
        )
    if not unet:
        return "a gradient leads through the UNet of SD 1.x, SD 2.x and SDXL alone; leave `method` out"
    if earlier is not None:
        return "no gradient leads a search that blends in an earlier epoch; leave `method` or the epoch out"
    if not any(not is_text(name) for term in terms if term.weight > 0 for name in term.adapter):
        return "the LoRA changes text encoders alone, through which no gradient leads; leave `method` out"
    return ""


def _why(request: TuneRequest, earlier: Term | None, *, gradient: bool) -> str:
    if request.method != AUTO:
        return _ASKED
    if gradient:
        return "auto: the judge alone leads, and it has a gradient"
    other = next((own for own in request.measures if own.kind != "judge"), None)
    if other is not None and other.kind not in DESCENDED:
        return f"auto: what '{other.text}' says has no gradient"
    if other is not None:
        return (
            "auto: the gradient leads by itself for the judge alone, by which it was measured; `method=gradient` asks "
            "for it"
        )
    if earlier is not None:
        return "auto: no gradient leads through an earlier epoch that is blended in"
    return "auto: the LoRA changes text encoders alone, through which no gradient leads"


def _has_rules(terms: Sequence[Term]) -> bool:
    """Whether the tuned LoRA's vector weighs kinds of layers already, which numbers of blocks would not keep."""
    tuned = next((term for term in terms if term.weight > 0), None)
    return tuned is not None and tuned.vector is not None and bool(tuned.vector.rules)
