"""Where a recipe's numbers stand in its text: the items of named vectors, and the numbers in merge strings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loratools.blocks.parse import parse_vector
from loratools.blocks.scheme import Scheme
from loratools.blocks.symptoms import ROLES
from loratools.blocks.tokens import is_number, split_items
from loratools.blocks.vector import BlockVector, Presets, vector_from
from loratools.blocks.webui_tag import is_tag
from loratools.errors import BlockError, RecipeError
from loratools.ops.merging.merge_string import Span, TermSpans, TermSpec, locate_terms
from loratools.recipe.schema.recipe import Recipe
from loratools.recipe.steps.lora.merge import Merge
from loratools.yamlio import Document, Place, SourceSpan


@dataclass(frozen=True)
class Replacement:
    """``new`` in place of the text's characters ``start`` to ``end``."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Located:
    """A vector whose numbers can be edited: ``spans`` of each block's number in the text."""

    label: str
    scheme: Scheme
    spans: Mapping[str, Span]


@dataclass(frozen=True)
class TermText:
    """A term of a merge string, and where its numbers stand in the document's text.

    Args:
        name_end: where the name ends, after which a weight can be inserted; None in a prompt's tag with one number for
            the text encoder and one for the network, which has no place for it.
        weight: the weight, or the part of a fraction such as ``1/3`` above its line; None if the term has none.
        items: the items of its vector.
    """

    spec: TermSpec
    name_end: int | None
    weight: Span | None
    items: tuple[Span, ...]


@dataclass(frozen=True)
class MergeText:
    """The merge string of the step ``step``."""

    step: str
    terms: tuple[TermText, ...]

    def first(self, sign: int) -> int | None:
        """The index of the first term of that sign."""
        return next((index for index, term in enumerate(self.terms) if term.spec.weight * sign > 0), None)

    def of_roles(self, roles: Sequence[str]) -> dict[str, int]:
        """Which term each of the :data:`ROLES` is, of those that there are."""
        terms = {role: self.first(ROLES[role]) for role in roles}
        return {role: term for role, term in terms.items() if term is not None}


def merge_text(document: Document, recipe: Recipe, step: str | None) -> MergeText:
    """The merge string of ``step``, or of the only merge step that there is.

    Raises:
        RecipeError: if there is none, or several and none is named, or the string is written over several lines.
    """
    merges = {name: body.options(Merge) for name, body in recipe.steps.items() if body.kind == "merge"}
    if not merges:
        raise RecipeError(f"{document.source} has no merge step, so there is no vector to edit")
    if step is None and len(merges) > 1:
        raise RecipeError(f"{document.source} has several merge steps; say which with `merge=`: {', '.join(merges)}")
    name = step or next(iter(merges))
    if name not in merges:
        raise RecipeError(f"{document.source} has no merge step '{name}'; it has {', '.join(merges)}")
    settings = merges[name]
    place: Place = ("steps", name, "merge")
    place = place if isinstance(_data(document, place), str) else (*place, "terms")
    start = _begin(document, place, settings.terms)
    terms = [_term_text(term.spec, term.spans, settings.terms, start) for term in locate_terms(settings.terms)]
    return MergeText(name, tuple(terms))


def _term_text(spec: TermSpec, spans: TermSpans, text: str, start: int) -> TermText:
    """A term of the merge string ``text``, which begins at the document's character ``start``."""
    weight = None
    if spans.weight is not None:
        above = text[spans.weight.start : spans.weight.end].partition("/")[0].rstrip()
        weight = Span(start + spans.weight.start, start + spans.weight.start + len(above))
    items = tuple(Span(start + item.start, start + item.end) for item in spans.items)
    split = spans.weight is None and is_tag(text[slice(*spans.term)]) and (spec.te, spec.unet) != (1, 1)
    return TermText(spec, None if split else start + spans.ref.end, weight, items)


def preparation(document: Document, recipe: Recipe, merge: MergeText, term: int, presets: Presets) -> list[Replacement]:
    """What has to change before the vector of ``term`` can be edited number by number.

    A preset used by name is copied into ``blocks:``, and a named expression becomes its numbers. Empty if the vector
    can be edited as it stands.

    Raises:
        RecipeError: if the term has no vector, or one that mixes a preset with changes inside the merge string.
    """
    text = _vector_text(document, merge, term)
    if _is_list(text):
        return []
    name = _own_name(recipe, text)
    if name is not None and (isinstance(recipe.blocks[name], list) or _is_list(str(recipe.blocks[name]))):
        return []
    if re.search(r"[,(=:]", text):
        raise RecipeError(
            f"{document.where(('steps', merge.step))}: '{text}' stands inside the merge string; give it "
            "a name under `blocks:` and use that name, so that its numbers can be edited"
        )
    numbers = _listed(parse_vector(text, presets), text, document)
    if name is not None:
        span = _own_span(document, ("blocks", name))
        return [Replacement(span.start, span.end, numbers)]
    return [_insertion(document, text, numbers)]


