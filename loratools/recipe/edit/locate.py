"""Where a recipe's numbers stand in its text: the elements of named vectors, and the numbers in merge strings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loratools.blocks.scheme import Scheme
from loratools.blocks.symptoms import ROLES
from loratools.blocks.text import is_number, split_items
from loratools.blocks.vector import BlockVector, Presets, parse_vector, vector_from
from loratools.errors import BlockError, LoratoolsError, RecipeError
from loratools.ops.merging.merge_string import TermSpec, parse_merge_string
from loratools.recipe.schema.recipe import Recipe
from loratools.recipe.steps.lora.merge import Merge
from loratools.yamlio import Document, Place, Span

Range = tuple[int, int]  # half-open, in characters of the document's text
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_PROBE = "73501.25"  # a weight that nobody writes


@dataclass(frozen=True)
class Replacement:
    """``new`` in place of the text's characters ``start`` to ``end``."""

    start: int
    end: int
    new: str


@dataclass(frozen=True)
class Located:
    """A vector whose numbers can be edited: ``places`` of each block's number in the text."""

    label: str
    scheme: Scheme
    places: Mapping[str, Range]


@dataclass(frozen=True)
class MergeText:
    """A merge step's string: where its value begins in the document's text, its terms, and its numbers' places.

    ``weights`` by term; ``items`` by term and by place in the term's vector.
    """

    step: str
    start: int
    specs: tuple[TermSpec, ...]
    weights: Mapping[int, Range]
    items: Mapping[tuple[int, int], Range]

    def first(self, sign: int) -> int | None:
        """The first term of that sign."""
        return next((index for index, spec in enumerate(self.specs) if spec.weight * sign > 0), None)

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
        raise RecipeError(f"{document.source} has several merge steps; say which with --merge: {', '.join(merges)}")
    name = step or next(iter(merges))
    if name not in merges:
        raise RecipeError(f"{document.source} has no merge step '{name}'; it has {', '.join(merges)}")
    settings = merges[name]
    place: Place = ("steps", name, "merge")
    place = place if isinstance(_data(document, place), str) else (*place, "terms")
    start = _begin(document, place, settings.terms)
    weights, items = _numbers(settings.terms)
    shift = {key: (begin + start, end + start) for key, (begin, end) in weights.items()}
    moved = {key: (begin + start, end + start) for key, (begin, end) in items.items()}
    return MergeText(name, start, tuple(parse_merge_string(settings.terms)), shift, moved)


def prepared(document: Document, recipe: Recipe, merge: MergeText, term: int, presets: Presets) -> list[Replacement]:
    """What has to change before the vector of ``term`` can be edited number by number: a preset used by name is
    copied into ``blocks:``, and a named expression becomes its numbers. Empty if it can be edited as it stands.

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
    """The vector of ``term`` with its numbers' places; :func:`prepared` has nothing left to do.

    Raises:
        RecipeError: if it is no whole vector.
    """
    text = _vector_text(document, merge, term)
    if _is_list(text):
        count = len(split_items(text))
        scheme = _scheme([float(item) for item in split_items(text)], text, document)
        places = [merge.items[term, index] for index in range(count)]
        return Located(f"the vector of {merge.specs[term].ref}", scheme, dict(zip(scheme.names, places, strict=True)))
    name = _own_name(recipe, text)
    if name is None:
        raise RecipeError(f"{document.source}: '{text}' is no vector of this recipe")
    value = recipe.blocks[name]
    if isinstance(value, list):
        scheme = _scheme(value, name, document)
        spans = [_own_span(document, ("blocks", name, index)) for index in range(len(value))]
        return Located(name, scheme, {b: (s.start, s.end) for b, s in zip(scheme.names, spans, strict=True)})
    start = _begin(document, ("blocks", name), value)
    found = [(start + item.start(), start + item.end()) for item in _NUMBER.finditer(value)]
    scheme = _scheme([float(item) for item in split_items(value)], name, document)
    return Located(name, scheme, dict(zip(scheme.names, found, strict=True)))


def applied(text: str, changes: Sequence[Replacement]) -> tuple[str, list[Replacement]]:
    """``text`` with every change made, and the changes that take it back, in the new text's characters."""
    pieces, back, at, shift = [], [], 0, 0
    for change in sorted(changes, key=lambda one: one.start):
        pieces += [text[at : change.start], change.new]
        begin = change.start + shift
        back.append(Replacement(begin, begin + len(change.new), text[change.start : change.end]))
        shift += len(change.new) - (change.end - change.start)
        at = change.end
    return "".join([*pieces, text[at:]]), back


def _numbers(text: str) -> tuple[dict[int, Range], dict[tuple[int, int], Range]]:
    """Which number of a merge string is what, asked of the parser itself: each one is changed in turn, and what
    changes in the terms says what it was."""
    known = parse_merge_string(text)
    weights: dict[int, Range] = {}
    items: dict[tuple[int, int], Range] = {}
    for found in _NUMBER.finditer(text):
        probed = text[: found.start()] + _PROBE + text[found.end() :]
        try:
            specs = parse_merge_string(probed)
        except LoratoolsError:  # a number inside a name, which makes no sense when it changes
            continue
        for index, (old, new) in enumerate(zip(known, specs, strict=False)):
            if len(specs) != len(known) or old.ref != new.ref or old.epoch != new.epoch:
                break
            if old.weight != new.weight:
                weights[index] = found.span()
            elif old.vector_text != new.vector_text:
                place = _changed(str(old.vector_text), str(new.vector_text))
                if place is not None:
                    items[index, place] = found.span()
    return weights, items


def _changed(old: str, new: str) -> int | None:
    pairs = zip(split_items(old), split_items(new), strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), None)


def _vector_text(document: Document, merge: MergeText, term: int) -> str:
    spec = merge.specs[term]
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


def _own_span(document: Document, place: Place) -> Span:
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
