"""Symptom fixes: a recipe's vectors edited in place, number by number, every other byte of the file kept.

Each edit is logged beside the recipe, in ``.NAME.fixes.json``, so that the next fix of a symptom goes to its next
step. The log holds the texts that were replaced; where the recipe was edited by hand since, undo goes number by number
instead, and leaves those that are no longer what the fix wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from loratools.blocks.symptoms import ROLES, CombinedSteps, Symptom, SymptomStep, combine_steps, find_symptom
from loratools.errors import RecipeError
from loratools.ops.merging.merge_string import Span
from loratools.recipe.edit.apply_edit import Prepared, apply_edit
from loratools.recipe.edit.locate import (
    Located,
    MergeText,
    Replacement,
    locate,
    merge_text,
)
from loratools.recipe.edit.log import AppliedStep, Change, Edit, EditResult, RecipeFile, load_log
from loratools.recipe.edit.prepare import check_apart, prepare
from loratools.yamlio import Document

STEP = Decimal("0.1")


def fix(
    recipe: Path, names: Sequence[str], *, size: Decimal = STEP, merge: str | None = None, dry_run: bool = False
) -> EditResult:
    """Edit the vectors of ``recipe`` by the rules for the symptoms ``names``, each at its next step.

    Args:
        size: of one step; absolute.
        merge: the merge step whose vectors are meant, where the recipe has several.
        dry_run: write nothing.
    Raises:
        BlockError: for an unknown symptom.
        RecipeError: if the recipe cannot be read or edited, or nothing is left that the rules would change.
    """
    if size <= 0:
        raise RecipeError(f"a step of {size} moves nothing; use a positive number such as 0.1")
    chosen = [find_symptom(name) for name in dict.fromkeys(name.lower() for name in names)]
    return apply_edit(recipe, lambda file, log: _plan(file, log, chosen, size, merge), dry_run=dry_run)


def sized(recipe: Path, names: Sequence[str], size: Decimal, merge: str | None = None) -> str:
    """The recipe's text after a fix of ``size``, which may be 0; nothing is written."""
    file = RecipeFile.read(recipe)
    if size == 0:
        return file.text
    chosen = [find_symptom(name) for name in dict.fromkeys(name.lower() for name in names)]
    return _plan(file, load_log(recipe, file.digest), chosen, size, merge)[1].text


def _plan(
    file: RecipeFile, log: Sequence[Edit], chosen: Sequence[Symptom], size: Decimal, merge: str | None
) -> tuple[Edit, EditResult]:
    steps = _choose(file, log, chosen, merge)
    roles = [role for role in ROLES if any(move.role == role for _, step in steps for move in step.moves)]
    text, passes, notes = prepare(file, merge, roles)
    recipe, document = file.parsed(text)
    merged = merge_text(document, recipe, merge)
    vectors = {role: locate(document, recipe, merged, term) for role, term in merged.of_roles(roles).items()}
    check_apart(vectors, document)
    notes += [
        f"the merge has no term for {role}, so only the other vector moves" for role in roles if role not in vectors
    ]
    plan = combine_steps([(symptom, step) for symptom, (_, step) in zip(chosen, steps, strict=True)])
    numbers = [*_vector_changes(plan, size, document, vectors), *_weight_changes(plan, document, merged)]
    if not numbers:
        why = "; ".join(plan.conflicts) or "every number that this would lower is 0 already"
        raise RecipeError(f"{file.path}: nothing to change: {why}")
    made = tuple(AppliedStep(one.name, index + 1, step.say) for one, (index, step) in zip(chosen, steps, strict=True))
    edit, after = Prepared(file, text, passes, merged).edited(numbers, made, str(size))
    notes += [*plan.notes, *_against(edit.changes, log)]
    return edit, EditResult(file.path, made, edit.changes, plan.conflicts, tuple(notes), file.text, after)


def _choose(
    file: RecipeFile, log: Sequence[Edit], chosen: Sequence[Symptom], merge: str | None
) -> list[tuple[int, SymptomStep]]:
    """Each symptom's next step, judged on a text in which every vector that can be edited is ready for it."""
    text, _, _ = prepare(file, merge, tuple(ROLES), strict=False)
    recipe, document = file.parsed(text)
    merged = merge_text(document, recipe, merge)
    vectors: dict[str, Located | None] = {}
    for role, term in merged.of_roles(tuple(ROLES)).items():
        try:
            vectors[role] = locate(document, recipe, merged, term)
        except RecipeError:
            vectors[role] = None  # the step that needs it will say why
    return [_next(symptom, log, document, vectors, merged) for symptom in chosen]


