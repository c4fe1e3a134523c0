"""Where a stored weight goes: to one module, or to several whose rows it holds one after the other.

The original Flux and SD3 networks keep query, key and value (and Flux's single blocks the first feed-forward layer) in
one matrix; Diffusers keeps them apart. Rows of the product are rows of ``up``, so cutting and joining are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loratools.errors import FormatError

Split = Literal["whole", "equal", "shares", "single", "halves", "last halves"]
Rows = tuple[tuple[int, int], ...]  # ranges of rows, in the module's own order

SINGLE_ROWS = 7  # q, k, v of one width each and a feed-forward layer of four: linear1 is 7 widths high


@dataclass(frozen=True)
class FusedWeight:
    """The canonical modules that one stored weight changes.

    Args:
        names: in the order of their rows.
        split: how the stored rows belong to ``names``: ``whole`` one module; ``equal`` parts of one height (qkv);
            ``shares`` parts whose heights stand to each other as ``shares`` do (qkv with fewer heads for keys and
            values); ``single`` three as high as the weight is wide and the rest (Flux's ``linear1``); ``halves`` one
            module whose two halves (shift, scale) stand the other way round; ``last halves`` the same in the one block
            whose modulation has just those two (SD3's last).
        shares: of the split ``shares``, one for each name.
    """

    names: tuple[str, ...]
    split: Split = "whole"
    shares: tuple[int, ...] = ()


def rows_of(fused: FusedWeight, out: int, columns: int | None) -> tuple[Rows, ...]:
    """Which rows of a stored weight (out, columns) each of its modules takes.

    Args:
        columns: None for a bias, whose weight is not in the file.
    Raises:
        FormatError: if ``out`` cannot be split so; the message lacks the file and module, which the caller adds.
    """
    match fused.split:
        case "equal":
            count = len(fused.names)
            _require(out % count == 0, f"{out} rows cannot be cut into {count} equal parts")
            return _ranges([out // count] * count)
        case "shares":
            unit, whole = out // sum(fused.shares), sum(fused.shares)
            _require(out % whole == 0, f"{out} rows cannot be cut into {' + '.join(map(str, fused.shares))} shares")
            return _ranges([share * unit for share in fused.shares])
        case "single":
            width = out // SINGLE_ROWS if columns is None else columns
            _require(out > 3 * width, f"{out} rows are too few for q, k, v of {width} rows and a feed-forward layer")
            return _ranges([width] * 3 + [out - 3 * width])
        case "halves" | "last halves":
            _require(
                columns is not None or fused.split == "halves", "a bias alone does not tell which block is the last"
            )
            if fused.split == "halves" or out == 2 * (columns or 0):
                _require(out % 2 == 0, f"{out} rows have no two halves")
                return (((out // 2, out), (0, out // 2)),)
    return (((0, out),),)


def height_of(fused: FusedWeight, rows: dict[str, int], columns: int | None) -> int:
    """Rows of the stored weight that holds modules of these heights; rows of absent ones follow from the others'.

    Raises:
        FormatError: if parts that should be alike are not.
    """
    if fused.split == "equal":
        heights = set(rows.values())
        _require(len(heights) == 1, f"{', '.join(rows)} have {sorted(heights)} rows and should have the same")
        return len(fused.names) * heights.pop()
    if fused.split == "shares":
        units = {height / fused.shares[fused.names.index(name)] for name, height in rows.items()}
        whole = next(iter(units))
        _require(len(units) == 1 and whole == int(whole), f"{', '.join(rows)} should stand as {fused.shares} in height")
        return int(whole) * sum(fused.shares)
    if fused.split == "single":
        last = fused.names[-1]
        width = columns or next((height for name, height in rows.items() if name != last), rows.get(last, 0) // 4)
        _require(
            all(height == width for name, height in rows.items() if name != last),
            f"{', '.join(rows)} should be {width} rows high",
        )
        return 3 * width + rows.get(last, (SINGLE_ROWS - 3) * width)
    return next(iter(rows.values()))


def count_rows(rows: Rows) -> int:
    """How many rows the ranges hold."""
    return sum(end - start for start, end in rows)


def _ranges(heights: list[int]) -> tuple[Rows, ...]:
    ranges, start = [], 0
    for height in heights:
        ranges.append(((start, start + height),))
        start += height
    return tuple(ranges)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FormatError(message)
