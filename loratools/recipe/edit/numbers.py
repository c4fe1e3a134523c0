"""Numbers that a search found, written into a recipe's vector and weight as a fix writes its own: logged, undoable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from loratools.blocks.elements import is_rule
from loratools.blocks.symptoms import ROLES
from loratools.errors import RecipeError
from loratools.recipe.edit.apply_edit import Prepared, apply_edit
from loratools.recipe.edit.locate import Located, MergeText, Replacement, locate, merge_text
from loratools.recipe.edit.log import AppliedStep, Change, Edit, EditResult, RecipeFile
from loratools.recipe.edit.prepare import prepare
from loratools.yamlio import Document

NAME = "tune"  # of the step in the log; no symptom, so that the rules of symptoms go on where they were
_TUNED, _SUBTRACTED = "GP1", "GP2"  # the first positive and the first negative term


@dataclass(frozen=True)
class NewNumbers:
    """What is to be written.

    Attributes:
        vector: block -> weight, of the term of ``role``.
        rules: left side of a rule for kinds of a block's layers, ``OUT05/attn1`` -> weight; the vector has these and no
            others afterwards. None leaves the vector's rules as they are.
        amount: what the weight of the first negative term is multiplied by; 1 leaves it.
        say: what the log says of it.
        role: ``GP1`` for the vector of the first positive term, ``GP2`` for that of the first negative one.
    """

    vector: Mapping[str, float]
    amount: float = 1.0
    say: str = ""
    role: str = _TUNED
    rules: Mapping[str, float] | None = None

    @staticmethod
    def of_weights(weights: Mapping[str, float], amount: float = 1.0, say: str = "", role: str = _TUNED) -> NewNumbers:
        """Of weights by block and by rule, all that the vector is to hold."""
        rules = {name: weight for name, weight in weights.items() if is_rule(name)}
        blocks = {name: weight for name, weight in weights.items() if not is_rule(name)}
        return NewNumbers(blocks, amount, say, role, rules)


def role_of(recipe: Path, vector: str, merge: str | None = None) -> str:
    """Which of the merge's two terms that can be edited uses the vector called ``vector``: ``GP1`` or ``GP2``.

    Raises:
        RecipeError: if neither does; the message names the vectors that they use.
    """
    file = RecipeFile.read(recipe)
    read, document = file.parsed(file.text)
    merged = merge_text(document, read, merge)
    used = {role: merged.terms[term].spec.vector_text for role, term in merged.of_roles(tuple(ROLES)).items()}
    for role, text in used.items():
        if text is not None and text.lower() == vector.lower():
            return role
    have = ", ".join(text for text in used.values() if text) or "none"
    raise RecipeError(f"{recipe}: no term of the merge '{merged.step}' uses a vector '{vector}'; they use {have}")


def set_numbers(recipe: Path, new: NewNumbers, *, merge: str | None = None, dry_run: bool = False) -> EditResult:
    """Write ``new`` into the merge step of ``recipe``; every other byte stays, and ``blocks undo`` takes it back.

    Args:
        merge: the merge step that is meant, where the recipe has several.
        dry_run: write nothing: shows beforehand whether the recipe can be edited at all.
    Raises:
        RecipeError: if the recipe cannot be read or edited, or its vector does not list a block of ``new``.
    """
    return apply_edit(recipe, lambda file, log: _planned(file, log, new, merge), dry_run=dry_run)


def _planned(file: RecipeFile, log: list[Edit], new: NewNumbers, merge: str | None) -> tuple[Edit, EditResult]:
    text, passes, notes = prepare(file, merge, (new.role,))
    recipe, document = file.parsed(text)
    merged = merge_text(document, recipe, merge)
    terms = merged.of_roles((_TUNED, _SUBTRACTED))
    if new.role not in terms:
        sign = "positive" if new.role == _TUNED else "negative"
        raise RecipeError(f"{document.source}: the merge has no term with a {sign} weight whose vector could change")
    located = locate(document, recipe, merged, terms[new.role])
    _check_apart(merged, terms[new.role], document)
    numbers = [*_vector_changes(new, located, document), *_rule_changes(new, located, document)]
    if new.amount != 1 and _SUBTRACTED in terms:
        numbers.append(_weight_change(new.amount, merged, terms[_SUBTRACTED], document))
    made = (AppliedStep(NAME, 1 + sum(one.symptom == NAME for edit in log for one in edit.made), new.say),)
    edit, after = Prepared(file, text, passes, merged).edited(numbers, made)
    after, notes = (after, notes) if edit.changes else (file.text, [])  # what was prepared for nothing is not written
    return edit, EditResult(file.path, made, edit.changes, (), tuple(notes), file.text, after)


def _check_apart(merged: MergeText, changed: int, document: Document) -> None:
    """Raise RecipeError where another term uses the vector that is to change."""
    tuned = merged.terms[changed]
    own = tuned.spec.vector_text
    others = [term.spec for number, term in enumerate(merged.terms) if number != changed]
    shared = [spec.ref for spec in others if own and (spec.vector_text or "").lower() == own.lower()]
    if shared and len(tuned.items) == 1:  # a name; numbers that stand in the merge string itself are each term's own
        raise RecipeError(
            f"{document.source}: {' and '.join(shared)} of the merge uses the vector {own} too; give it one of its own "
            "first"
        )


def _vector_changes(new: NewNumbers, located: Located, document: Document) -> Iterator[tuple[Change, Replacement]]:
    lacking = [block for block in new.vector if block not in located.spans]
    if lacking:
        raise RecipeError(
            f"{document.source}: the LoRA has modules in {' '.join(lacking)}, which {located.label} of "
            f"{located.scheme.title} does not list; write it with a number for each block, then it can be tuned"
        )
    for block, weight in new.vector.items():
        span = located.spans[block]
        before, after = document.text[slice(*span)], _written(weight)
        if not _is_written(before, weight):
            yield Change(new.role, located.label, block, before, after), Replacement(*span, after)


def _rule_changes(new: NewNumbers, located: Located, document: Document) -> Iterator[tuple[Change, Replacement]]:
    """The rules that are to be there: those that stand there get their number, others go, new ones come last."""
    if new.rules is None:
        return
    for rule in located.rules:
        number = located.number(rule, document.text)
        old = document.text[slice(*number)]
        if rule not in new.rules:
            yield Change(new.role, located.label, rule, old, ""), located.without(rule)
        elif not _is_written(old, new.rules[rule]):
            after = _written(new.rules[rule])
            yield Change(new.role, located.label, rule, old, after), Replacement(*number, after)
    last = next(reversed(tuple(located.rules)), "")
    for rule, weight in new.rules.items():
        if rule not in located.rules:
            after = _written(weight)
            yield Change(new.role, located.label, rule, "", after), located.added(last, rule, after)
            last = rule


def _weight_change(amount: float, merged: MergeText, number: int, document: Document) -> tuple[Change, Replacement]:
    term = merged.terms[number]
    if term.weight is None:
        raise RecipeError(
            f"{document.source}: {term.spec.ref} has no weight that could change; write {term.spec.ref}:-1"
        )
    before = document.text[slice(*term.weight)]
    after = _written(float(Decimal(str(round(term.spec.weight * amount, 4)))))
    change = Change("strength", f"weight of {term.spec.ref}", str(number + 1), before, after)
    return change, Replacement(*term.weight, after)


def _is_written(text: str, weight: float) -> bool:
    """Whether a number of the recipe is that weight already, as far as it would be written."""
    return float(text) in (weight, float(_written(weight)))


def _written(weight: float) -> str:
    return format(round(weight, 4), "g")