def _next(
    symptom: Symptom, log: Sequence[Edit], document: Document, vectors: Mapping[str, Located | None], merged: MergeText
) -> tuple[int, SymptomStep]:
    """The symptom's next step that changes anything, and its index; a step without effect is passed over."""
    for index in range(_times(symptom, log), max(len(symptom.steps), _times(symptom, log) + 1)):
        step = symptom.step_at(index)
        if step is not None and _moves_anything(step, document, vectors, merged):
            return min(index, len(symptom.steps) - 1), step
    raise RecipeError(
        f"{symptom.name}: the rules have nothing more to try here; look at the images and the epoch "
        "instead, or walk back with `loratools blocks undo`"
    )


def _moves_anything(
    step: SymptomStep, document: Document, vectors: Mapping[str, Located | None], merged: MergeText
) -> bool:
    """Whether the step has a number to move. A vector that cannot be read counts, so that its error is reported."""
    if step.strength is not None:
        return True
    for (role, block), by in step.directions().items():
        target = vectors.get(role)
        if role in vectors and (target is None or block not in target.spans):
            return True
        if target is not None and (by > 0 or _decimal(document, target.spans[block]) > 0):
            return True
    return False


def _times(symptom: Symptom, log: Sequence[Edit]) -> int:
    """How many steps of the symptom are in effect; one that was passed over counts as made."""
    return max((made.step for edit in log for made in edit.made if made.symptom == symptom.name), default=0)


def _vector_changes(
    plan: CombinedSteps, size: Decimal, document: Document, vectors: Mapping[str, Located]
) -> Iterator[tuple[Change, Replacement]]:
    """The numbers of vectors that change."""
    for (role, block), by in plan.moves.items():
        target = vectors.get(role)
        if target is None:
            continue
        if block not in target.spans:
            raise RecipeError(
                f"the rules speak of SD1's blocks, and {target.label} is of {target.scheme.title}, which "
                f"has no {block}; edit it by hand, `loratools blocks suggest` has numbers"
            )
        rules = [rule for rule in target.rules if rule.partition("/")[0] == block]
        spans = {block: target.spans[block], **{rule: target.number(rule, document.text) for rule in rules}}
        for name, span in spans.items():  # kinds of its layers keep their distance to the block's number
            after = _moved(_decimal(document, span), by * size)
            if after is not None:
                yield Change(role, target.label, name, document.text[slice(*span)], after), Replacement(*span, after)


def _weight_changes(plan: CombinedSteps, document: Document, merged: MergeText) -> Iterator[tuple[Change, Replacement]]:
    """Every weight of the merge, where its strength changes; a term without a weight has the weight 1."""
    if plan.strength == 1:
        return
    for index, term in enumerate(merged.terms):
        span = term.weight
        written = "1" if span is None else document.text[slice(*span)]
        before = Decimal(1) if span is None else _decimal(document, span)
        after = _short(before * Decimal(str(plan.strength)))
        change = Change("strength", f"weight of {term.spec.ref}", str(index + 1), written, after)
        if span is not None:
            yield change, Replacement(*span, after)
        elif term.name_end is None:
            raise RecipeError(
                f"{document.source}: the tag of {term.spec.ref} has one strength for the text encoder and one for the "
                f"network; write it as {term.spec.text()}, then its weight can be edited"
            )
        else:
            yield change, Replacement(term.name_end, term.name_end, f":{after}")


def _decimal(document: Document, span: Span) -> Decimal:
    """The number at ``span``.

    Raises:
        RecipeError: if it is written in another way than by decimal digits.
    """
    written = document.text[slice(*span)]
    try:
        return Decimal(written)
    except InvalidOperation as error:
        line = document.text.count("\n", 0, span[0]) + 1
        raise RecipeError(
            f"{document.source}, line {line}: '{written}' is not written by decimal digits; write it as 0.5 or 1, then "
            "it can be edited"
        ) from error


def _moved(before: Decimal, by: Decimal) -> str | None:
    """A number after a step; never below 0, and None if that leaves it as it is."""
    after = before + by if by > 0 else min(before, max(before + by, Decimal(0)))
    return None if after == before else format(after, "f")


def _short(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _against(changes: Sequence[Change], log: Sequence[Edit]) -> list[str]:
    """Earlier fixes of other symptoms that this one takes back in part."""
    reversed_by: dict[str, list[str]] = {}
    for edit in log:
        for old in edit.changes:
            for new in changes:
                same = (old.role, old.block) == (new.role, new.block) and new.role != "strength"
                if same and _rises(old) != _rises(new):
                    names = " and ".join(made.symptom for made in edit.made)
                    reversed_by.setdefault(f"{names} had {'raised' if _rises(old) else 'lowered'}", []).append(
                        f"{new.role} {new.block}"
                    )
    return [
        f"this goes against an earlier fix: {what} {', '.join(dict.fromkeys(where))}"
        for what, where in reversed_by.items()
    ]


def _rises(change: Change) -> bool:
    return Decimal(change.after) > Decimal(change.before)