def locate(document: Document, recipe: Recipe, merge: MergeText, term: int) -> Located:
    """The vector of ``term`` with its numbers' places; :func:`preparation` has nothing left to change.

    Raises:
        RecipeError: if it is no whole vector.
    """
    text = _vector_text(document, merge, term)
    if _is_list(text):
        scheme = _scheme([float(item) for item in split_items(text)], text, document)
        spec, items = merge.terms[term].spec, merge.terms[term].items
        return Located(f"the vector of {spec.ref}", scheme, dict(zip(scheme.names, items, strict=True)))
    name = _own_name(recipe, text)
    if name is None:
        raise RecipeError(f"{document.source}: '{text}' is no vector of this recipe")
    value = recipe.blocks[name]
    if isinstance(value, list):
        scheme = _scheme(value, name, document)
        values = [_own_span(document, ("blocks", name, index)) for index in range(len(value))]
        return Located(name, scheme, {b: Span(s.start, s.end) for b, s in zip(scheme.names, values, strict=True)})
    start = _begin(document, ("blocks", name), value)
    spans = [Span(start + begin, start + end) for begin, end in _item_spans(value)]
    scheme = _scheme([float(value[begin:end]) for begin, end in _item_spans(value)], name, document)
    return Located(name, scheme, dict(zip(scheme.names, spans, strict=True)))


def _item_spans(numbers: str) -> Iterator[Span]:
    """Where each number stands in a list of numbers, without the spaces around it."""
    for item in re.finditer(r"[^,]+", numbers):
        start = item.start() + len(item[0]) - len(item[0].lstrip())
        yield Span(start, start + len(item[0].strip()))


def apply(text: str, changes: Sequence[Replacement]) -> tuple[str, list[Replacement]]:
    """``text`` with every change made, and the changes that undo them, by positions in the new text."""
    pieces, back, at, shift = [], [], 0, 0
    for change in sorted(changes, key=lambda one: one.start):
        pieces += [text[at : change.start], change.new]
        begin = change.start + shift
        back.append(Replacement(begin, begin + len(change.new), text[change.start : change.end]))
        shift += len(change.new) - (change.end - change.start)
        at = change.end
    return "".join([*pieces, text[at:]]), back


def _vector_text(document: Document, merge: MergeText, term: int) -> str:
    spec = merge.terms[term].spec
    if spec.vector_text is None:
        raise RecipeError(
            f"{document.where(('steps', merge.step))}: {spec.ref} has no block vector; give it one, such "
            f"as {spec.ref}:{spec.weight:g}:ALL"
        )
    return spec.vector_text


def _own_name(recipe: Recipe, text: str) -> str | None:
    return next((name for name in recipe.blocks if name.lower() == text.lower()), None)


def _is_list(text: str) -> bool:
    return all(is_number(item) for item in split_items(text))


def _scheme(numbers: Sequence[float], what: str, document: Document) -> Scheme:
    try:
        return vector_from(numbers, None, f"'{what}'").scheme
    except BlockError as error:
        raise RecipeError(f"{document.source}: {error}") from error


def _listed(vector: BlockVector, text: str, document: Document) -> str:
    names = vector.scheme.names
    if vector.rules or tuple(vector.weights) != names:
        raise RecipeError(
            f"{document.source}: the vector '{text}' does not list exactly the blocks of "
            f"{vector.scheme.title}; write its numbers under `blocks:`"
        )
    return "[" + ", ".join(repr(vector.weights[name]) for name in names) + "]"


def _insertion(document: Document, name: str, numbers: str) -> Replacement:
    """A new entry under ``blocks:``, which is made before ``steps:`` where there is none."""
    text = document.text
    end = "\r\n" if "\r\n" in text else "\n"
    key = name if re.fullmatch(r"[A-Za-z_][\w.+-]*", name) else json.dumps(name, ensure_ascii=False)
    entry = f"{key}: {numbers}"
    if ("blocks",) not in document.spans:
        at = document.keys["steps",]
        if at.column != 1:
            raise RecipeError(f"{document.source}: write `blocks:` with the vector {name}, then it can be edited")
        return Replacement(at.start, at.start, f"blocks:{end}  {entry}{end}")
    span = _own_span(document, ("blocks",))
    if text[span.start : span.start + 1] == "{":
        comma = ", " if document.data["blocks"] else ""
        return Replacement(span.start + 1, span.start + 1, f"{entry}{comma}")
    first = document.keys["blocks", next(iter(document.data["blocks"]))]
    return Replacement(first.start, first.start, f"{entry}{end}{' ' * (first.column - 1)}")


def _own_span(document: Document, place: Place) -> SourceSpan:
    """Where ``place`` stands in the recipe's own text, the only one that is edited.

    Raises:
        RecipeError: if an included file has it.
    """
    span = document.spans[place]
    if span.source:
        what = ".".join(str(part) for part in place)
        raise RecipeError(
            f"{what} stands in {span.source}, which {document.source} includes, and other recipes may "
            "use it too; copy it into the recipe itself to edit it"
        )
    return span


def _begin(document: Document, place: Place, value: str) -> int:
    """Where the characters of a text value begin: after its quote, if it has one."""
    span = _own_span(document, place)
    raw = document.text[span.start : span.end]
    for skip in (0, 1):
        if raw[skip : len(raw) - skip] == value and (skip == 0 or raw[0] in "'\""):
            return span.start + skip
    raise RecipeError(
        f"{document.where(place)}: write this text in one line and without escapes, then its numbers "
        "can be edited in place"
    )


def _data(document: Document, place: Place) -> object:
    data = document.data
    for part in place:
        data = data[part]
    return data
