"""Where a recipe's numbers stand in its text: the items of named vectors, and the numbers in merge strings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import dropwhile

from loratools.blocks.elements import is_rule
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
    """A vector whose numbers can be edited.

    Attributes:
        spans: of each block's number in the text.
        rules: the left side of each rule, ``OUT05/attn1`` -> where the whole rule stands, in the order of the text.
        between: what parts two items of it: a comma, or the beginning of the next line of a list.
        line: what begins a line of rules for another block; empty where the text is a single line.
    """

    label: str
    scheme: Scheme
    spans: Mapping[str, Span]
    rules: Mapping[str, Span] = field(default_factory=dict)
    between: str = ","
    line: str = ""

    @property
    def end(self) -> int:
        """Where its last item ends, after which a rule can be added."""
        return max(span.end for span in self.items)

    @property
    def items(self) -> tuple[Span, ...]:
        """Where its items stand: the blocks' numbers, and after them the rules."""
        return (*self.spans.values(), *self.rules.values())

    def without(self, rule: str) -> Replacement:
        """What takes a rule out of the text."""
        place = len(self.spans) + list(self.rules).index(rule)
        return Replacement(self.items[place - 1].end, self.items[place].end, "")

    def added(self, last: str, rule: str, number: str) -> Replacement:
        """What adds a rule after the others, of which ``last`` (empty for none) is the last one by then."""
        other = last.partition("/")[0] != rule.partition("/")[0]
        item = _yaml_text(f"{rule}={number}") if self.line else f"{rule}={number}"
        return Replacement(self.end, self.end, f"{self.line if other and self.line else self.between}{item}")

    def number(self, rule: str, text: str) -> Span:
        """Where the number of a rule stands in ``text``."""
        start, end = self.rules[rule]
        written = re.search(r"=\s*([^'\"\s]+)\s*['\"]?\Z", text[start:end])
        if written is None:
            raise RecipeError(f"{self.label}: the rule {rule} is written over several lines; write it in one")
        return Span(start + written.start(1), start + written.end(1))


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
        spec, items = merge.terms[term].spec, merge.terms[term].items
        return _located(f"the vector of {spec.ref}", text, items, document)
    name = _own_name(recipe, text)
    if name is None:
        raise RecipeError(f"{document.source}: '{text}' is no vector of this recipe")
    value = recipe.blocks[name]
    if isinstance(value, list):
        values = [_own_span(document, ("blocks", name, index)) for index in range(len(value))]
        spans = [Span(one.start, one.end) for one in values]
        between, line = _parting(document, name)
        return replace(_located(name, ",".join(map(str, value)), spans, document), between=between, line=line)
    start = _begin(document, ("blocks", name), value)
    return _located(name, value, [Span(start + begin, start + end) for begin, end in _item_spans(value)], document)


def _located(label: str, text: str, items: Sequence[Span], document: Document) -> Located:
    """The vector ``text``, numbers and after them rules, whose items stand at ``items``."""
    texts = split_items(text)
    count = sum(map(is_number, texts))
    scheme = _scheme([float(item) for item in texts[:count]], label, document)
    names = [item.partition("=")[0].strip() for item in texts[count:]]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RecipeError(
            f"{document.source}: {label} has the rule {twice[0]} twice; leave the one that counts, the last"
        )
    rules = dict(zip(names, items[count:], strict=True))
    return Located(label, scheme, dict(zip(scheme.names, items[:count], strict=True)), rules)


def _parting(document: Document, name: str) -> tuple[str, str]:
    """What parts two items of a list, and what begins a new line of it."""
    span = _own_span(document, ("blocks", name))
    end = "\r\n" if "\r\n" in document.text else "\n"
    if document.text[span.start] == "[":
        return ", ", f",{end}{' ' * (document.keys['blocks', name].column + 1)}"
    first = _own_span(document, ("blocks", name, 0))
    dash = end + document.text[document.text.rfind("\n", 0, first.start) + 1 : first.start]
    return dash, dash


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
    """Whether a vector is bare numbers, and after them at most rules for kinds of layers."""
    rules = dropwhile(is_number, split_items(text))
    return is_number(split_items(text)[0]) and all(is_rule(item.partition("=")[0]) for item in rules)


def _scheme(numbers: Sequence[float], what: str, document: Document) -> Scheme:
    try:
        return vector_from(numbers, None, f"'{what}'").scheme
    except BlockError as error:
        raise RecipeError(f"{document.source}: {error}") from error


def _listed(vector: BlockVector, text: str, document: Document) -> str:
    names = vector.scheme.names
    if tuple(vector.weights) != names:
        raise RecipeError(
            f"{document.source}: the vector '{text}' does not list exactly the blocks of "
            f"{vector.scheme.title}; write its numbers under `blocks:`"
        )
    rules = (_yaml_text(rule.text()) for rule in vector.rules)
    return "[" + ", ".join([*(repr(vector.weights[name]) for name in names), *rules]) + "]"


def _yaml_text(rule: str) -> str:
    """A rule as an item of a YAML list, in quotes where it would be something else without them."""
    return rule if re.fullmatch(r"\w[\w ./+-]*=[\w.+-]+", rule) else f"'{rule}'"


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
