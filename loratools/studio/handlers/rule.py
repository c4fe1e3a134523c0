"""A symptom's rule on a stack that stands in no recipe: the numbers that the page's sliders go to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loratools.blocks.symptoms import ROLES, CombinedSteps, combine_steps, find_symptom
from loratools.studio.api.stacks import Stack, Started, SymptomRequest, Term
from loratools.studio.api.words import problem, quoted
from loratools.studio.context import Studio
from loratools.studio.jobs.commands import command_text
from loratools.studio.stacks import merge_string, weights_of

STEP = 0.1  # as `blocks fix` takes
_DIGITS = 4
Weights = Mapping[str, float]


def apply_rule(studio: Studio, body: SymptomRequest) -> Started:
    """The next step of the rule for ``body.symptom`` that moves anything, made on ``body.stack``.

    As in a recipe, GP1 is the first term with a positive weight and GP2 the first with a negative one; no number goes
    below 0.

    Raises:
        StudioError: without a stack, for blocks that the rules do not speak of, or when they have nothing more to try.
    """
    stack = body.stack or Stack(terms=[], base="pocket")
    if not stack.terms:
        raise problem("stack.empty")
    symptom, size = find_symptom(body.symptom), STEP if body.options.step is None else body.options.step
    if size <= 0:
        raise problem("rule.step", size=f"{size:g}")
    places = _places(stack.terms)
    weights = {role: weights_of(stack.terms[at], studio.roots) for role, at in places.items()}
    for turn in range(body.options.turn, max(len(symptom.steps), body.options.turn + 1)):
        step = symptom.step_at(turn)
        if step is None:
            break
        plan = combine_steps([(symptom, step)])
        moved = {role: _moved(role, own, plan, size) for role, own in weights.items()}
        if moved != weights or plan.strength != 1:
            return _answer(studio, _changed(stack, places, moved, plan.strength), step.say, turn + 1)
    raise problem("rule.exhausted")


def _places(terms: Sequence[Term]) -> dict[str, int]:
    """Which term each role's vector is that of; a role without a term is left out."""
    found: dict[str, int] = {}
    for role, sign in ROLES.items():
        at = next((n for n, term in enumerate(terms) if term.weight * sign > 0), None)
        if at is not None:
            found[role] = at
    return found


def _moved(role: str, weights: Weights, plan: CombinedSteps, size: float) -> dict[str, float]:
    """A term's weights after the moves of its role."""
    after = dict(weights)
    for (whose, block), by in plan.moves.items():
        if whose != role:
            continue
        if block not in after:
            raise problem("rule.block", block=block)
        for name in [block, *(own for own in after if own.startswith(f"{block}/"))]:  # kinds of layers go with it
            after[name] = round(max(min(after[name], 0.0), after[name] + by * size), _DIGITS)
    return after


def _changed(stack: Stack, places: Mapping[str, int], moved: Mapping[str, Weights], strength: float) -> Stack:
    vectors = {places[role]: own for role, own in moved.items()}
    terms = [
        term.model_copy(
            update={
                "weight": round(term.weight * strength, _DIGITS),
                **({"vector": dict(vectors[at])} if at in vectors else {}),
            }
        )
        for at, term in enumerate(stack.terms)
    ]
    return stack.model_copy(update={"terms": terms})


def _answer(studio: Studio, stack: Stack, note: str, turn: int) -> Started:
    root = studio.roots.roots[0].path
    command = command_text(("merge", merge_string(stack, studio.roots), "-o", "repaired.safetensors"), root)
    return Started(command=command, step="", job=None, says=[quoted(note)], stack=stack, turn=turn)
