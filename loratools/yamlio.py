"""Reading YAML the way people expect: YAML 1.2's core schema, no duplicate keys, and a place for every value.

PyYAML reads YAML 1.1, in which ``0:30:15`` is a number in base 60, ``no`` is false and ``1e-4`` is text. Here
``0:1:0.1``, ``no`` and ``2024-01-01`` stay text, and ``1e-4`` is a number. Only plain data comes out: mappings with
text keys, lists, text, numbers, booleans and null; any other tag is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from loratools.errors import RecipeError

Place = tuple[str | int, ...]  # the keys and list positions from the document's root to a value

_PREFIX = "tag:yaml.org,2002:"
_MOST_VALUES = 100_000  # a small file of nested aliases can name billions of values
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_CORE = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ("~", "n", "N", "")),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), tuple("tTfF")),
    ("int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), tuple("-+0123456789")),
    (
        "float",
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        tuple("-+.0123456789"),
    ),
)


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's scanner and composer with YAML 1.2's core table of plain scalars in place of 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own design)


for _name, _pattern, _first in _CORE:
    _CoreLoader.add_implicit_resolver(_PREFIX + _name, _pattern, list(_first))


@dataclass(frozen=True)
class SourceSpan:
    """Where a value stands in its text: one-based line and column, and the half-open range of characters.

    ``source`` is set where the text is another file's than the document's own (an included one).
    """

    line: int
    column: int
    start: int
    end: int
    source: str | None = None


@dataclass(frozen=True)
class Document:
    """Plain data, with the place of each key and value: ``spans`` by path, ``keys`` by the path of their value.

    ``others`` are the texts of included files, by their source.
    """

    data: Any
    source: str
    text: str
    spans: Mapping[Place, SourceSpan]
    keys: Mapping[Place, SourceSpan]
    others: Mapping[str, str] = field(default_factory=dict)

    def span(self, path: Place) -> SourceSpan:
        """The place of the key at ``path``, of the value where it has no key, or of the nearest parent that exists."""
        for length in range(len(path), -1, -1):
            span = self.keys.get(path[:length]) or self.spans.get(path[:length])
            if span is not None:
                return span
        return SourceSpan(1, 1, 0, 0)

    def within(self, place: Place) -> Document:
        """The part of this document under ``place``, whose paths then start there."""
        data = self.data
        for part in place:
            data = data[part]
        size = len(place)
        spans = {path[size:]: span for path, span in self.spans.items() if path[:size] == place}
        keys = {path[size:]: span for path, span in self.keys.items() if path[:size] == place}
        return Document(data, self.source, self.text, spans, keys, self.others)

    def moved(self, data: Any, places: Mapping[Place, Place]) -> Document:
        """A document of ``data``, made from this one's, that knows in which line of this text each part stands.

        Args:
            places: the place of a part here -> its place in ``data``; what lies inside of it moves along.
        """

        def moved(spans: Mapping[Place, SourceSpan]) -> dict[Place, SourceSpan]:
            result: dict[Place, SourceSpan] = {(): SourceSpan(1, 1, 0, 0)}
            for path, span in spans.items():
                for size in range(len(path), 0, -1):
                    if (place := places.get(path[:size])) is not None:
                        result[(*place, *path[size:])] = span
                        break
            return result

        return Document(data, self.source, self.text, moved(self.spans), moved(self.keys), self.others)

    def json(self) -> dict[str, Any]:
        """As JSON values, for another process."""

        def places(spans: Mapping[Place, SourceSpan]) -> list[Any]:
            return [[list(path), *astuple(span)] for path, span in spans.items()]

        return {
            "data": self.data,
            "source": self.source,
            "text": self.text,
            "spans": places(self.spans),
            "keys": places(self.keys),
            "others": dict(self.others),
        }

    @staticmethod
    def of_json(values: Mapping[str, Any]) -> Document:
        """The document that :meth:`json` was made of."""
        places = {name: {tuple(path): SourceSpan(*span) for path, *span in values[name]} for name in ("spans", "keys")}
        return Document(**{**values, **places})

    def where(self, path: Place) -> str:
        """``FILE, line N: a.b.c``, for the start of an error message."""
        dotted = ".".join(str(part) for part in path)
        span = self.span(path)
        return f"{span.source or self.source}, line {span.line}" + (f": {dotted}" if dotted else "")

    def error(self, path: Place, message: str, word: str | None = None) -> RecipeError:
        """A RecipeError that names the place, with its line and a caret under the word as ``excerpt``.

        Args:
            word: the very word that is wrong; by default the message's own first quoted one that stands there.
        """
        excerpt = self.excerpt(path, word, message)
        return RecipeError(f"{self.where(path)}: {message}", excerpt, place=path, reason=message)

    def excerpt(self, path: Place, word: str | None = None, message: str = "") -> str:
        """The line of ``path`` with carets under the word that is meant, and ``FILE:line:column`` above it."""
        span = self.span(path)
        text = self.others.get(span.source, "") if span.source else self.text
        value = next((self.spans[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.spans), span)
        start, end = _word(text, (span.start, max(span.end, value.end)), word, message) or (span.start, span.end)
        begin = text.rfind("\n", 0, start) + 1
        line = text[begin:].partition("\n")[0].rstrip("\r")
        number = text.count("\n", 0, start) + 1
        width = max(1, min(end, begin + len(line)) - start)
        gutter = " " * len(str(number))
        return (
            f"{gutter}--> {span.source or self.source}:{number}:{start - begin + 1}\n{number} | {line}\n"
            f"{gutter} | {_blank(line[: start - begin])}{'^' * width}"
        )


def _word(text: str, within: tuple[int, int], word: str | None, message: str) -> tuple[int, int] | None:
    """Where the word stands inside the range; failing that, the first of the message's quoted words that does."""
    start, end = within
    for wanted in [word] if word else re.findall(r"'([^'\n]+)'", message):
        at = text.find(wanted, start, end)
        if at >= 0:
            return at, at + len(wanted)
    return None


