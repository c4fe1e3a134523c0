"""The grammar of merge strings such as ``Test0:1:GP1,BASE:-1:GP2``.

Terms are split at commas outside double quotes; a term is ``ref[:weight[:vector][:te=x][:unet=y][:lbwe=z]]``. A quoted
ref may hold ``,`` ``:`` brackets and spaces (``""`` is a quote); ``C:\\`` is a drive; an inline vector's commas belong
to it, as do those inside the brackets of ``mix(...)`` and the other functions of vectors. ``lbwe=`` names an elemental
preset. A prompt's tag, ``<lora:NAME:0.8:lbw=GP1>``, is a term too, and tags need no comma between them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from loratools.adapter.files.epoch_files import parse_reference
from loratools.blocks.parse import FUNCTIONS
from loratools.blocks.placeholders import is_placeholder
from loratools.blocks.tokens import is_number, split_items, stripped_span
from loratools.blocks.webui_tag import TAG, is_tag, read_tag
from loratools.errors import BlockError, MergeStringError
from loratools.ops.merging.punctuation import decimal_comma_remedy, has_full_width_colon, semicolon_remedy

_OPTIONS = ("te", "unet", "lbwe")
_CALL = re.compile(rf"(?<![\w.])(?:{'|'.join(FUNCTIONS)}|inspire-\d+)\s*\(", re.IGNORECASE)


@dataclass(frozen=True)
class TermSpec:
    """One term as it is written. ``epoch`` is ``8``, ``6-8``, ``best`` or ``last`` of ``ref@epoch``."""

    ref: str
    weight: float = 1.0
    vector_text: str | None = None
    te: float = 1.0
    unet: float = 1.0
    epoch: str | None = None

    def text(self) -> str:
        """The term as a merge string holds it; :func:`parse_merge_string` reads it back the same."""
        ref = self.ref if self.epoch is None else f"{self.ref}@{self.epoch}"
        parts = [ref if _is_plain(ref) else quoted(ref), repr(self.weight)]
        parts += [self.vector_text] if self.vector_text is not None else []
        parts += [f"{key}={value!r}" for key, value in (("te", self.te), ("unet", self.unet)) if value != 1]
        return ":".join(parts)


class Span(NamedTuple):
    """Characters ``start`` to ``end`` (exclusive) of a merge string."""

    start: int
    end: int


@dataclass(frozen=True)
class TermSpans:
    """Where the pieces of a term stand in the merge string, without the spaces around them.

    Args:
        term: the whole term.
        ref: the name with its quotes and its ``@epoch``.
        weight: the number, or the fraction ``1/3``; None if the term has none.
        items: the items of the vector, as ``split_items`` of ``vector_text`` gives them; none without a vector.
        options: ``te`` and ``unet`` -> their numbers.
    """

    term: Span
    ref: Span
    weight: Span | None = None
    items: tuple[Span, ...] = ()
    options: Mapping[str, Span] = field(default_factory=dict)


@dataclass(frozen=True)
class ParsedTerm:
    """A term, and where its pieces stand."""

    spec: TermSpec
    spans: TermSpans


def parse_merge_string(text: str) -> list[TermSpec]:
    """Read a merge string.

    Raises:
        MergeStringError: if it is empty, a quote is open, or a weight or option cannot be read.
    """
    return [term.spec for term in locate_terms(text)]


def typed_merge_string(text: str) -> list[TermSpec]:
    """As :func:`parse_merge_string`, of what a person types or a program hands over: a text that as a whole is a file
    or folder here, such as ``photos, 2026/ink.safetensors``, is its name and needs no quotes.

    Raises:
        MergeStringError: as for :func:`parse_merge_string`.
    """
    there = not _is_plain(text) and os.path.exists(text)  # noqa: PTH110  (no error for a text too long for a path)
    return [TermSpec(text)] if there else parse_merge_string(text)


def locate_terms(text: str) -> list[ParsedTerm]:
    """Read a merge string, keeping where in ``text`` each piece stands.

    Raises:
        MergeStringError: as for :func:`parse_merge_string`.
    """
    return _Reader(text).terms()


def quoted(name: str) -> str:
    """A name (or ``name@epoch``) as a merge string holds it, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def _is_plain(ref: str) -> bool:
    """Whether ``ref`` means the same without quotes."""
    if ref == "" or ref != ref.strip() or is_number(ref) or has_full_width_colon(ref):
        return False
    return not set(ref) & set('",:= \t\n') and _CALL.search(ref) is None


