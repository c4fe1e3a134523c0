"""A style LoRA's file with the base's own style removed, and a report of what was removed and kept, block by block."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.algebra.rank import Exact, RankRule
from loratools.adapter.files.passthrough import all_carried
from loratools.adapter.parallel import in_order
from loratools.blocks.vector import BlockVector
from loratools.dtypes import dtype_name
from loratools.ops.merging.combine import combine
from loratools.ops.merging.merge import adapters_of, merge_files, merge_texts, provenance_of, term_facts
from loratools.ops.merging.terms import Term, named_alike, warnings_of_terms
from loratools.ops.merging.write_result import write_result
from loratools.ops.report import MergeReport, grouped
from loratools.ops.style_removal import Removal, StyleRemoval, SubtractMethod
from loratools.ops.text_table import table
from loratools.progress import OnProgress, counted, part_of


@dataclass(frozen=True)
class SubtractReport:
    """What was removed, in total and by block, the written file (None for a dry run), and what to mind."""

    method: SubtractMethod
    total: Removal
    blocks: Mapping[str, Removal]
    stored: MergeReport | None
    warnings: tuple[str, ...] = ()

    @property
    def written(self) -> MergeReport:
        """The written file's report; ValueError after a dry run."""
        if self.stored is None:
            raise ValueError("nothing was written: no file was named")
        return self.stored

    def json(self) -> dict[str, Any]:
        """The written file's report, with ``cosine``, ``removed`` and ``kept`` in each block and in total."""
        stored = self.stored.json() if self.stored else {"blocks": {}}
        blocks = {name: {**stored["blocks"].get(name, {}), **one.json()} for name, one in self.blocks.items()}
        shares = {**self.method.json(), **self.total.json()}
        return {**stored, **shares, "blocks": blocks, "warnings": list(self.warnings)}

    def text(self) -> str:
        """A table of blocks over the written file's own report."""
        rows = [["block", "cosine", "energy removed", "norm kept"]]
        shares = [*self.blocks.items(), ("total", self.total)]
        rows += [[name, f"{one.cosine:.3f}", f"{100 * one.removed:.1f} %", f"{one.kept:.3f}"] for name, one in shares]
        return "\n\n".join([table(rows), *([self.stored.text()] if self.stored else [])])


def subtract_files(
    style: Sequence[Term],
    base: Sequence[Term],
    out: str | os.PathLike[str] | None,
    *,
    method: SubtractMethod,
    vector: BlockVector | None = None,
    missing: float | None = None,
    rule: RankRule | None = None,
    dtype: torch.dtype = torch.float16,
    force: bool = False,
    owner: str = "subtract",
    recipe: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> SubtractReport:
    """Remove ``base`` from ``style`` and write the result; with ``out`` None only say what would be removed.

    Args:
        vector: how strongly in each block, 1 everywhere if None; on top of the terms' own weights and vectors.
        missing: the weight of blocks that ``vector`` does not list; None makes modules there an error.
        on_progress: called with (done, all) as modules are measured and written.
    Raises:
        LoratoolsError: of the kinds that :func:`loratools.ops.merging.merge.merge_files` names; ShapeError and
            FormatError if the two sides were trained on different bases.
    """
    rule = rule or Exact()
    if vector is None:
        alike = named_alike([*style, *base])
        style, base = alike[: len(style)], alike[len(style) :]
    warnings = warnings_of_terms([*style, *base])
    asked = combine([*style, *(_removed(term, vector, missing) for term in base)]).terms  # of both sides together
    style, removed = asked[: len(style)], asked[len(style) :]
    base = [replace(term, adapter=own.adapter) for term, own in zip(base, removed, strict=True)]
    source = StyleRemoval(
        combine(style), combine(base), method, [replace(term, weight=-term.weight) for term in removed]
    )
    measured = out is None or method.mode == "direct"
    names = list(source.all_names if method.mode == "direct" else source)
    passes = 2 if measured and out is not None else 1
    if measured:
        for _ in counted(in_order(source.measure, names), len(names), part_of(on_progress, 0, passes, len(names))):
            pass
    last = part_of(on_progress, passes - 1, passes, len(names))
    stored = None
    if out is not None:
        target, step = Path(out), _step(style, removed, method, rule, dtype)
        if vector is not None and method.mode != "direct":  # else the weights are a part of what is subtracted
            own = [_removed(term, None, missing) for term in base]
            step = _step(style, own, method, rule, dtype, _strengths(vector, removed[0].missing))
        if method.mode == "direct":
            stored = merge_files(
                asked,
                target,
                rule=rule,
                dtype=dtype,
                force=force,
                owner=owner,
                step=step,
                recipe=recipe,
                on_progress=last,
            )
        else:
            stored = write_result(
                source,
                target,
                rule=rule,
                dtype=dtype,
                metadata=merge_texts(style, target),
                force=force,
                provenance=provenance_of(asked, rule, dtype, owner, step, recipe),
                carried=all_carried(adapters_of(style)),
                on_progress=last,
            )
    groups = grouped(source.removed, source.family)
    blocks = {block: sum((source.removed[name] for name in names), Removal()) for block, names in groups.items()}
    return SubtractReport(method, sum(source.removed.values(), Removal()), blocks, stored, warnings)


def _removed(term: Term, vector: BlockVector | None, missing: float | None) -> Term:
    both = vector if term.vector is None or vector is None else term.vector.composed(vector)
    return replace(
        term, weight=-term.weight, vector=both or term.vector, missing=term.missing if missing is None else missing
    )


def _step(
    style: Sequence[Term],
    removed: Sequence[Term],
    method: SubtractMethod,
    rule: RankRule,
    dtype: torch.dtype,
    blocks: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "subtract": {
            "style": [term_facts(term) for term in style],
            "base": [term_facts(t) for t in removed],
            **method.json(),
            **(blocks or {}),
        },
        "rank": rule.text(),
        "dtype": dtype_name(dtype),
    }


def _strengths(blocks: BlockVector, missing: float | None) -> dict[str, Any]:
    """``blocks`` for the header: weight by block, and by elemental rule; and what blocks that are not listed get."""
    weights = {**blocks.weights, **{rule.where: rule.weight for rule in blocks.rules}}
    return {"blocks": weights, **({} if missing is None else {"missing": missing})}
