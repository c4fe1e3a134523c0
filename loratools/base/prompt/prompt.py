"""The WebUI's prompt syntax, parsed into texts, weights and schedules. No torch here, and no text is an error.

==================================  ==============================================================================
``(a)`` ``(a:1.3)`` ``[a]``         emphasis: times 1.1, 1.3, 1 / 1.1; nested ones multiply
``\\(`` ``\\[`` ``\\)`` ``\\]``         the character itself
``[a:b:0.5]`` ``[a:b:10]``          ``a``, then ``b`` after half of the steps, or after step 10
``[b:10]`` ``[a::10]``              nothing, then ``b``; ``a``, then nothing
``[a|b|c]``                         another one at every step
``BREAK``                           what follows begins a new chunk of 75 tokens
``a AND b :0.7``                    two conditionings, mixed with weights (Composable Diffusion)
==================================  ==============================================================================

Parsed in the WebUI's order: ``AND`` splits the text first, then each conjunct's schedule is resolved into one text for
every stage, and emphasis is read in each of these. As there, brackets that do not pair are literal to the schedule, and
emphasis that is never closed extends to the end. Two things differ from the WebUI: ``BREAK`` inside round brackets
breaks (there the model reads it as a word), and a weight that is no number is text (there it is a crash).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Conjunct", "Piece", "Prompt", "Section", "parse", "sections"]

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r":\s*([-+]?(?:\d+\.?|\d*\.\d+))\s*\Z", re.ASCII)
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*", re.ASCII)
_SCHEDULE = re.compile(r"\\.|[\[\]():|]|[^\\\[\]():|]+|\\")
_EMPHASIS = re.compile(r"\\[\\()\[\]]?|[(\[\])]|:\s*([-+]?[.\d]+)\s*\)|[^\\()\[\]:]+|:", re.ASCII)
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_LOUDER, _SOFTER = 1.1, 1 / 1.1


@dataclass(frozen=True)
class Piece:
    """A run of text and how much its tokens weigh."""

    text: str
    weight: float = 1.0


Section = tuple[Piece, ...]  # between two BREAKs


@dataclass(frozen=True)
class Conjunct:
    """One side of an ``AND``: a text, which may have schedules, and its weight."""

    text: str
    weight: float = 1.0

    def stages(self, steps: int) -> tuple[tuple[int, str], ...]:
        """The texts in order, each with the step (from 0) before which it is used; the last one has no end.

        ``[a:b:10]`` changes after step 10, counted from 0, as in the WebUI's denoiser: eleven steps use ``a``. A number
        with a point is a fraction of ``steps``, one without is a step. For the same reason two steps use the first of
        ``[a|b]``.
        """
        items = _read_schedules(self.text)
        if items is None:
            return ((steps + 1, self.text),)
        stages: list[tuple[int, str]] = []
        for end in sorted({steps, *_changes(items, steps)}):
            text = _text_at(items, end, steps)
            if stages and stages[-1][1] == text:
                stages.pop()
            stages.append((end + 1, text))
        return tuple(stages)


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is written, and its conjuncts: one, unless there is an ``AND``."""

    text: str
    conjuncts: tuple[Conjunct, ...]

    @property
    def whole(self) -> Conjunct:
        """The text with ``AND`` as an ordinary word, as a negative prompt is read."""
        return Conjunct(self.text)

    @property
    def simple(self) -> bool:
        """Whether it is one conjunct of weight 1, and so means the same as a negative prompt."""
        return len(self.conjuncts) == 1 and self.conjuncts[0].weight == 1


def parse(text: str) -> Prompt:
    """``text`` split at ``AND``, with the weight that ends each conjunct (``a cat :1.2``; 1 if there is none)."""
    return Prompt(text, tuple(_conjunct(part) for part in _AND.split(text)))


def _conjunct(text: str) -> Conjunct:
    match = _WEIGHT.search(text)
    weight = float(match[1]) if match else 1.0
    if match is None or not math.isfinite(weight):
        return Conjunct(text)
    return Conjunct(text[: match.start()].rstrip(), weight)


# Emphasis


def sections(text: str) -> tuple[Section, ...]:
    """One stage's text as weighted pieces, in sections between ``BREAK``; neighbours of one weight are one piece."""
    pieces: list[tuple[str, int]] = []
    weights: list[float] = []
    round_open: list[int] = []
    square_open: list[int] = []
    section = 0

    def close(start: int, factor: float) -> None:
        weights[start:] = [weight * factor for weight in weights[start:]]

    for match in _EMPHASIS.finditer(text):
        token, factor = match[0], _factor(match[1])
        if token == "(":
            round_open.append(len(pieces))
        elif token == "[":
            square_open.append(len(pieces))
        elif factor is not None and round_open:
            close(round_open.pop(), factor)
        elif token == ")" and round_open:
            close(round_open.pop(), _LOUDER)
        elif token == "]" and square_open:
            close(square_open.pop(), _SOFTER)
        else:
            plain = [token[1:]] if token[0] == "\\" else _BREAK.split(token)
            pieces += [(part, section + n) for n, part in enumerate(plain)]
            weights += [1.0] * len(plain)
            section += len(plain) - 1
    for start in round_open:
        close(start, _LOUDER)
    for start in square_open:
        close(start, _SOFTER)
    return _merged(pieces, weights, section + 1)


