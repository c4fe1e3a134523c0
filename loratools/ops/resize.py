"""Changing a LoRA's rank: first what is really there, then as little of it as a rule allows, the loss stated."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.algebra.rank import Exact, RankRule
from loratools.adapter.files.file import Adapter
from loratools.dtypes import dtype_name
from loratools.ops.merging.combine import combine
from loratools.ops.merging.merge import merge_texts, provenance_of
from loratools.ops.merging.terms import Term
from loratools.ops.merging.write_result import write_result
from loratools.ops.report import MergeReport, grouped
from loratools.ops.text_table import table
from loratools.progress import OnProgress


@dataclass(frozen=True)
class BlockRanks:
    """A block's ranks: the file's own (greatest), and the least and greatest that were kept."""

    before: int
    least: int
    most: int

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"rank_before": self.before, "rank_after": [self.least, self.most]}


@dataclass(frozen=True)
class ResizeReport:
    """The written file, each block's ranks, and how many all-zero modules were left out."""

    stored: MergeReport
    ranks: Mapping[str, BlockRanks]
    zeros: int

    def json(self) -> dict[str, Any]:
        """The written file's report with ``rank_before`` and ``rank_after`` (least and greatest) in each block."""
        stored = self.stored.json()
        blocks = {name: {**stored["blocks"][name], **ranks.json()} for name, ranks in self.ranks.items()}
        return {**stored, "zero_modules": self.zeros, "blocks": blocks}

    def text(self) -> str:
        """A table of ranks and errors by block."""
        rows = [["block", "old rank", "new rank", "error"]]
        for name, ranks in self.ranks.items():
            new = str(ranks.most) if ranks.least == ranks.most else f"{ranks.least}-{ranks.most}"
            rows.append([name, str(ranks.before), new, f"{self.stored.blocks[name].error:.2e}"])
        stored = self.stored
        facts = f"{stored.path}  {stored.modules} modules, {stored.size / 2**20:.1f} MiB, error {stored.error:.2e}"
        zeros = [f"{self.zeros} modules are all zero and were left out"] if self.zeros else []
        return "\n".join([facts, table(rows), *zeros])


def resize_file(
    adapter: Adapter,
    out: str | os.PathLike[str],
    *,
    rule: RankRule | None = None,
    dtype: torch.dtype = torch.float16,
    force: bool = False,
    owner: str = "resize",
    recipe: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> ResizeReport:
    """Write ``adapter`` with other ranks.

    A first pass without loss finds every module's true numerical rank; ``rule`` then takes at most that much.

    Args:
        on_progress: called with (done, all) as modules are decomposed and written.
    Raises:
        RankError: for a rule that cannot be met.
        LoratoolsError: of the kinds that reading ``adapter`` and ``adapter.write`` name.
    """
    rule, target, terms = rule or Exact(), Path(out), [Term(adapter, label=adapter.path.stem)]
    step = {
        "resize": {"name": adapter.path.name, "digest": adapter.digest},
        "rank": rule.text(),
        "dtype": dtype_name(dtype),
    }
    stored = write_result(
        combine(terms),
        target,
        rule=rule,
        dtype=dtype,
        metadata=merge_texts(terms, target),
        force=force,
        provenance=provenance_of(terms, rule, dtype, owner, step, recipe),
        trim=True,
        carried=adapter.carried,
        on_progress=on_progress,
    )
    ranks = {}
    for block, names in grouped(stored.ranks, adapter.family).items():
        kept = [stored.ranks[name] for name in names]
        ranks[block] = BlockRanks(max(adapter.ranks[name] for name in names), min(kept), max(kept))
    return ResizeReport(stored, ranks, len(adapter) - len(stored.ranks))
