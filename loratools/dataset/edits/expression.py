"""The filter language of bulk edits: ``face_focus and not smile``, ``share>40%``, ``file:10_face/*.png``.

::

    filter     = any-of
    any-of     = all-of {"or" all-of}
    all-of     = one {"and" one}
    one        = "not" one | "(" any-of ")" | comparison | "file:" glob | tag
    comparison = field (">" | ">=" | "<" | "<=" | "=" | "!=") value

A tag is words up to ``and``, ``or``, ``not``, a bracket that stands alone or the end: ``blue hair``, ``blue_hair`` and
``"blue hair"`` are the same, ``*`` and ``?`` stand for any letters, capitals do not count. In double quotes everything
is the tag. Fields of a picture: ``tags`` (how many it has), ``width``, ``height``, ``ratio`` (width to height),
``folder``, ``file``, ``group``. Fields of the tag that an operation is about: ``share`` (of all pictures, with a ``%``
or from 0 to 1), ``count`` (pictures), ``score``, ``category``, ``source``.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from loratools.errors import OptionError, did_you_mean

_WORDS = ("and", "or", "not")
_OF_PICTURE = ("tags", "width", "height", "ratio", "folder", "file", "group")
_OF_TAG = ("share", "count", "score", "category", "source")
_FIELDS = (*_OF_PICTURE, *_OF_TAG)
_TEXTS = ("folder", "file", "group", "category", "source")
_COMPARED = re.compile(r"(?P<field>[A-Za-z]+)\s*(?P<sign>[<>]=?|!=|=)\s*(?P<value>\"[^\"]*\"|[^\s()]*)")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
}


class Subject(Protocol):
    """A picture that a filter is asked about, and the tag that an operation is about, where there is one."""

    @property
    def file(self) -> str:
        """Path from the dataset folder, with ``/``."""

    def has(self, pattern: TagPattern) -> bool:
        """Whether one of its tags, in lower case with spaces, matches."""

    def value(self, field: str) -> float | str | None:
        """A field's value; None where it has none, such as the score of a tag that no tagger gave."""


Filter = Callable[[Subject], bool]


@dataclass(frozen=True)
class Where:
    """A filter that was read.

    Attributes:
        text: as it was written.
        of_tag: whether it asks for a field of the tag that an operation is about.
    """

    text: str
    matches: Filter
    of_tag: bool

    def __call__(self, subject: Subject) -> bool:
        return self.matches(subject)


def normal(tag: str) -> str:
    """A tag as it is compared: lower case, underscores as spaces, brackets without backslashes."""
    return " ".join(tag.replace("\\(", "(").replace("\\)", ")").replace("_", " ").lower().split())


@dataclass(frozen=True)
class TagPattern:
    """A tag, or several by ``*`` and ``?``.

    Attributes:
        name: its :func:`normal` spelling.
        compiled: what matches the spelling of the tags that are meant; None for one without ``*`` and ``?``.
    """

    name: str
    compiled: re.Pattern[str] | None

    def named_by(self, names: Collection[str]) -> bool:
        """Whether one of some names is meant."""
        if self.compiled is None:
            return self.name in names
        return any(map(self.compiled.match, names))


def tag_pattern(tag: str) -> TagPattern:
    """What matches the :func:`normal` spelling of a tag that is written with ``*`` and ``?``."""
    name = normal(tag)
    if not {"*", "?"} & set(name):
        return TagPattern(name, None)
    return TagPattern(name, re.compile(fnmatch.translate(name.replace("[", "[[]"))))


def read_where(text: str, known: Callable[[str], str] = str) -> Where:
    """Read a filter.

    Args:
        known: the tag that a word stands for, such as its translation.
    Raises:
        OptionError: naming the place in the text that cannot be read.
    """
    reader = _Reader(text, known)
    matches = reader.any_of()
    reader.end()
    return Where(text, matches, reader.of_tag)


@dataclass(frozen=True)
class _Piece:
    kind: str
    text: str
    start: int


def _pieces(text: str) -> Iterator[_Piece]:
    place, before = 0, ""  # before: the kind of the piece before, a tag's word or not
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        compared = _COMPARED.match(text, place)
        if compared and (compared["field"].lower() in _FIELDS or compared["value"][:1].isdigit()):
            yield from (_Piece(kind, compared[kind], compared.start(kind)) for kind in ("field", "sign", "value"))
            place, before = compared.end(), "value"
            continue
        piece = _piece(text, place, continues=before == "word")
        yield piece
        place = piece.start + len(piece.text)
        before = "" if piece.text.lower() in _WORDS else piece.kind


