"""What a merge would do: which file changes which block, by how much, and how much of the result it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loratools.adapter.parallel import in_order
from loratools.blocks.scheme import NO_BLOCK, full_scheme, sorted_blocks
from loratools.ops.merging.combine import combine
from loratools.ops.merging.terms import Term, warnings_of_terms
from loratools.ops.text_table import table

_SHOWN = 8  # names of modules in no block that the text lists; the JSON has all


@dataclass(frozen=True)
class PlanRow:
    """One file's part in one block: ``weight`` = weight x vector x split; ``share`` of the sum of squared norms.

    A block whose modules have several weights, by elemental rules, has a row for each.
    """

    file: str
    block: str
    weight: float
    modules: int
    share: float


@dataclass(frozen=True)
class MergePlan:
    """Rows by file and block, the modules that are in no block (they take the strength x 1), and what to mind.

    Attributes:
        method: what is made of the terms in place of their sum, in words; empty for the sum.
    """

    rows: tuple[PlanRow, ...]
    unblocked: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    method: str = ""

    def json(self) -> dict[str, Any]:
        """``{"rows": [{"file","block","weight","modules","share"}], "unblocked": [...], "warnings": [...]}``, and
        ``method`` where it is not the sum."""
        rows = [
            {"file": r.file, "block": r.block, "weight": r.weight, "modules": r.modules, "share": r.share}
            for r in self.rows
        ]
        method = {"method": self.method} if self.method else {}
        return {"rows": rows, "unblocked": list(self.unblocked), "warnings": list(self.warnings), **method}

    def text(self) -> str:
        """An aligned table, and lines about modules in no block and what to mind if there are any."""
        cells = [[r.file, r.block, f"{r.weight:g}", str(r.modules), f"{100 * r.share:.1f} %"] for r in self.rows]
        lines = [table([["file", "block", "weight", "modules", "share"], *cells])]
        if self.unblocked:
            shown = ", ".join(self.unblocked[:_SHOWN])
            more = f" and {len(self.unblocked) - _SHOWN} more" if len(self.unblocked) > _SHOWN else ""
            lines.append(f"in no block, so at the strength x 1: {shown}{more}")
        lines += [f"not their sum: {self.method}"] if self.method else []
        lines += [f"warning: {text}" for text in self.warnings]
        return "\n".join(lines)


def plan(terms: Sequence[Term]) -> MergePlan:
    """The resolved plan of a merge.

    ``share`` is a row's part of ``sum |w d|^2`` over all rows, so that shares add up to 1.

    Raises:
        LoratoolsError: for whatever :func:`loratools.ops.merging.merge.combine` refuses.
    """
    warnings = warnings_of_terms(terms)
    terms = combine(terms).terms
    items = [(index, name) for index, term in enumerate(terms) for name in term.adapter]

    def measure(item: tuple[int, str]) -> tuple[int, str, float]:
        index, name = item
        return index, name, (terms[index].strength(name) * terms[index].adapter[name].norm()) ** 2

    groups: dict[tuple[int, str, float], list[float]] = {}
    blocks = full_scheme(terms[0].adapter.family)
    present = (block for _, name in items if (block := blocks.block_of(name)) is not None)
    order = {name: position for position, name in enumerate((*sorted_blocks(blocks, present), NO_BLOCK))}
    for index, name, square in in_order(measure, items):
        key = (index, blocks.block_of(name) or NO_BLOCK, terms[index].strength(name))
        groups.setdefault(key, []).append(square)
    total = sum(sum(group) for group in groups.values()) or 1.0
    rows = tuple(
        PlanRow(terms[index].label or terms[index].adapter.path.name, block, weight, len(squares), sum(squares) / total)
        for (index, block, weight), squares in sorted(groups.items(), key=lambda item: (item[0][0], order[item[0][1]]))
    )
    unblocked = dict.fromkeys(name for term in terms for name in term.adapter if blocks.block_of(name) is None)
    return MergePlan(rows, tuple(unblocked), warnings)
