"""The merge: the exact weighted sum of adapters, and only if a rank is asked for, its best approximation.

``combine`` is the one definition of what strength, block vector and alpha mean; previews use it too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.file import Adapter, read
from loratools.adapter.lowrank import Delta, Dense, LowRank, Vector, concatenate, limit, same_matrix
from loratools.adapter.metadata import Provenance, guard_overwrite, inherited, merged_metadata
from loratools.adapter.names import family_of
from loratools.adapter.parallel import in_order
from loratools.adapter.rank import Exact, Fixed, RankRule, Size, Spectrum, allocate, choose, spectrum
from loratools.adapter.save import DTYPES, Written, file_size, write
from loratools.errors import FormatError, MergeStringError, RankError, ShapeError
from loratools.ops.report import MergeReport, ModuleError, Verification, report_blocks
from loratools.ops.spool import Spool
from loratools.ops.terms import Term

_CANCELS = 0.25  # of the sum of squares: |asked| is under half of its root
_NOISE = 1e-12  # of that root: what float64 leaves of terms that cancel to nothing


class Combined(Mapping[str, Delta]):
    """The exact weighted sum of terms, lazily by module, in float32; names sorted.

    Attributes:
        terms: the summands.
        family: their common family.
        shapes, ranks: of every module's sum, known without reading factors.
        dense: modules whose sum is not low-rank.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)
        self.family = terms[0].adapter.family
        self.shapes = _common_shapes(terms)
        self._strengths = {name: self._strength(name) for name in self.shapes}
        self.ranks = {name: self._rank(name) for name in self.shapes}

    def __getitem__(self, name: str) -> Delta:
        return self.delta(name)

    def delta(self, name: str, dtype: torch.dtype = torch.float32) -> Delta:
        """The sum for one module, computed in ``dtype``; terms of strength 0 are not read."""
        parts = self._strengths[name]
        if not parts:
            return self._zero(name, dtype)
        total = concatenate([(strength, term.adapter.delta(name, dtype)) for term, strength in parts])
        return _seen_as(total, self.shapes[name])

    def parts(self, name: str) -> tuple[tuple[Term, float], ...]:
        """The terms that change a module, each with its strength."""
        return self._strengths[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    @cached_property
    def dense(self) -> frozenset[str]:
        """Modules whose sum holds a full difference."""
        return frozenset(n for n in self.shapes if any(n in term.adapter.dense for term, _ in self._strengths[n]))

    def _strength(self, name: str) -> tuple[tuple[Term, float], ...]:
        strengths = ((term, term.strength(name)) for term in self.terms if name in term.adapter)
        return tuple((term, strength) for term, strength in strengths if strength != 0)

    def _rank(self, name: str) -> int:
        if name in self.dense:
            return limit(self.shapes[name])
        return sum(term.adapter.ranks[name] for term, _ in self._strengths[name]) or 1

    def _zero(self, name: str, dtype: torch.dtype) -> Delta:
        shape = self.shapes[name]
        if len(shape) == 1:
            return Vector(torch.zeros(shape, dtype=dtype))
        return LowRank(torch.zeros(shape[0], 1, dtype=dtype), torch.zeros(1, math.prod(shape[1:]), dtype=dtype), shape)


def combine(terms: Sequence[Term]) -> Combined:
    """The exact weighted sum ``sum_i weight_i * vector_i * delta_i`` as a lazy mapping of modules.

    Raises:
        MergeStringError: if there are no terms.
        FormatError: if they are LoRAs of different model families.
        ShapeError: if two of them disagree over a module's shape.
        BlockError: if a short vector leaves modules open.
    """
    if not terms:
        raise MergeStringError("a merge needs at least one LoRA, such as style:1:GP1")
    first = terms[0]
    for term in terms:
        if term.adapter.family != first.adapter.family:
            raise FormatError(
                f"{first.adapter.path} is for {family_of(first.adapter.family).title} and {term.adapter.path} for "
                f"{family_of(term.adapter.family).title}; LoRAs of different model families cannot be merged"
            )
        term.check()
    return Combined(terms)


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


def verify(path: str | os.PathLike[str], terms: Sequence[Term]) -> Verification:
    """Recompute ``terms`` in float64 and say how far the file at ``path`` is from them, in total and per block.

    Modules that only one side has count in full. The error is ``|file - asked| / |asked|``; where terms cancel
    (``|asked|`` under half of ``sqrt(sum |w d|^2)``) it is stated against that root.
    """
    stored, combined = read(path), combine(terms)
    if stored.family != combined.family:
        raise FormatError(
            f"{path} is a {stored.family} LoRA and the terms are {combined.family}; they cannot be compared"
        )
    for name in combined:
        if name in stored and not same_matrix(stored.shapes[name], combined.shapes[name]):
            raise ShapeError(_shapes_differ(name, combined.terms[0].adapter, combined.shapes[name], stored))

    def compare(name: str) -> tuple[str, ModuleError]:
        pieces: list[tuple[float, Delta]] = []
        asked: Delta | None = None
        if name in combined:
            asked = combined.delta(name, torch.float64)
            pieces.append((-1.0, asked))
        if name in stored:
            pieces.append((1.0, stored.delta(name, torch.float64)))
        root2 = sum(s * s * _norm2(t.adapter.delta(name, torch.float64)) for t, s in
                    (combined.parts(name) if name in combined else ()))  # fmt: skip
        norm2 = 0.0 if asked is None else _norm2(asked)
        return name, ModuleError(norm2, root2, _norm2(concatenate(pieces)), 0.0)

    names = sorted({*stored, *combined})
    errors = dict(in_order(compare, names))
    total, blocks = report_blocks(errors, combined.family)
    return Verification(total.error, {name: block.error for name, block in blocks.items()})


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
        root2 = sum(strength**2 * _norm2(term.adapter[name]) for term, strength in parts)
        return _norm2(delta), root2
    gram = (delta.up.T @ delta.up).double() * (delta.down @ delta.down.T).double()
    sizes = [term.adapter.ranks[name] for term, _ in combined.parts(name)] or [delta.rank]
    root2, start = 0.0, 0
    for size in sizes:
        root2 += float(gram[start : start + size, start : start + size].sum())
        start += size
    return max(float(gram.sum()), 0.0), max(root2, 0.0)


def _norm2(delta: Delta) -> float:
    """Squared norm without cancellation: by QR of the factors in float64."""
    if not isinstance(delta, LowRank):
        return delta.norm() ** 2
    left = torch.linalg.qr(delta.up.double(), mode="r").R
    right = torch.linalg.qr(delta.down.double().T, mode="r").R
    return float(((left @ right.T) ** 2).sum())


def _without_noise(found: Spectrum, root2: float) -> Spectrum:
    return Spectrum(found.u, torch.where(found.s > _NOISE * math.sqrt(root2), found.s, 0.0), found.v, found.shape)


def _padded(delta: LowRank, rank: int) -> LowRank:
    """``delta`` with zero components up to ``rank``, which the file's layout has promised."""
    lack = rank - delta.rank
    if lack <= 0:
        return delta
    up, down = torch.zeros(delta.shape[0], lack), torch.zeros(lack, delta.down.shape[1])
    return LowRank(torch.cat([delta.up, up], 1), torch.cat([delta.down, down]), delta.shape)


def _common_shapes(terms: Sequence[Term]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    owner: dict[str, Adapter] = {}
    for term in terms:
        for name, shape in term.adapter.shapes.items():
            first = shapes.setdefault(name, shape)
            if not same_matrix(first, shape):
                raise ShapeError(_shapes_differ(name, owner[name], first, term.adapter))
            owner.setdefault(name, term.adapter)
    return dict(sorted(shapes.items()))


def _shapes_differ(name: str, one: Adapter, shape: tuple[int, ...], other: Adapter) -> str:
    return (f"module {name} is {shape} in {one.path} and {other.shapes[name]} in {other.path}; they were trained on "
            "different base models and cannot be added")  # fmt: skip


def _seen_as(delta: Delta, shape: tuple[int, ...]) -> Delta:
    if delta.shape == shape:
        return delta
    if isinstance(delta, LowRank):
        return LowRank(delta.up, delta.down, shape)
    return Dense(delta.value.reshape(shape))


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
        facts["missing"] = term.missing
    return facts | {key: value for key, value in (("te", term.te), ("unet", term.unet)) if value != 1}


def _report(written: Written, prepared: _Prepared, rule: RankRule) -> MergeReport:
    errors = {name: ModuleError(known.norm2, known.root2, written.errors[name].error2, known.lost2)
              for name, known in prepared.asked.items()}  # fmt: skip
    total, blocks = report_blocks(errors, prepared.combined.family)
    cancelled = tuple(name for name, error in errors.items() if error.cancels)
    return MergeReport(written.path, written.digest, total, blocks, rule.text(), written.rank, written.alpha,
                       len(written.errors), written.path.stat().st_size, cancelled)  # fmt: skip
