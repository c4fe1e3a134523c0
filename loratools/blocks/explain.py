"""A block vector explained: each block's place, what it is known to govern, its weight and its share of a LoRA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from loratools.blocks.vector import BlockVector
from loratools.yamlio import load_yaml

_FILE = Path(__file__).with_name("knowledge.yaml")
_TICKS = " ▁▂▃▄▅▆▇█"
_BAR = 10  # characters of a bar of weight 1


@dataclass(frozen=True)
class Known:
    """What is known of a block: its channels, the size of its map, what it governs, and the source of that."""

    size: str = ""
    governs: str = ""
    source: str = ""


@dataclass(frozen=True)
class BlockShare:
    """A LoRA's part in a block: its modules, and its shares of the squared norm before and after the vector."""

    modules: int
    before: float
    after: float


@dataclass(frozen=True)
class BlockRow:
    """One line of an explanation; ``weight`` is None where the vector does not list the block."""

    block: str
    weight: float | None
    known: Known
    part: BlockShare | None = None

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        known = asdict(self.known)
        known["from"] = known.pop("source")
        return {"block": self.block, "weight": self.weight, **known, **(asdict(self.part) if self.part else {})}


@lru_cache(maxsize=8)
def knowledge(family: str) -> Mapping[str, Known]:
    """What is known of a family's blocks; empty where nothing is."""
    families = load_yaml(_FILE.read_text(encoding="utf-8"), str(_FILE)).data
    body = families.get({"sd2": "sd1"}.get(family, family), {"blocks": {}})
    return {name: Known(item["size"], item["governs"], item["from"]) for name, item in body["blocks"].items()}


def explain(vector: BlockVector, parts: Mapping[str, BlockShare] | None = None) -> list[BlockRow]:
    """The vector, block by block, in its scheme's order; with ``parts``, blocks that only the LoRA has come last."""
    known = knowledge(vector.scheme.family)
    names = [*vector.scheme.names, *(name for name in vector.weights if name not in vector.scheme.names)]
    names = [name for name in names if vector.lists(name) or (parts is not None and name in parts)]
    names += [name for name in parts or {} if name not in names]
    rows = (BlockRow(name, vector.weights.get(name), known.get(name, Known())) for name in names)
    if parts is None:
        return list(rows)
    return [replace(row, part=parts.get(row.block, BlockShare(0, 0.0, 0.0))) for row in rows]


def bar(weight: float) -> str:
    """A bar of ten characters a unit, for a terminal; negative weights are drawn with another stroke."""
    length = min(round(abs(weight) * _BAR), 3 * _BAR)
    return ("█" if weight >= 0 else "▒") * length + ("▏" if weight == 0 else "")


def sparkline(vector: BlockVector) -> str:
    """A vector as one character a block: nothing for 0 or less, a full one for its largest weight, or 1."""
    return sparks(list(vector.weights.values()))


def sparks(values: Sequence[float]) -> str:
    """Numbers as one character each."""
    top = max([1.0, *values])
    return "".join(_TICKS[max(0, min(8, round(8 * value / top)))] for value in values)
