"""What every reader of another tool's settings returns, and how each turns its findings into a recipe's text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loratools.errors import BlockError, LoratoolsError, RecipeError
from loratools.files import utf8_text
from loratools.ops.merging.merge_string import quoted
from loratools.recipe.importers.write import flow
from loratools.recipe.schema.recipe import parse_recipe


@dataclass(frozen=True)
class Imported:
    """A recipe's text, what it was made from in a few words, and notes on what a recipe has no place for."""

    text: str
    what: str
    notes: tuple[str, ...] = ()


def imported_recipe(
    what: str,
    steps: Mapping[str, Mapping[str, Any]],
    base: str | None,
    notes: Sequence[str],
    *,
    blocks: Mapping[str, Any] | None = None,
    unknown: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> Imported:
    """The recipe's text with its notes as comments, checked by the same parser that reads recipes.

    Args:
        what: what was imported, for the first comment and for error messages.
        steps: step name -> kind -> options.
        base: the base model to name; the pocket if None.
        blocks: named block vectors.
        unknown: vector names that nothing defines; each is written down as ALL.
        more: further top-level keys.
    Raises:
        RecipeError: if the result is no valid recipe.
    """
    vectors = {**(blocks or {}), **dict.fromkeys(unknown, "ALL")}
    lines = [f"# Imported from {what}."]
    lines += [f"# {line}" for note in notes for line in _wrapped(note)]
    lines += ["version: 1", f"base: {flow(base or 'pocket')}"]
    lines += [f"{key}: {flow(value)}" for key, value in (more or {}).items()]
    lines += ["blocks:", *(f"  {flow(name)}: {flow(value)}" for name, value in vectors.items())] if vectors else []
    lines += ["steps:", *(f"  {flow(name)}: {flow(step)}" for name, step in steps.items())]
    text = utf8_text("\n".join(lines) + "\n")  # names out of other tools' metadata may hold anything
    try:
        parse_recipe(text, "<imported>")
    except LoratoolsError as error:
        raise RecipeError(f"what {what} asks for is no recipe here: {error}") from error
    return Imported(text, what, tuple(notes))


def unknown_base(digest: str | None) -> str:
    """What stands at ``base:`` for a model that has a hash and no name, or neither: nothing of that name is there, and
    so a run refuses it and says what to put there."""
    return f"model-{digest[:10]}" if digest else "name-the-base-here"


def base_notes(base: str | None) -> list[str]:
    """A note where what is imported names no base."""
    return [] if base else ["nothing here names a base model; `base: pocket` only stands for yours, so name its file"]


def unknown_presets(vectors: Sequence[str], blocks: Mapping[str, Any]) -> list[str]:
    """Those of ``vectors`` that are neither numbers nor names known here or in ``blocks``.

    Raises:
        BlockError: for one that is no name either.
    """
    from loratools.blocks.parse import parse_vector
    from loratools.blocks.presets import load_presets

    known, unknown = load_presets(blocks), []
    for text in dict.fromkeys(vectors):
        try:
            parse_vector(text, known)
        except BlockError:
            if not re.fullmatch(r"[^\s,:=()]+", text):
                raise
            unknown.append(text)
    return unknown


def preset_notes(unknown: Sequence[str]) -> list[str]:
    """A note for each vector name that nothing defines."""
    return [
        f"the vector '{name}' is not known here; write its numbers at `blocks:`, where ALL stands now"
        for name in unknown
    ]


def term_name(name: str) -> str:
    """A LoRA's name as a merge string takes it: quoted where it holds more than plain characters."""
    return name if re.fullmatch(r"[\w./-]+", name) else quoted(name)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 116, break_long_words=False, break_on_hyphens=False)