def _blank(text: str) -> str:
    """Spaces as wide as ``text``; tabs stay, so that what follows stands below."""
    return re.sub(r"[^\t]", " ", text)


def load_yaml(text: str, source: str = "<text>") -> Document:
    """Read one YAML document.

    Raises:
        RecipeError: if the text is no YAML, repeats a key, holds several documents, or asks for a type of its own.
    """
    builder = _Builder(source)
    try:
        root = _CoreLoader(text).get_single_node()
        data = None if root is None else builder.build(root, ())
    except yaml.MarkedYAMLError as error:
        raise RecipeError(_syntax_message(error, source), _syntax_excerpt(error, source, text)) from error
    except yaml.reader.ReaderError as error:
        raise RecipeError(
            f"{source}: character {error.position} cannot stand in YAML; save the file as UTF-8"
        ) from error
    except RecursionError as error:
        raise RecipeError(f"{source}: nested too deeply to be read") from error
    return Document(data, source, text, builder.spans, builder.keys)


def read_yaml(path: str | Path) -> Document:
    """Read the YAML file at ``path`` (UTF-8, with or without a byte order mark).

    Raises:
        RecipeError: if the file is missing or unreadable, or for any reason of :func:`load_yaml`.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    return load_yaml(text, str(path))


class _Builder:
    """Turns composed nodes into plain data and remembers where each came from."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.spans: dict[Place, SourceSpan] = {}
        self.keys: dict[Place, SourceSpan] = {}

    def build(self, node: yaml.Node, path: Place, above: tuple[int, ...] = ()) -> Any:
        self.spans[path] = _span(node)
        if id(node) in above or len(self.spans) > _MOST_VALUES:
            raise self._error(node, "an alias that holds itself, or too many of them")
        above = (*above, id(node))
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path, above)
            case yaml.SequenceNode():
                self._plain(node, "seq")
                return [self.build(item, (*path, index), above) for index, item in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node)
        raise self._error(node, "only mappings, lists and plain values are supported")

    def _mapping(self, node: yaml.MappingNode, path: Place, above: tuple[int, ...]) -> dict[str, Any]:
        self._plain(node, "map")
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key must be text")
            key = _joined(key_node.value)
            if key in result:
                first = self.keys[(*path, key)].line
                raise self._error(key_node, f"the key '{key}' is already given in line {first}; remove one of the two")
            self.keys[(*path, key)] = _span(key_node)
            result[key] = self.build(value_node, (*path, key), above)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> str | int | float | bool | None:
        text = node.value
        match node.tag.removeprefix(_PREFIX):
            case "str":
                return _joined(text)
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return bool(text.lower() == "true")
            case "int" if _CORE[2][1].match(text):
                return _integer(text)
            case "float" if _CORE[3][1].match(text) or _CORE[2][1].match(text):
                return _float(text)
            case "bool" | "int" | "float" as name:
                raise self._error(node, f"'{text}' is not of the type !!{name}")
        raise self._error(node, f"the tag '{node.tag}' is not supported; write plain values")

    def _plain(self, node: yaml.Node, name: str) -> None:
        if node.tag != _PREFIX + name:
            raise self._error(node, f"the tag '{node.tag}' is not supported; write plain values")

    def _error(self, node: yaml.Node, message: str) -> RecipeError:
        return RecipeError(f"{self.source}, line {node.start_mark.line + 1}: {message}")


def _joined(text: str) -> str:
    """``text`` with each pair of surrogates as the character that it means: JSON writes an emoji as two escapes, which
    YAML reads one by one."""
    return _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    digits = text[2:] if base != 10 else text
    return int(digits, base) if len(digits) <= 1000 else 10**1000


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _span(node: yaml.Node) -> SourceSpan:
    start, end = node.start_mark, node.end_mark
    return SourceSpan(start.line + 1, start.column + 1, start.index, end.index)


def _syntax_excerpt(error: yaml.MarkedYAMLError, source: str, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return ""
    return Document(
        None, source, text, {(): SourceSpan(mark.line + 1, mark.column + 1, mark.index, mark.index + 1)}, {}
    ).excerpt(())


def _syntax_message(error: yaml.MarkedYAMLError, source: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    hint = "; indent with spaces, not tabs" if "\\t" in str(error.problem) else ""
    problem = str(error.problem or error.context).removeprefix("but ")
    return f"{source}{place}: not YAML: {problem}{hint}"
