"""The WebUI's prompt syntax, read into what is encoded: no torch here, and no text is an error.

==================================  ==============================================================================
``(a)`` ``(a:1.3)`` ``[a]``         emphasis: times 1.1, 1.3, 1 / 1.1; nested ones multiply
``\\(`` ``\\[`` ``\\)`` ``\\]``         the character itself
``[a:b:0.5]`` ``[a:b:10]``          ``a``, then ``b`` after half of the steps, or after step 10
``[b:10]`` ``[a::10]``              nothing, then ``b``; ``a``, then nothing
``[a|b|c]``                         another one at every step
``BREAK``                           what follows begins a new chunk of 75 tokens
``a AND b :0.7``                    two conditionings, mixed with weights (Composable Diffusion)
==================================  ==============================================================================

Read in the WebUI's order: ``AND`` parts the text first, then each part's schedule is unfolded into one text a stage,
and emphasis is read in each of these. Brackets that do not pair are literal to the schedule, and open emphasis that is
never closed holds to the end, as there. Two things are told from the WebUI: ``BREAK`` inside round brackets breaks
(there it is spoken to the model as a word), and a weight that is no number is text (there it is a crash).
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
    """One side of an ``AND``: a text that may change while the picture is made, and its weight."""

    text: str
    weight: float = 1.0

    def stages(self, steps: int) -> tuple[tuple[int, str], ...]:
        """The texts in turn, each with the step (from 0) before which it holds; the last one holds to the end.

        ``[a:b:10]`` changes once step 10, counted from 0, is done, as the WebUI's denoiser does: eleven steps see
        ``a``. A number with a point is a part of ``steps``, one without is a step. For the same reason the first of
        ``[a|b]`` is seen twice.
        """
        items = _unfold(self.text)
        if items is None:
            return ((steps + 1, self.text),)
        found: list[tuple[int, str]] = []
        for end in sorted({steps, *_changes(items, steps)}):
            text = _text_at(items, end, steps)
            if found and found[-1][1] == text:
                found.pop()
            found.append((end + 1, text))
        return tuple(found)


@dataclass(frozen=True)
class Prompt:
    """A prompt as it stands, and its conjuncts: one, unless there is an ``AND``."""

    text: str
    parts: tuple[Conjunct, ...]

    @property
    def whole(self) -> Conjunct:
        """The text with ``AND`` as a word: what a negative prompt means."""
        return Conjunct(self.text)

    @property
    def simple(self) -> bool:
        """Whether it is one conjunct of weight 1, and so means the same as a negative prompt."""
        return len(self.parts) == 1 and self.parts[0].weight == 1


def parse(text: str) -> Prompt:
    """``text`` parted at ``AND``, with the weight that ends each part (``a cat :1.2``; 1 if there is none)."""
    return Prompt(text, tuple(_conjunct(part) for part in _AND.split(text)))


def _conjunct(text: str) -> Conjunct:
    found = _WEIGHT.search(text)
    weight = float(found[1]) if found else 1.0
    if found is None or not math.isfinite(weight):
        return Conjunct(text)
    return Conjunct(text[: found.start()].rstrip(), weight)


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

    for found in _EMPHASIS.finditer(text):
        token, factor = found[0], _factor(found[1])
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
    found: list[list[Piece]] = [[] for _ in range(count)]
    for (text, section), weight in zip(pieces, weights, strict=True):
        own = found[section]
        if own and own[-1].weight == weight:
            own[-1] = Piece(own[-1].text + text, weight)
        elif text:
            own.append(Piece(text, weight))
    return tuple(tuple(own) for own in found)


# Schedules


@dataclass(frozen=True)
class _Switch:
    """``[before:after:when]``; ``when`` as it is written."""

    before: list[_Item]
    after: list[_Item]
    when: str

    def step(self, steps: int) -> int:
        """The last step, from 1, that sees ``before``; 0 and less if none does."""
        value = float(self.when) * (steps if "." in self.when else 1)
        return int(max(-1.0, min(value, steps)))


@dataclass(frozen=True)
class _Turns:
    """``[a|b|c]``"""

    choices: list[list[_Item]]


_Item = str | _Switch | _Turns


class _Open:
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


def _unfold(text: str) -> list[_Item] | None:
    """``text`` with its schedules as items; None where the WebUI's grammar refuses the text, and so all of it is
    literal: a ``|`` outside of square brackets, or a backslash at the end.

    Only brackets that pair make schedules. One that closes nothing, or a pair that means nothing (``[a:b]``), makes
    every bracket around it literal.
    """
    top = _Open("")
    stack = [top]
    for found in _SCHEDULE.finditer(text):
        token = found[0]
        if token == "\\":
            return None
        if token in "[(":
            stack.append(_Open(token))
        elif token in "|:" and len(stack) > 1:
            stack[-1].marks.append(token)
            stack[-1].fields.append([])
        elif token in "])" and len(stack) > 1:
            made = _closed(stack[-1], token)
            if made is None:
                _give_up(stack)
                top.fields[0].append(token)
            else:
                stack.pop()
                stack[-1].fields[-1] += made
        else:
            top_level = stack[-1]
            top_level.fields[-1].append(token)
    _give_up(stack)
    return None if "|" in top.fields[0] else top.fields[0]


def _give_up(stack: list[_Open]) -> None:
    """All open brackets are literal text."""
    for bracket in stack[1:]:
        stack[0].fields[0] += bracket.literal()
    del stack[1:]


def _closed(bracket: _Open, mark: str) -> list[_Item] | None:
    """What a bracket with its closing ``mark`` is among items; None if it is nothing."""
    fields, marks = bracket.fields, "".join(bracket.marks)
    if bracket.bracket == "(":
        return [*bracket.literal(), mark] if mark == ")" and marks in ("", ":") else None
    if mark != "]":
        return None
    if not marks:
        return [*bracket.literal(), mark]
    if marks in (":", "::"):
        when = _number(fields[-1])
        return None if when is None else [_Switch(fields[0] if marks == "::" else [], fields[-2], when)]
    return [_Turns(fields)] if set(marks) == {"|"} else None


def _number(own: Sequence[_Item]) -> str | None:
    text = own[0] if len(own) == 1 else None
    found = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    return found[1] if found else None


def _changes(items: Sequence[_Item], steps: int) -> Iterator[int]:
    """Steps, from 1, after which a text may change."""
    todo = list(items)
    while todo:
        match todo.pop():
            case _Switch() as switch:
                todo += [*switch.before, *switch.after]
                if switch.step(steps) >= 1:
                    yield switch.step(steps)
            case _Turns() as turns:
                todo += [item for choice in turns.choices for item in choice]
                yield from range(1, steps + 1)


def _text_at(items: Sequence[_Item], step: int, steps: int) -> str:
    """The text that step ``step``, from 1, sees."""
    found: list[str] = []
    todo = list(reversed(items))
    while todo:
        match todo.pop():
            case str() as text:
                found.append(text)
            case _Switch() as switch:
                todo += reversed(switch.before if step <= switch.step(steps) else switch.after)
            case _Turns() as turns:
                todo += reversed(turns.choices[(step - 1) % len(turns.choices)])
    return "".join(found)
