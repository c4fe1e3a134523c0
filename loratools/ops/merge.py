"""The merge: the exact weighted sum of adapters, and only if a rank is asked for, its best approximation.

``combine`` is the one definition of what strength, block vector and alpha mean; previews use it too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.file import Adapter
from loratools.adapter.lowrank import Delta, LowRank, finite, gram, limit
from loratools.adapter.metadata import Provenance, guard_overwrite, inherited, merged_metadata
from loratools.adapter.parallel import in_order
from loratools.adapter.rank import Exact, Fixed, RankRule, Size, Spectrum, allocate, choose, spectrum
from loratools.adapter.save import DTYPES, Written, file_size, write
from loratools.errors import NonFiniteError, RankError
from loratools.ops.combine import Combined, combine
from loratools.ops.plan import MergePlan, PlanRow, plan
from loratools.ops.report import MergeReport, ModuleError, Verification, report_blocks
from loratools.ops.spool import Spool
from loratools.ops.terms import Term
from loratools.ops.verify import norm2_of, verify

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

_CANCELS = 0.25  # of the sum of squares: |asked| is under half of its root
_NOISE = 1e-12  # of that root: what float64 leaves of terms that cancel to nothing


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
) -> MergeReport:
    """Write the weighted sum of ``terms`` as one LoRA file.

    Args:
        rule: how the rank is chosen; None or ``Exact()`` keeps the exact sum.
        dtype: storage type.
        force: overwrite a file that ``owner`` did not write.
        owner: the recipe step or command that may write this file again.
        step: the resolved step for the header; by default the terms, the rule and the dtype.
        metadata: header text over what is merged from the parts.
    Raises:
        LoratoolsError: of the kinds that :func:`combine` and ``adapter.write`` name; RankError for an impossible rule.
    """
    rule = rule or Exact()
    out = Path(out)
    guard_overwrite(out, owner, force)
    combined = combine(terms)
    texts = {**merged_metadata([adapter.metadata for adapter in _adapters(terms)]), "ss_output_name": out.stem}
    texts.update({"modelspec.title": out.stem, **(metadata or {})})
    provenance = _provenance(terms, rule, dtype, owner, step)
    with Spool(out.parent) as spool:
        prepared = _prepare(combined, rule, spool, dtype, texts, provenance, out)
        written = write(prepared, out, family=combined.family, metadata=texts, dtype=dtype, provenance=provenance,
                        owner=owner, force=force)  # fmt: skip
    return _report(written, prepared, rule)


class _Prepared(Mapping[str, Delta]):
    """What is stored for each module of a sum, and what that cost against the sum itself."""

    def __init__(
        self, combined: Combined, ranks: Mapping[str, int], factors: Mapping[str, LowRank] | None = None
    ) -> None:
        self.combined = combined
        self.shapes = combined.shapes
        self.dense = combined.dense if factors is None and ranks is combined.ranks else frozenset[str]()
        self.ranks = ranks
        self.asked: dict[str, ModuleError] = {}
        self._factors = factors

    def __iter__(self) -> Iterator[str]:
        return iter(self.combined)

    def __len__(self) -> int:
        return len(self.combined)

    def __getitem__(self, name: str) -> Delta:
        if self._factors is not None:
            return self._factors[name]
        delta = self.combined[name]
        if self.ranks is self.combined.ranks:
            return self._exact(name, delta)
        found = spectrum(delta)
        self.asked[name] = _asked(self.combined, name, delta, found, self.ranks[name])
        return found.truncated(self.ranks[name])

    def _exact(self, name: str, delta: Delta) -> Delta:
        """The sum as it is; factors of terms that cancel are re-balanced by SVD, or the cast would drown the rest."""
        norm2, root2 = _norms2(self.combined, name, delta)
        if not isinstance(delta, LowRank) or norm2 >= _CANCELS * root2:
            self.asked[name] = ModuleError(norm2, root2, 0.0, 0.0)
            return delta
        found = _without_noise(spectrum(delta), root2)
        self.asked[name] = ModuleError(found.lost2(0), root2, 0.0, 0.0)
        return _padded(found.truncated(delta.rank), delta.rank)


def _prepare(combined: Combined, rule: RankRule, spool: Spool, dtype: torch.dtype, texts: Mapping[str, str],
             provenance: Provenance, out: Path) -> _Prepared:  # fmt: skip
    match rule:
        case Exact():
            return _Prepared(combined, combined.ranks)
        case Fixed(rank):
            highest = max(limit(shape) for shape in combined.shapes.values())
            if rank > highest:
                raise RankError(f"rank {rank} is above what any module can have, which is {highest}; ask for less")
            return _Prepared(combined, {n: min(rank, r, limit(combined.shapes[n])) for n, r in combined.ranks.items()})
    return _spooled(combined, rule, spool, dtype, texts, provenance, out)


def _spooled(combined: Combined, rule: RankRule, spool: Spool, dtype: torch.dtype, texts: Mapping[str, str],
             provenance: Provenance, out: Path) -> _Prepared:  # fmt: skip
    """Rules whose ranks are known only after every module's SVD: all are computed once, to disk."""

    def decompose(name: str) -> tuple[str, Delta, Spectrum]:
        delta = combined[name]
        return name, delta, spectrum(delta)

    values, asked = {}, {}
    for name, delta, found in in_order(decompose, combined):
        columns = max(delta.shape[0], math.prod(delta.shape[1:]))
        rank = choose(found.s, Exact() if isinstance(rule, Size) else rule, columns)
        values[name] = found.s[:rank] if isinstance(rule, Size) else found.s
        asked[name] = _asked(combined, name, delta, found, rank)
        spool.add(name, found.truncated(rank))
    if isinstance(rule, Size):
        spool.ranks.update(_fit(rule, values, spool, combined.family, dtype, texts, provenance, out))
    prepared = _Prepared(combined, spool.ranks, spool)
    for name, known in asked.items():
        lost2 = float((values[name][spool.ranks[name] :] ** 2).sum())
        prepared.asked[name] = ModuleError(known.norm2, known.root2, 0.0, lost2)
    return prepared