def _piece(text: str, place: int, *, continues: bool) -> _Piece:
    """The piece that begins at ``place``.

    Args:
        continues: a word stands before it, so that an opening bracket belongs to the tag: ``miku (vocaloid)``.
    """
    if text[place] == ")" or (text[place] == "(" and not continues):
        return _Piece("bracket", text[place], place)
    if text[place] == "!" and text[place + 1 : place + 2].strip():
        return _Piece("word", "!", place)
    start = place + len("file:") if text.lower().startswith("file:", place) else place
    if text[start : start + 1] == '"':
        end = text.find('"', start + 1) + 1
        if not end:
            raise OptionError(f"the filter '{text}' cannot be read from '{text[start:]}' on: close the quotes")
        return _Piece("quoted" if start == place else "file", text[place:end], place)
    end, depth = start, 0
    while end < len(text) and not text[end].isspace() and (text[end] != ")" or depth):
        depth += (text[end] == "(") - (text[end] == ")")
        end += 1
    return _Piece("word" if start == place else "file", text[place:end], place)


class _Reader:
    """Reads a filter's pieces from left to right."""

    def __init__(self, text: str, known: Callable[[str], str]) -> None:
        self._text, self._known = text, known
        self._pieces = list(_pieces(text))
        self._place = 0
        self.of_tag = False

    def any_of(self) -> Filter:
        """``a or b``"""
        parts = [self._all_of()]
        while self._take("word", "or"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else lambda subject: any(part(subject) for part in parts)

    def _all_of(self) -> Filter:
        parts = [self._one()]
        while self._take("word", "and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda subject: all(part(subject) for part in parts)

    def _one(self) -> Filter:
        if self._take("word", "not") or self._take("word", "!"):
            inner = self._one()
            return lambda subject: not inner(subject)
        if self._take("bracket", "("):
            inner = self.any_of()
            if not self._take("bracket", ")"):
                raise self._error("a closing bracket is missing")
            return inner
        piece = self._next()
        if piece is None or piece.kind == "bracket" or (piece.kind == "word" and piece.text.lower() in _WORDS):
            raise self._error("a tag or a field is missing", piece)
        match piece.kind:
            case "file":
                return _glob(piece.text[len("file:") :].strip('"'))
            case "quoted":
                return self._tag(piece.text.strip('"'))
            case "field":
                return self._comparison(piece)
        words = [piece.text]
        while (after := self._peek()) is not None and after.kind == "word" and after.text.lower() not in _WORDS:
            words.append(after.text)
            self._place += 1
        return self._tag(" ".join(words))

    def _tag(self, text: str) -> Filter:
        if not text.strip():
            raise self._error("a tag is empty")
        pattern = tag_pattern(self._known(text))
        return lambda subject: subject.has(pattern)

    def _comparison(self, field: _Piece) -> Filter:
        name, sign, value = field.text.lower(), self._next(), self._next()
        if name not in _FIELDS:
            hint = did_you_mean(name, _FIELDS)
            raise self._error(f"there is no field '{field.text}'{hint}; there are {', '.join(_FIELDS)}", field)
        if sign is None or value is None or not value.text:
            raise self._error(f"'{name}' is compared with nothing", field)
        self.of_tag = self.of_tag or name in _OF_TAG
        if name in _TEXTS:
            return self._text_comparison(name, sign.text, value)
        number, compare = self._number(value), _COMPARE[sign.text]

        def holds(subject: Subject) -> bool:
            own = subject.value(name)
            return isinstance(own, (int, float)) and compare(own, number)

        return holds

    def _text_comparison(self, name: str, sign: str, value: _Piece) -> Filter:
        if sign not in ("=", "!="):
            raise self._error(f"'{name}' is text: compare it with = or !=", value)
        pattern = re.compile(fnmatch.translate(value.text.strip('"').lower()))
        return lambda subject: (pattern.match(str(subject.value(name) or "").lower()) is not None) == (sign == "=")

    def _number(self, piece: _Piece) -> float:
        text = piece.text.strip('"')
        try:
            return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            raise self._error(f"'{text}' is no number such as 40% or 3", piece) from None

    def end(self) -> None:
        """Raise OptionError if something is left."""
        if (piece := self._peek()) is not None:
            raise self._error("what stands here belongs to nothing: write and, or, or a tag in quotes", piece)

    def _peek(self) -> _Piece | None:
        return self._pieces[self._place] if self._place < len(self._pieces) else None

    def _next(self) -> _Piece | None:
        piece = self._peek()
        self._place += piece is not None
        return piece

    def _take(self, kind: str, text: str) -> bool:
        piece = self._peek()
        if piece is None or piece.kind != kind or piece.text.lower() != text:
            return False
        self._place += 1
        return True

    def _error(self, message: str, piece: _Piece | None = None) -> OptionError:
        where = f" at '{self._text[piece.start :]}'" if piece is not None else ""
        return OptionError(f"the filter '{self._text}' cannot be read{where}: {message}")


def _glob(pattern: str) -> Filter:
    """Whether a file's path, or its name alone where the pattern has no folder, is it or matches it."""
    plain = pattern.replace("\\", "/").lower()
    compiled = re.compile(fnmatch.translate(plain))

    def matches(subject: Subject) -> bool:
        path = subject.file.lower()
        own = path if "/" in plain else path.rpartition("/")[2]
        return own == plain or compiled.match(own) is not None  # brackets in a name are no pattern

    return matches