class _Reader:
    """Reads one merge string. A piece is what stands between two commas, a field what stands between two colons."""

    def __init__(self, text: str) -> None:
        self.text = text

    def terms(self) -> list[ParsedTerm]:
        terms: list[ParsedTerm] = []
        open_vector = False  # whether the next piece may be one more item of the last term's vector
        for fields in self._pieces():
            if open_vector and self._continues(terms[-1].spec, fields):
                grown = self._with_item(terms[-1], fields[0], self._at(fields[0]))
                terms[-1] = self._with_options(grown, fields[1:])
                open_vector = len(fields) == 1
                continue
            terms.append(self._term(fields))
            tag = is_tag(self._at(fields[0]))
            open_vector = terms[-1].spec.vector_text is not None and self._option(fields[-1]) is None and not tag
        return terms

    def _at(self, span: Span) -> str:
        return self.text[span.start : span.end]

    def _pieces(self) -> Iterator[list[Span]]:
        """The fields of each piece."""
        fields: list[Span] = []
        start = 0
        for at, separator in [*self._separators(), (len(self.text), ",")]:
            if separator == ":" and not fields and self._is_drive(start, at):
                continue
            fields.append(Span(*stripped_span(self.text, start, at)))
            start = at + len(separator)
            if separator != ":":
                yield fields
                fields = []

    def _is_drive(self, start: int, colon: int) -> bool:
        """Whether the colon is that of ``C:\\``."""
        letter = self.text[start:colon].strip()
        return len(letter) == 1 and letter.isalpha() and self.text[colon + 1 : colon + 2] in ("\\", "/")

    def _separators(self) -> Iterator[tuple[int, str]]:
        """Each comma and colon outside quotes, tags and the brackets of ``mix(...)`` and the other functions.

        Between two tags without a comma stands an empty separator.
        """
        at, start = 0, 0  # start: where the piece begins
        while at < len(self.text):
            if not self.text[start:at].strip() and (tag := TAG.match(self.text, at)) is not None:
                at = tag.end()
                if TAG.match(self.text[at:].lstrip()):
                    yield at, ""
                    start = at
                continue
            if self.text[at] == '"':
                at = self._after_quote(at)
                continue
            if (end := self._after_call(at)) is not None:
                at = end
                continue
            if self.text[at] in ",:":
                yield at, self.text[at]
                start = at + 1 if self.text[at] == "," else start
            at += 1

    def _after_quote(self, start: int) -> int:
        """Where the text goes on after the quote that opens at ``start``."""
        end = self.text.find('"', start + 1)
        if end < 0:
            raise MergeStringError(
                f"a double quote in '{self.text}' is not closed; quote a whole path, as in \"a,b.safetensors\":1"
            )
        return end + 1

    def _after_call(self, start: int) -> int | None:
        """Where the text goes on after the ``mix(...)`` that begins at ``start``; None if none begins there.

        A bracket that nothing closes is part of a file's name.
        """
        match = _CALL.match(self.text, start)
        if match is None:
            return None
        at, depth = match.end(), 1
        while at < len(self.text) and depth:
            if self.text[at] == '"':
                at = self._after_quote(at)
                continue
            depth += (self.text[at] == "(") - (self.text[at] == ")")
            at += 1
        return at if depth == 0 else None

    def _tag(self, fields: Sequence[Span]) -> ParsedTerm:
        """The term that a prompt's tag means."""
        place, text = fields[0], self._at(fields[0])
        if len(fields) > 1:
            raise MergeStringError(
                f"'{self._at(fields[1])}' follows a prompt's tag in '{self.text}'; write weight and vector inside it, "
                "as in <lora:NAME:0.8:lbw=GP1>"
            )
        try:
            tag = read_tag(text)
        except BlockError as error:
            raise MergeStringError(str(error)) from error
        name, one = parse_reference(tag.name), tag.te == tag.unet
        weight, te, unet = (tag.te, 1.0, 1.0) if one else (1.0, tag.te, tag.unet)
        spec = TermSpec(name.name, weight, tag.vector, te, unet, name.selector)
        spans = {key: Span(place.start + start, place.start + end) for key, (start, end) in tag.spans.items()}
        options: dict[str, Span] = {} if one else {key: spans[key] for key in ("te", "unet") if key in spans}
        items = tuple(self._tag_items(spans))
        return ParsedTerm(spec, TermSpans(place, spans["name"], spans.get("weight"), items, options))

    def _tag_items(self, spans: Mapping[str, Span]) -> Iterator[Span]:
        """Where the items of a tag's vector stand."""
        for key in ("lbw", "lbwe", "x", "seed"):
            if key == "lbw" and key in spans:
                start = spans[key].start
                for item in split_items(self._at(spans[key]), strip=False):
                    yield Span(*stripped_span(self.text, start, start + len(item)))
                    start += len(item) + 1
            elif key in spans:
                yield spans[key]

    def _term(self, fields: Sequence[Span]) -> ParsedTerm:
        if is_tag(self._at(fields[0])):
            return self._tag(fields)
        written = self._at(fields[0])
        ref = self._unquoted(written)
        if ref == written and has_full_width_colon(ref):
            raise MergeStringError(
                f"'{ref}' has a full-width colon; write ':' and ',' in its place, and a file of that name in quotes"
            )
        if not ref:
            raise MergeStringError(
                f"'{self.text}' has an empty term; write NAME:weight[:vector], terms parted by one comma"
            )
        if ref.lower() in ("<lora", "<lyco"):
            raise MergeStringError(
                f"a prompt's tag in '{self.text}' is not closed; write it whole, as in <lora:NAME:0.8:lbw=GP1>"
            )
        if len(fields) == 1 and is_number(self._at(fields[0])):
            raise MergeStringError(
                f"'{self._at(fields[0])}' in '{self.text}' is a number, not a LoRA; a vector follows "
                f"a weight, as in A:1:1,0.5,..., and a file of that name needs quotes{decimal_comma_remedy(self.text)}"
            )
        name = parse_reference(ref)
        term = ParsedTerm(TermSpec(name.name, epoch=name.selector), TermSpans(fields[0], fields[0]))
        rest = fields[1:]
        if rest and self._option(rest[0]) is None:
            spec = replace(term.spec, weight=self._weight(self._at(rest[0]), ref))
            spans = replace(term.spans, weight=rest[0], term=Span(term.spans.term.start, rest[0].end))
            term, rest = ParsedTerm(spec, spans), rest[1:]
        if rest and self._option(rest[0]) is None:
            if not self._at(rest[0]):
                raise MergeStringError(f"'{self.text}' has an empty block vector after {ref}; drop the last colon")
            term, rest = self._with_item(term, rest[0], self._at(rest[0])), rest[1:]
        return self._with_options(term, rest)

    @staticmethod
    def _with_item(term: ParsedTerm, span: Span, item: str) -> ParsedTerm:
        """``term`` with one more item of its vector."""
        before = term.spec.vector_text
        spec = replace(term.spec, vector_text=item if before is None else f"{before},{item}")
        spans = replace(term.spans, items=(*term.spans.items, span), term=Span(term.spans.term.start, span.end))
        return ParsedTerm(spec, spans)

    def _with_options(self, term: ParsedTerm, fields: Sequence[Span]) -> ParsedTerm:
        seen: set[str] = set()
        for span in fields:
            option = self._option(span)
            if option is None or option[0] in seen:
                raise MergeStringError(
                    f"'{self._at(span)}' in '{self.text}' is one field too many; a term is "
                    f"NAME:weight[:vector][:te=x][:unet=y]{semicolon_remedy(self.text)}"
                )
            key, value = option
            seen.add(key)
            if key == "lbwe":
                term = self._with_item(term, span, f"lbwe={self._at(value)}")
                continue
            number = self._finite(self._at(value), f"{key}= of {term.spec.ref}")
            spec = replace(term.spec, te=number) if key == "te" else replace(term.spec, unet=number)
            whole = Span(term.spans.term.start, span.end)
            term = ParsedTerm(spec, replace(term.spans, options={**term.spans.options, key: value}, term=whole))
        return term

    def _weight(self, weight: str, ref: str) -> float:
        above, slash, below = weight.partition("/")
        if slash and is_number(above) and is_number(below) and float(below) != 0:
            # 1/3, as an average needs
            return self._finite(repr(float(above) / float(below)), f"the weight of {ref}")
        if not is_number(weight) and weight.lower().lstrip("+-") not in ("nan", "inf", "infinity"):
            hint = decimal_comma_remedy(self.text) if is_number(ref) else ""
            hint = hint or (f"; write {ref}:1:{weight}" if weight else "")
            raise MergeStringError(f"'{weight}' stands where the weight of {ref} should be in '{self.text}'{hint}")
        return self._finite(weight, f"the weight of {ref}")

    def _finite(self, value: str, what: str) -> float:
        if not is_number(value):
            raise MergeStringError(
                f"{what} in '{self.text}' is '{value}'; it should be a finite number, such as -1 or 0.8"
            )
        return float(value)

    def _option(self, span: Span) -> tuple[str, Span] | None:
        """The key of an option in small letters, and where its value stands; None if the field is none."""
        key, separator, _ = self._at(span).partition("=")
        name = key.strip().lower()
        if not separator or name not in _OPTIONS:
            return None
        return name, Span(*stripped_span(self.text, span.start + len(key) + 1, span.end))

    def _continues(self, spec: TermSpec, fields: Sequence[Span]) -> bool:
        """Whether a piece is one more item of the vector before it; a letter with a weight is a LoRA."""
        item = self._at(fields[0])
        if is_placeholder(item) and len(fields) > 1 and self._option(fields[1]) is None:
            return False
        name, separator, value = (part.strip() for part in item.partition("="))
        if separator and name == "lbwe":
            return '"' not in value
        if separator:
            # TE is a block; a small te is the term's option, which follows a colon
            return is_number(value) and '"' not in name and (name == "TE" or name.lower() not in _OPTIONS)
        return _is_weight(item) and all(_is_weight(one) for one in str(spec.vector_text).split(","))

    def _unquoted(self, ref: str) -> str:
        if '"' not in ref:
            return ref
        if len(ref) < 2 or not (ref.startswith('"') and ref.endswith('"')) or '"' in ref[1:-1].replace('""', ""):
            raise MergeStringError(f"in '{self.text}' quotes should enclose a whole name, as in \"a,b.safetensors\":1")
        return ref[1:-1].replace('""', '"')


def _is_weight(item: str) -> bool:
    """Whether an item may stand among a vector's bare numbers."""
    return is_number(item) or is_placeholder(item.strip())
