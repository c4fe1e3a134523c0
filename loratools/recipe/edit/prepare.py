"""A recipe's vectors made ready to be edited number by number: presets are copied, expressions resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loratools.blocks.presets import load_presets
from loratools.blocks.symptoms import ROLES
from loratools.blocks.vector import Presets
from loratools.errors import LoratoolsError, RecipeError
from loratools.recipe.edit.locate import Located, MergeText, Replacement, apply, merge_text, preparation
from loratools.recipe.edit.log import RecipeFile
from loratools.recipe.schema.recipe import Recipe
from loratools.recipe.steps.lora.merge import Merge
from loratools.yamlio import Document


def prepare(
    file: RecipeFile, merge: str | None, roles: Sequence[str], *, strict: bool = True
) -> tuple[str, list[tuple[Replacement, ...]], list[str]]:
    """The text with presets that are used by name copied into ``blocks:``, the replacements that undo that, and notes.

    Args:
        strict: raise for a vector that cannot be made ready; otherwise it stays.
    """
    text, passes, notes = file.text, list[tuple[Replacement, ...]](), list[str]()
    for role in reversed(list(ROLES)):  # each goes to the front, so GP1 comes to stand first
        recipe, document = file.parsed(text)
        merged = merge_text(document, recipe, merge)
        term = merged.of_roles(roles).get(role)
        if term is None:
            continue
        try:
            changes = preparation(document, recipe, merged, term, _presets(file, recipe, merged))
        except LoratoolsError:
            if strict:
                raise
            continue
        if changes:
            text, back = apply(text, changes)
            passes.append(tuple(back))
            notes.append(
                f"{merged.terms[term].spec.vector_text} was copied into `blocks:`, where its numbers can be edited"
            )
    return text, passes, notes


def _presets(file: RecipeFile, recipe: Recipe, merged: MergeText) -> Presets:
    name = recipe.steps[merged.step].options(Merge).presets
    beside = file.path.parent / name if name else None
    return load_presets(beside if beside is not None and beside.exists() else name, recipe.blocks)


def check_apart(vectors: Mapping[str, Located], document: Document) -> None:
    """Raise RecipeError if both vectors are one, whose numbers cannot be edited for one term alone."""
    if len(vectors) == 2 and set(vectors["GP1"].spans.values()) & set(vectors["GP2"].spans.values()):
        raise RecipeError(
            f"{document.source}: both terms of the merge use the vector {vectors['GP1'].label}; give the "
            "base style a vector of its own first"
        )
