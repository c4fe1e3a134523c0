"""Numbers as people write them for a grid: ours (``0:1:0.25``), the WebUI's (``0-1 (+0.25)``, ``0-1 [5]``), and lists.

The end of a range is included and never exceeded: the WebUI's own ``0-1 (+0.3)`` runs on to 1.2, here it ends at 0.9.
Steps are taken in decimals, so ``0:1:0.1`` holds 0.3 and not 0.30000000000000004.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation

from loratools.errors import GridError

MOST = 1000  # values on one axis
_NUMBER = r"(?:[+-]\s*)?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WEBUI = re.compile(
    rf"(?P<start>{_NUMBER})\s*-\s*(?P<end>{_NUMBER})\s*(?:\(\s*(?P<step>{_NUMBER})\s*\)|\[\s*(?P<count>\d+)\s*\])?"
)
_SIZE = re.compile(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*")
_FORMS = "START:END:STEP such as 0:1:0.25, 0-1 (+0.25), 0-1 [5], or a list 0,0.5,1"


def parse_numbers(text: str, what: str = "weights") -> tuple[float, ...]:
    """The numbers that ``text`` means, in order and without repetition; ``what`` names them in an error.

    Raises:
        GridError: if it is not that, or gives more than a thousand.
    """
    return tuple(float(value) for value in _parse(text, what, whole=False))


def parse_integers(text: str, what: str) -> tuple[int, ...]:
    """Whole numbers, likewise; ``1-10 [4]`` is cut to whole ones, as in the WebUI.

    Raises:
        GridError: as :func:`parse_numbers`, and for a number that is not whole.
    """
    values = _parse(text, what, whole=True)
    if broken := next((value for value in values if value != value.to_integral_value()), None):
        raise GridError(
            f"'{text}' gives {broken} for the {what}, which have to be whole numbers; the nearest is "
            f"{int(broken.to_integral_value())}"
        )
    return tuple(int(value) for value in values)


def parse_weights(text: str) -> tuple[float, ...]:
    """``0:1:0.25`` (the end is included, and never passed), ``0-1 (+0.25)``, ``0,0.5,1``, or several of them mixed.

    Raises:
        GridError: if it is not that, or gives more than a thousand weights.
    """
    return parse_numbers(text, "weights")


def with_base_first(weights: Iterable[float]) -> tuple[float, ...]:
    """The weights without repetition, with 0 (the base itself) in front.

    Raises:
        GridError: if one is not finite.
    """
    rest = []
    for weight in weights:
        if not abs(weight) < float("inf"):
            raise GridError(f"a weight of {weight} makes no picture; use finite numbers")
        rest.append(float(weight))
    return (0.0, *dict.fromkeys(weight for weight in rest if weight != 0))


def parse_seeds(text: str) -> tuple[int, ...]:
    """``1,2`` or ``1-4`` or ``1-9 (+2)`` or several of them.

    Raises:
        GridError: if it is not that, or no generator takes one of them.
    """
    return check_seeds(parse_integers(text, "seeds"))


def parse_size(text: str) -> tuple[int, int]:
    """``512x768`` (width x height, as the WebUI writes it) as (height, width); ``512`` is a square.

    Raises:
        GridError: if it is not that.
    """
    if text.strip().isdigit():
        text = f"{text}x{text}"
    match = _SIZE.fullmatch(text)
    if not match:
        raise GridError(f"'{text}' is not a size; write WIDTHxHEIGHT such as 512x768")
    return int(match[2]), int(match[1])


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds without repetition.

    Raises:
        GridError: if there are none, or one is outside what torch's generators take.
    """
    if not seeds:
        raise GridError("there is no seed; give at least one")
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise GridError(f"{seed} is not a seed; use whole numbers from 0 to 2**63 - 1")
    return tuple(dict.fromkeys(seeds))


def _parse(text: str, what: str, *, whole: bool) -> tuple[Decimal, ...]:
    values: list[Decimal] = []
    for item in text.split(","):
        if not item.strip():
            raise GridError(f"'{text}' has an empty place between commas in the {what}; write {_FORMS}")
        values += _item(item.strip(), text, what, whole)
        if len(values) > MOST:
            raise GridError(f"'{text}' asks for {len(values)} {what} or more; use at most {MOST}")
    return tuple(dict.fromkeys(values))


def _item(item: str, text: str, what: str, whole: bool) -> Iterator[Decimal]:
    match = _WEBUI.fullmatch(item)
    if match:
        start, end = (Decimal("".join(match[side].split())) for side in ("start", "end"))
        if match["count"]:
            return _spread(start, end, int(match["count"]), item, what, whole)
        return _steps(
            start,
            end,
            Decimal("".join((match["step"] or "1").split())).copy_abs() * _sign(match["step"], start, end),
            item,
            what,
        )
    parts = [_decimal(part, text, what) for part in item.split(":")]
    match parts:
        case [value]:
            return iter((value,))
        case [start, end, step]:
            return _steps(start, end, step if end >= start else -step.copy_abs(), item, what)
    raise GridError(f"'{item}' is neither a number nor a range of {what}; write {_FORMS}")


def _sign(step: str | None, start: Decimal, end: Decimal) -> int:
    """Down where the end lies below; a step that is written as negative goes down in any case."""
    return -1 if end < start or (step or "").startswith("-") else 1


def _steps(start: Decimal, end: Decimal, step: Decimal, item: str, what: str) -> Iterator[Decimal]:
    if step == 0 or (step < 0 and end > start):
        raise GridError(f"'{item}' never reaches {end}; use a step such as 0.25 in START:END:STEP")
    count = int((end - start) / step) + 1
    if count > MOST:
        raise GridError(f"'{item}' asks for {count} {what}; use at most {MOST}")
    return (start + step * n for n in range(count))


def _spread(start: Decimal, end: Decimal, count: int, item: str, what: str, whole: bool) -> Iterator[Decimal]:
    if not 1 <= count <= MOST:
        raise GridError(f"'{item}' asks for {count} {what}; use 1 to {MOST}")
    gap = (end - start) / (count - 1) if count > 1 else Decimal(0)
    values = (start + gap * n for n in range(count))
    return (Decimal(int(value)) if whole else round(value, 10).normalize() for value in values)


def _decimal(text: str, whole: str, what: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise GridError(f"'{text}' in the {what} '{whole}' is not a number; write {_FORMS}")
    return value
