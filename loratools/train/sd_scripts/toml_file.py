"""Reading TOML with a place for every key, which tomllib does not keep, so that a mistake has its line and a caret."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from loratools.errors import RecipeError
from loratools.yamlio import Document, Place, SourceSpan

_TOKEN = re.compile(
    r"""(?P<text>\"{3}(?:\\.|[^\\])*?\"{3,5}(?!")|'{3}.*?'{3,5}(?!')|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
    r"""|(?P<comment>\#[^\n]*)|(?P<mark>[\[\]{}=.,\n])|(?P<bare>[^\s\[\]{}=.,\#"']+)""",
    re.DOTALL,
)


def read_toml(path: Path) -> Document:
    """The file's tables, with the span of each key outside of inline tables, and of its value.

    Raises:
        RecipeError: if it cannot be read, or is not TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        data = tomllib.loads(text)
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not UTF-8; save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from error
    reader = _Reader(text)
    reader.read()
    return Document(data, str(path), text, reader.spans, reader.keys)


class _Reader:
    """Finds the keys of a text that is known to be TOML."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.keys: dict[Place, SourceSpan] = {}
        self.spans: dict[Place, SourceSpan] = {(): SourceSpan(1, 1, 0, 0)}
        self._tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "comment"]
        self._at = 0
        self._table: Place = ()
        self._counts: dict[Place, int] = {}  # tables of each array of tables so far

    def read(self) -> None:
        """Go through all lines."""
        while self._at < len(self._tokens):
            match self._tokens[self._at][0]:
                case "\n":
                    self._at += 1
                case "[":
                    self._header()
                case _:
                    self._pair()

    def _header(self) -> None:
        """``[table]`` or ``[[array of tables]]``; what follows stands in it."""
        start = self._tokens[self._at]
        line = self._line()
        tokens = [token for token in line if token[0] not in ("[", "]")]
        names, several = self._names(tokens), line[1][0] == "[" and line[1].start() == start.end()
        place: Place = ()
        for number, name in enumerate(names, 1):
            place = (*place, name)
            if several and number == len(names):
                self._counts[place] = self._counts.get(place, 0) + 1
            if place in self._counts:
                place = (*place, self._counts[place] - 1)
        self._table = place
        self.spans[place] = self.keys[place] = self._span(tokens[0].start(), tokens[-1].end())

    def _pair(self) -> None:
        """``key = value``, the value perhaps over several lines."""
        begun = self._at
        while self._tokens[self._at][0] != "=":
            self._at += 1
        key = self._tokens[begun : self._at]
        place = (*self._table, *self._names(key))
        self._at += 1
        value = self._line()
        self.keys[place] = self._span(key[0].start(), key[-1].end())
        self.spans[place] = self._span(value[0].start(), value[-1].end())

    def _line(self) -> list[re.Match[str]]:
        """The tokens up to the end of the line at which every bracket is closed."""
        begun, depth = self._at, 0
        while self._at < len(self._tokens) and (depth or self._tokens[self._at][0] != "\n"):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(self._tokens[self._at][0], 0)
            self._at += 1
        return self._tokens[begun : self._at]

    def _names(self, tokens: list[re.Match[str]]) -> list[str]:
        return [_name(token) for token in tokens if token[0] != "."]

    def _span(self, start: int, end: int) -> SourceSpan:
        line = self.text.count("\n", 0, start) + 1
        return SourceSpan(line, start - self.text.rfind("\n", 0, start), start, end)


def _name(token: re.Match[str]) -> str:
    """A key as it is meant: bare, or without its quotes."""
    if token.lastgroup != "text":
        return token[0]
    named: dict[str, Any] = tomllib.loads(f"{token[0]} = 0")
    return next(iter(named))