def _factor(number: str | None) -> float | None:
    """None for what is no finite number, such as ``1.2.3``."""
    try:
        value = float(number) if number is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _merged(pieces: Sequence[tuple[str, int]], weights: Sequence[float], count: int) -> tuple[Section, ...]:
    """Pieces, as (text, section's number), in their sections; neighbours of one weight are joined."""
    sections: list[list[Piece]] = [[] for _ in range(count)]
    for (text, section), weight in zip(pieces, weights, strict=True):
        own = sections[section]
        if own and own[-1].weight == weight:
            own[-1] = Piece(own[-1].text + text, weight)
        elif text:
            own.append(Piece(text, weight))
    return tuple(tuple(own) for own in sections)


# Schedules


@dataclass(frozen=True)
class _Scheduled:
    """``[before:after:when]``; ``when`` as it is written."""

    before: list[_Item]
    after: list[_Item]
    when: str

    def step(self, steps: int) -> int:
        """The last step, from 1, that uses ``before``; 0 or less if none does."""
        value = float(self.when) * (steps if "." in self.when else 1)
        return int(max(-1.0, min(value, steps)))


@dataclass(frozen=True)
class _Alternation:
    """``[a|b|c]``"""

    choices: list[list[_Item]]


_Item = str | _Scheduled | _Alternation


class _OpenBracket:
    """A bracket that is not closed yet: its character, and what it holds between separators."""

    def __init__(self, bracket: str) -> None:
        self.bracket = bracket
        self.fields: list[list[_Item]] = [[]]
        self.marks: list[str] = []

    def literal(self) -> Iterator[_Item]:
        """Its content as it was written, the schedules inside still schedules."""
        yield self.bracket
        for n, own in enumerate(self.fields):
            if n:
                yield self.marks[n - 1]
            yield from own


def _read_schedules(text: str) -> list[_Item] | None:
    """``text`` with its schedules as items; None for a text that the WebUI's grammar rejects, all of which is literal:
    one with a ``|`` outside of square brackets, or a backslash at the end.

    Only brackets that pair make schedules. One that closes nothing, or a pair without a meaning (``[a:b]``), makes all
    brackets around it literal.
    """
    top = _OpenBracket("")
    stack = [top]
    for match in _SCHEDULE.finditer(text):
        token = match[0]
        if token == "\\":
            return None
        if token in "[(":
            stack.append(_OpenBracket(token))
        elif token in "|:" and len(stack) > 1:
            stack[-1].marks.append(token)
            stack[-1].fields.append([])
        elif token in "])" and len(stack) > 1:
            items = _closed(stack[-1], token)
            if items is None:
                _make_literal(stack)
                top.fields[0].append(token)
            else:
                stack.pop()
                stack[-1].fields[-1] += items
        else:
            stack[-1].fields[-1].append(token)
    _make_literal(stack)
    return None if "|" in top.fields[0] else top.fields[0]


def _make_literal(stack: list[_OpenBracket]) -> None:
    """Turn all open brackets into literal text."""
    for bracket in stack[1:]:
        stack[0].fields[0] += bracket.literal()
    del stack[1:]


def _closed(bracket: _OpenBracket, mark: str) -> list[_Item] | None:
    """The items that a bracket becomes with its closing ``mark``; None if they do not pair or mean nothing."""
    fields, marks = bracket.fields, "".join(bracket.marks)
    if bracket.bracket == "(":
        return [*bracket.literal(), mark] if mark == ")" and marks in ("", ":") else None
    if mark != "]":
        return None
    if not marks:
        return [*bracket.literal(), mark]
    if marks in (":", "::"):
        when = _number(fields[-1])
        return None if when is None else [_Scheduled(fields[0] if marks == "::" else [], fields[-2], when)]
    return [_Alternation(fields)] if set(marks) == {"|"} else None


def _number(own: Sequence[_Item]) -> str | None:
    """A field that is a number, without the spaces around it."""
    text = own[0] if len(own) == 1 else None
    match = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    return match[1] if match else None


def _changes(items: Sequence[_Item], steps: int) -> Iterator[int]:
    """Steps, from 1, after which a text may change."""
    todo = list(items)
    while todo:
        match todo.pop():
            case _Scheduled() as schedule:
                todo += [*schedule.before, *schedule.after]
                if schedule.step(steps) >= 1:
                    yield schedule.step(steps)
            case _Alternation() as alternation:
                todo += [item for choice in alternation.choices for item in choice]
                yield from range(1, steps + 1)


def _text_at(items: Sequence[_Item], step: int, steps: int) -> str:
    """The text that step ``step``, from 1, uses."""
    texts: list[str] = []
    todo = list(reversed(items))
    while todo:
        match todo.pop():
            case str() as text:
                texts.append(text)
            case _Scheduled() as schedule:
                todo += reversed(schedule.before if step <= schedule.step(steps) else schedule.after)
            case _Alternation() as alternation:
                todo += reversed(alternation.choices[(step - 1) % len(alternation.choices)])
    return "".join(texts)
