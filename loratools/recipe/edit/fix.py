"""Symptom fixes: a recipe's vectors edited in place, number by number, every other byte of the file kept.

What was done is kept beside the recipe, in ``.NAME.fixes.json``, so that the next fix of a symptom goes to its next
step. An edit holds the very texts that it replaced; where the recipe was edited by hand since, undo goes number by
number instead, and leaves those that are no longer what the fix wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from loratools.blocks.presets import load_presets
from loratools.blocks.symptoms import ROLES, Step, Symptom, Together, find_symptom, together
from loratools.blocks.vector import Presets
from loratools.errors import LoratoolsError, RecipeError
from loratools.files import locked, write_bytes
from loratools.recipe.edit.locate import Located, MergeText, Replacement, applied, locate, merge_text, prepared
from loratools.recipe.edit.log import Change, Edit, Made, Source, load_log, real_place, save_log, sidecar
from loratools.recipe.edit.result import Fixed
from loratools.recipe.schema.recipe import Recipe
from loratools.recipe.steps.lora.merge import Merge
from loratools.yamlio import Document

STEP = Decimal("0.1")


def fix(
    recipe: Path, names: Sequence[str], *, size: Decimal = STEP, merge: str | None = None, dry_run: bool = False
) -> Fixed:
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
    recipe = real_place(recipe)
    with locked(sidecar(recipe)):
        source = Source.read(recipe)
        log = load_log(recipe, source.digest)
        chosen = [find_symptom(name) for name in dict.fromkeys(name.lower() for name in names)]
        edit, outcome = _plan(source, log, chosen, size, merge)
        if dry_run:
            return outcome
        save_log(recipe, [*log, edit])
        write_bytes(recipe, source.encoded(outcome.text))
    return replace(outcome, written=True)


def history(recipe: Path) -> list[Edit]:
    """The fixes that are in effect, oldest first."""
    return load_log(recipe, Source.read(recipe).digest)


def sized(recipe: Path, names: Sequence[str], size: Decimal, merge: str | None = None) -> str:
    """The recipe's text after a fix of ``size``, which may be 0; nothing is written."""
    source = Source.read(recipe)
    if size == 0:
        return source.text
    chosen = [find_symptom(name) for name in dict.fromkeys(name.lower() for name in names)]
    return _plan(source, load_log(recipe, source.digest), chosen, size, merge)[1].text


def _plan(
    source: Source, log: Sequence[Edit], chosen: Sequence[Symptom], size: Decimal, merge: str | None
) -> tuple[Edit, Fixed]:
    steps = _choose(source, log, chosen, merge)
    roles = [role for role in ROLES if any(move.role == role for _, step in steps for move in step.moves)]
    text, passes, notes = _prepare(source, merge, roles)
    recipe, document = source.parsed(text)
    merged = merge_text(document, recipe, merge)
    found = {role: locate(document, recipe, merged, term) for role, term in merged.of_roles(roles).items()}
    _check_apart(found, document)
    notes += [
        f"the merge has no term for {role}, so only the other vector moves" for role in roles if role not in found
    ]
    plan = together([(symptom, step) for symptom, (_, step) in zip(chosen, steps, strict=True)])
    changes, places = _changes(plan, size, text, found, merged)
    if not changes:
        why = "; ".join(plan.conflicts) or "every number that this would lower is 0 already"
        raise RecipeError(f"{source.path}: nothing to change: {why}")
    pairs = zip(places, changes, strict=True)
    text, back = applied(text, [Replacement(*place, change.after) for place, change in pairs])
    source.parsed(text)  # an edit that breaks the recipe is a bug, and must not reach the file
    made = tuple(Made(one.name, index + 1, step.say) for one, (index, step) in zip(chosen, steps, strict=True))
    edit = Edit(merged.step, made, str(size), source.digest, source.digest_of(text), (*passes, tuple(back)), changes)
    told = (*notes, *plan.notes, *_against(changes, log))
    return edit, Fixed(source.path, made, changes, plan.conflicts, told, source.text, text)


def _choose(
    source: Source, log: Sequence[Edit], chosen: Sequence[Symptom], merge: str | None
) -> list[tuple[int, Step]]:
    """Each symptom's next step, judged on a text in which every vector that can be edited is ready for it."""
    text, _, _ = _prepare(source, merge, tuple(ROLES), strict=False)
    recipe, document = source.parsed(text)
    merged = merge_text(document, recipe, merge)
    found: dict[str, Located | None] = {}
    for role, term in merged.of_roles(tuple(ROLES)).items():
        try:
            found[role] = locate(document, recipe, merged, term)
        except RecipeError:
            found[role] = None  # the step that needs it will say why
    return [_next(symptom, log, text, found, merged) for symptom in chosen]


