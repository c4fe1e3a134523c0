"""The merge: the exact weighted sum of adapters, and only if a rank is asked for, its best approximation.

``combine`` is the one definition of what strength, block vector and alpha mean; previews use it too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from loratools import files
from loratools.adapter.algebra.rank import Exact, RankRule
from loratools.adapter.files.file import Adapter
from loratools.adapter.files.lora_file import KeyRules
from loratools.adapter.files.metadata import Provenance, guard_overwrite, inherited, merged_header
from loratools.adapter.files.passthrough import all_carried
from loratools.adapter.parallel import in_order
from loratools.dtypes import dtype_name
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.method import EXACT, MergeMethod
from loratools.ops.merging.plan import MergePlan, PlanRow, plan
from loratools.ops.merging.terms import Term, warnings_of_terms
from loratools.ops.merging.verify import verify
from loratools.ops.merging.write_result import Prepared, stored_result, write_result
from loratools.ops.report import MergeReport, Verification
from loratools.progress import OnProgress

__all__ = [
    "Combined",
    "MergePlan",
    "MergeReport",
    "PlanRow",
    "Verification",
    "combine",
    "merge_files",
    "plan",
    "verify",
]


def merge_files(
    terms: Sequence[Term],
    out: str | os.PathLike[str],
    *,
    rule: RankRule | None = None,
    dtype: torch.dtype = torch.float16,
    force: bool = False,
    owner: str = "merge",
    step: Mapping[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    method: MergeMethod = EXACT,
    recipe: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> MergeReport:
    """Write the weighted sum of ``terms``, or what ``method`` makes of them, as one LoRA file.

    Args:
        rule: how the rank is chosen; None or ``Exact()`` keeps the exact sum.
        dtype: storage type.
        force: overwrite a file that ``owner`` did not write.
        owner: the recipe step or command that may write this file again.
        step: the resolved step for the header; by default the terms, the rule and the dtype.
        metadata: header text over what is merged from the parts.
        method: of one that is not the exact sum, the report's ``distance`` says how far the two are apart. Terms are
            summed as they are given; ``method.prepared`` is the caller's to call.
        recipe: the recipe that the merge is of, for the header.
        on_progress: as for :func:`loratools.ops.merging.write_result.write_result`.
    Raises:
        LoratoolsError: of the kinds that :func:`combine` and ``adapter.write`` name; RankError for an impossible rule.
    """
    rule, target, result = rule or Exact(), Path(out), method.result(terms)
    guard_overwrite(target, owner, force)
    for _ in in_order(lambda adapter: adapter.digest, adapters_of(terms)):
        pass  # each keeps its own, which the header is about to name
    texts = merge_texts(terms, target, metadata)
    made = provenance_of(terms, rule, dtype, owner, step or _resolved(terms, rule, dtype, method), recipe)
    report = write_result(
        result or combine(terms),
        target,
        rule=rule,
        dtype=dtype,
        metadata=texts,
        provenance=made,
        force=force,
        carried=all_carried(adapters_of(terms)),
        on_progress=on_progress,
    )
    report = replace(report, warnings=warnings_of_terms(terms))
    return report if result is None else replace(report, distance=verify(target, terms, KeyRules(allow_unknown=True)))


def merge_in_memory(
    terms: Sequence[Term], *, rule: RankRule, dtype: torch.dtype, method: MergeMethod = EXACT, name: str = "merged"
) -> Prepared:
    """What :func:`merge_files` would store, lazily by module: nothing is written.

    Args:
        name: of the file that it would be, without its ending.
    Raises:
        LoratoolsError: of the kinds that :func:`combine` names; RankError for an impossible rule.
    """
    source, out = method.result(terms) or combine(terms), Path(f"{name}.safetensors")
    made = provenance_of(terms, rule, dtype, "merge", _resolved(terms, rule, dtype, method))
    return stored_result(
        source, rule=rule, dtype=dtype, metadata=merge_texts(terms, out), provenance=made, name=out.name
    )


def merge_texts(terms: Sequence[Term], out: Path, metadata: Mapping[str, str] | None = None) -> dict[str, str]:
    """Header text of a file made from ``terms``: what they agree on, its own name, and ``metadata`` over it."""
    texts = merged_header(adapters_of(terms))
    return {**texts, "ss_output_name": out.stem, "modelspec.title": out.stem, **(metadata or {})}


def adapters_of(terms: Sequence[Term]) -> list[Adapter]:
    """The terms' files, each once."""
    return list({id(term.adapter): term.adapter for term in terms}.values())


def provenance_of(
    terms: Sequence[Term],
    rule: RankRule,
    dtype: torch.dtype,
    owner: str,
    step: Mapping[str, Any] | None,
    recipe: Mapping[str, Any] | None = None,
) -> Provenance:
    """How a result of ``terms`` was made: the resolved ``step``, and its sources by digest."""
    adapters = adapters_of(terms)
    resolved = step or _resolved(terms, rule, dtype, EXACT)
    inputs = [{"name": adapter.path.name, "digest": adapter.digest} for adapter in adapters]
    ancestors = inherited([(a.digest, a.metadata) for a in adapters])
    return Provenance(resolved, owner, inputs, ancestors, recipe=recipe)


def into_provenance(
    terms: Sequence[Term], base: str | os.PathLike[str], owner: str, method: MergeMethod = EXACT
) -> Provenance:
    """How a checkpoint was made by adding ``terms`` to the file ``base``."""
    whole = {"name": Path(base).name, "sha256": files.sha256(base) if Path(base).is_file() else ""}
    step = {"merge": [term_facts(term) for term in terms], "into": whole, **method.facts()}
    adapters = adapters_of(terms)
    inputs = [{"name": adapter.path.name, "digest": adapter.digest} for adapter in adapters]
    return Provenance(
        step,
        owner,
        [*inputs, {"name": whole["name"], "digest": whole["sha256"]}],
        inherited([(adapter.digest, adapter.metadata) for adapter in adapters]),
    )


def _resolved(terms: Sequence[Term], rule: RankRule, dtype: torch.dtype, method: MergeMethod) -> dict[str, Any]:
    facts = [term_facts(term) for term in terms]
    if method.compat in ("supermerger", "supermerger-strength"):  # which ignores the ratio of a vector in numbers
        facts = [{**own, "written": True} if term.inline else own for own, term in zip(facts, terms, strict=True)]
    return {"merge": facts, "rank": rule.text(), "dtype": dtype_name(dtype), **method.facts()}


def term_facts(term: Term) -> dict[str, Any]:
    """A term as the header states it: the file by name and digest, weight, vector by value, splits."""
    facts: dict[str, Any] = {"name": term.adapter.path.name, "digest": term.adapter.digest, "weight": term.weight}
    if term.vector is not None:
        facts["vector"] = dict(term.vector.weights)
        if term.vector.rules:
            facts["rules"] = {rule.where: rule.weight for rule in term.vector.rules}
        facts["missing"] = term.missing
    if term.scales:
        facts["scales"] = dict(term.scales)
    return facts | {key: value for key, value in (("te", term.te), ("unet", term.unet)) if value != 1}