def _fit(rule: Size, values: Mapping[str, torch.Tensor], spool: Spool, family: str, dtype: torch.dtype,
         texts: Mapping[str, str], provenance: Provenance, out: Path) -> dict[str, int]:  # fmt: skip
    costs = {name: (shape[0] + math.prod(shape[1:])) * dtype.itemsize for name, shape in spool.shapes.items()}
    whole = file_size(spool.shapes, spool.ranks, family=family, metadata=texts, dtype=dtype, provenance=provenance,
                      path=out)  # fmt: skip
    rest = whole - sum(costs[name] * rank for name, rank in spool.ranks.items())
    return allocate(values, costs, rule.size - rest)


def _asked(combined: Combined, name: str, delta: Delta, found: Spectrum, rank: int) -> ModuleError:
    _, root2 = _norms2(combined, name, delta)
    return ModuleError(found.lost2(0), root2, 0.0, found.lost2(rank))


def _norms2(combined: Combined, name: str, delta: Delta) -> tuple[float, float]:
    """``|asked|^2`` and ``sum |w d|^2``: all of one Gram matrix, and its diagonal blocks."""
    if not isinstance(delta, LowRank) or name in combined.dense:
        parts = combined.parts(name)
        root2 = sum(strength**2 * norm2_of(term.adapter[name]) for term, strength in parts)
        return norm2_of(delta), root2
    products = gram(delta.up, delta.up) * gram(delta.down.T, delta.down.T)
    if not finite(products):
        raise NonFiniteError(f"module {name} is not finite once its weights are applied; use smaller weights")
    sizes = [term.adapter.ranks[name] for term, _ in combined.parts(name)] or [delta.rank]
    root2, start = 0.0, 0
    for size in sizes:
        root2 += float(products[start : start + size, start : start + size].sum())
        start += size
    return max(float(products.sum()), 0.0), max(root2, 0.0)


def _without_noise(found: Spectrum, root2: float) -> Spectrum:
    return Spectrum(found.u, torch.where(found.s > _NOISE * math.sqrt(root2), found.s, 0.0), found.v, found.shape)


def _padded(delta: LowRank, rank: int) -> LowRank:
    """``delta`` with zero components up to ``rank``, which the file's layout has promised."""
    lack = rank - delta.rank
    if lack <= 0:
        return delta
    up, down = torch.zeros(delta.shape[0], lack), torch.zeros(lack, delta.down.shape[1])
    return LowRank(torch.cat([delta.up, up], 1), torch.cat([delta.down, down]), delta.shape)


def _adapters(terms: Sequence[Term]) -> list[Adapter]:
    return list({id(term.adapter): term.adapter for term in terms}.values())


def _provenance(terms: Sequence[Term], rule: RankRule, dtype: torch.dtype, owner: str,
                step: Mapping[str, Any] | None) -> Provenance:  # fmt: skip
    adapters = _adapters(terms)
    short = {value: key for key, value in DTYPES.items()}[dtype]
    resolved = step or {"merge": [_term_facts(term) for term in terms], "rank": rule.text(), "dtype": short}
    inputs = [{"name": adapter.path.name, "digest": adapter.digest} for adapter in adapters]
    return Provenance(resolved, owner, inputs, inherited([(a.digest, a.metadata) for a in adapters]))


def _term_facts(term: Term) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": term.adapter.path.name, "digest": term.adapter.digest, "weight": term.weight}
    if term.vector is not None:
        facts["vector"] = dict(term.vector.weights)
        if term.vector.rules:
            facts["rules"] = {rule.where: rule.weight for rule in term.vector.rules}
        facts["missing"] = term.missing
    return facts | {key: value for key, value in (("te", term.te), ("unet", term.unet)) if value != 1}


def _report(written: Written, prepared: _Prepared, rule: RankRule) -> MergeReport:
    errors = {name: ModuleError(known.norm2, known.root2, written.errors[name].error2, known.lost2)
              for name, known in prepared.asked.items()}  # fmt: skip
    total, blocks = report_blocks(errors, prepared.combined.family)
    cancelled = tuple(name for name, error in errors.items() if error.cancels)
    return MergeReport(written.path, written.digest, total, blocks, rule.text(), written.rank, written.alpha,
                       len(written.errors), written.path.stat().st_size, cancelled)  # fmt: skip