def _prepare(
    source: Source, merge: str | None, roles: Sequence[str], *, strict: bool = True
) -> tuple[str, list[tuple[Replacement, ...]], list[str]]:
    """The text with presets that are used by name copied into ``blocks:``, and what takes that back.

    Args:
        strict: raise for a vector that cannot be made ready; otherwise it stays.
    """
    text, passes, notes = source.text, list[tuple[Replacement, ...]](), list[str]()
    for role in reversed(list(ROLES)):  # each goes to the front, so GP1 comes to stand first
        recipe, document = source.parsed(text)
        merged = merge_text(document, recipe, merge)
        term = merged.of_roles(roles).get(role)
        if term is None:
            continue
        try:
            changes = prepared(document, recipe, merged, term, _presets(source, recipe, merged))
        except LoratoolsError:
            if strict:
                raise
            continue
        if changes:
            text, back = applied(text, changes)
            passes.append(tuple(back))
            notes.append(f"{merged.specs[term].vector_text} was copied into `blocks:`, where its numbers can be edited")
    return text, passes, notes


def _presets(source: Source, recipe: Recipe, merged: MergeText) -> Presets:
    file = recipe.steps[merged.step].options(Merge).presets
    beside = source.path.parent / file if file else None
    return load_presets(beside if beside is not None and beside.exists() else file, recipe.blocks)


def _check_apart(found: Mapping[str, Located], document: Document) -> None:
    if len(found) == 2 and set(found["GP1"].places.values()) & set(found["GP2"].places.values()):
        raise RecipeError(
            f"{document.source}: both terms of the merge use the vector {found['GP1'].label}; give the "
            "base style a vector of its own first"
        )


def _next(
    symptom: Symptom, log: Sequence[Edit], text: str, found: Mapping[str, Located | None], merged: MergeText
) -> tuple[int, Step]:
    """The symptom's next step that changes anything, and its place; a step without effect is passed over."""
    for index in range(_times(symptom, log), max(len(symptom.steps), _times(symptom, log) + 1)):
        step = symptom.step_at(index)
        if step is not None and _moves_anything(step, text, found, merged):
            return min(index, len(symptom.steps) - 1), step
    raise RecipeError(
        f"{symptom.name}: the rules have nothing more to try here; look at the images and the epoch "
        "instead, or walk back with `loratools blocks undo`"
    )


def _moves_anything(step: Step, text: str, found: Mapping[str, Located | None], merged: MergeText) -> bool:
    """Whether the step has a number to move. A vector that cannot be read counts, so that its error is told."""
    if step.strength is not None:
        return bool(merged.weights)
    for (role, block), by in step.directions().items():
        target = found.get(role)
        if role in found and (target is None or block not in target.places):
            return True
        if target is not None and (by > 0 or Decimal(text[slice(*target.places[block])]) > 0):
            return True
    return False


def _times(symptom: Symptom, log: Sequence[Edit]) -> int:
    """How many steps of the symptom are in effect; one that was passed over counts as made."""
    return max((made.step for edit in log for made in edit.made if made.symptom == symptom.name), default=0)


def _changes(
    plan: Together, size: Decimal, text: str, found: Mapping[str, Located], merged: MergeText
) -> tuple[tuple[Change, ...], list[tuple[int, int]]]:
    """The numbers that change, and where they stand."""
    changes, places = list[Change](), list[tuple[int, int]]()
    for (role, block), by in plan.moves.items():
        target = found.get(role)
        if target is None:
            continue
        if block not in target.places:
            raise RecipeError(
                f"the rules speak of SD1's blocks, and {target.label} is of {target.scheme.title}, which "
                f"has no {block}; edit it by hand, `loratools blocks suggest` has numbers"
            )
        place = target.places[block]
        after = _moved(text[slice(*place)], by * size)
        if after is not None:
            changes.append(Change(role, target.label, block, text[slice(*place)], after))
            places.append(place)
    for index, place in merged.weights.items() if plan.strength != 1 else ():
        written = text[slice(*place)]
        after = _short(Decimal(written) * Decimal(str(plan.strength)))
        changes.append(Change("strength", f"weight of {merged.specs[index].ref}", str(index + 1), written, after))
        places.append(place)
    return tuple(changes), places


def _moved(written: str, by: Decimal) -> str | None:
    """A number after a step; never below 0, and None if that leaves it as it is."""
    before = Decimal(written)
    after = before + by if by > 0 else min(before, max(before + by, Decimal(0)))
    return None if after == before else format(after, "f")


def _short(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _against(changes: Sequence[Change], log: Sequence[Edit]) -> list[str]:
    """Earlier fixes of other symptoms that this one takes back in part."""
    found: dict[str, list[str]] = {}
    for edit in log:
        for old in edit.changes:
            for new in changes:
                same = (old.role, old.block) == (new.role, new.block) and new.role != "strength"
                if same and _rises(old) != _rises(new):
                    names = " and ".join(made.symptom for made in edit.made)
                    found.setdefault(f"{names} had {'raised' if _rises(old) else 'lowered'}", []).append(
                        f"{new.role} {new.block}"
                    )
    return [
        f"this goes against an earlier fix: {what} {', '.join(dict.fromkeys(where))}" for what, where in found.items()
    ]


def _rises(change: Change) -> bool:
    return Decimal(change.after) > Decimal(change.before)
