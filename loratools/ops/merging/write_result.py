"""Storing what an operation computed: exactly, or by a rank rule, with the error of both by module and block."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from loratools.adapter.algebra.lowrank import Delta, LowRank, limit
from loratools.adapter.algebra.rank import Exact, Fixed, RankRule, Size, Spectrum, allocate, spectrum
from loratools.adapter.algebra.relative_error import relative_error
from loratools.adapter.files.encode import CastError
from loratools.adapter.files.metadata import Provenance, guard_overwrite
from loratools.adapter.files.passthrough import Carried
from loratools.adapter.files.save import Written, file_size, write
from loratools.adapter.parallel import in_order
from loratools.errors import FormatError, RankError
from loratools.ops.merging.lazy_result import Decomposed, LazyResult
from loratools.ops.merging.spool import Spool
from loratools.ops.report import LeftOut, MergeReport, ModuleError, report_blocks
from loratools.progress import OnProgress, counted, part_of

CANCELS = 0.25  # of the sum of squares: |asked| is under half of its root
_NOISE = 1e-12  # of that root: what float64 leaves of terms that cancel to nothing


def write_result(
    source: LazyResult,
    out: Path,
    *,
    rule: RankRule,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    provenance: Provenance,
    force: bool = False,
    trim: bool = False,
    carried: Mapping[str, Carried] | None = None,
    left_out: Sequence[LeftOut] = (),
    warnings: Sequence[str] = (),
    nothing: str = "every module's difference is zero",
    on_progress: OnProgress | None = None,
) -> MergeReport:
    """Write ``source`` as one LoRA file; ``provenance.owner`` may write it again.

    Args:
        rule: ``Exact()`` stores the factors as they are; any other rule stores the best approximation it allows.
        trim: find every module's true rank by SVD first, so that ``Exact()`` drops what adds nothing, and leave out
            modules that are all zero.
        carried: tensors that no table knows, written as they are.
        left_out: parts of what was asked for that ``source`` does not hold; they count in the error.
        warnings: what to mind, a sentence each.
        nothing: what is said where all of ``source`` is zero.
        on_progress: called with (done, all) as modules are decomposed, where that comes first, and written.
    Raises:
        LoratoolsError: of the kinds that ``adapter.write`` names; RankError for an impossible rule; FormatError if
            nothing is left to write.
    """
    guard_overwrite(out, provenance.owner, force)
    with Spool(out.parent) as spool:
        layout = _Layout(source, rule, dtype, metadata, provenance, out)
        passes = 2 if layout.decomposes(trim) else 1
        prepared = layout.prepare(spool, trim, part_of(on_progress, 0, passes, len(source)))
        if not len(prepared):
            parts = ", ".join(part.text() for part in left_out)
            why = f"of what it may hold nothing changed; what did change is {parts}" if parts else nothing
            raise FormatError("; ".join([f"nothing is left to write to {out}: {why}", *warnings]))
        written = write(
            prepared,
            out,
            family=source.family,
            metadata=metadata,
            dtype=dtype,
            provenance=provenance,
            force=force,
            carried=carried,
            error=lambda cast: _stated_error(_errors(cast, prepared), source.family, left_out),
            on_progress=part_of(on_progress, passes - 1, passes, len(source)),
        )
    return replace(_report(written, prepared, rule, left_out), warnings=tuple(warnings))


def stored_result(
    source: LazyResult,
    *,
    rule: RankRule,
    dtype: torch.dtype,
    metadata: Mapping[str, str],
    provenance: Provenance,
    name: str,
) -> Prepared:
    """What :func:`write_result` would store of ``source``, lazily by module: nothing is written.

    Args:
        name: of the file that it would be, which a rule by size counts with the header.
    Raises:
        RankError: for an impossible rule.
    """
    with Spool(Path(tempfile.gettempdir())) as spool:
        return _Layout(source, rule, dtype, metadata, provenance, Path(name)).prepare(spool, trim=False)


def _stated_error(errors: Mapping[str, ModuleError], family: str, left_out: Sequence[LeftOut]) -> float:
    """The relative error of the whole: of what is stored, and of what is left out."""
    if not left_out:
        return report_blocks(errors, family)[0].error
    left2 = sum(part.norm2 for part in left_out)
    lost2 = sum(error.stored2 + error.lost2 for error in errors.values())
    return relative_error(lost2 + left2, sum(error.norm2 for error in errors.values()) + left2)


class Prepared(Mapping[str, Delta]):
    """What is stored for each module of a source, and what that cost against the source itself."""

    def __init__(
        self, source: LazyResult, ranks: Mapping[str, int], factors: Mapping[str, LowRank] | None = None
    ) -> None:
        self.source = source
        self.shapes = {name: source.shapes[name] for name in source.shapes if name in ranks}
        self.dense = source.dense if factors is None and ranks is source.ranks else frozenset[str]()
        self.ranks = ranks
        self.asked: dict[str, ModuleError] = {}
        self._factors = factors

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, name: str) -> Delta:
        if self._factors is not None:
            return self._factors[name]
        if self.ranks is self.source.ranks:
            return self._exact(name, self.source[name])
        rank = self.ranks[name]
        decomposed = self.source.decompose(name, Fixed(rank))
        self.asked[name] = _asked(decomposed, rank)
        return decomposed.spectrum.truncated(rank).padded(rank)

    def _exact(self, name: str, delta: Delta) -> Delta:
        """The sum as it is; factors of terms that cancel are re-balanced by SVD, or the cast would drown the rest."""
        norm2, root2 = self.source.norms2(name, delta)
        if not isinstance(delta, LowRank) or norm2 >= CANCELS * root2:
            self.asked[name] = ModuleError(norm2, root2, 0.0, 0.0)
            return delta
        whole = _without_noise(spectrum(delta), root2)
        self.asked[name] = ModuleError(whole.lost2(0), root2, 0.0, 0.0)
        return whole.truncated(delta.rank).padded(delta.rank)


class _Layout:
    """How a source's modules are laid out under a rule: their ranks, known at once or after every SVD."""

    def __init__(
        self,
        source: LazyResult,
        rule: RankRule,
        dtype: torch.dtype,
        metadata: Mapping[str, str],
        provenance: Provenance,
        out: Path,
    ) -> None:
        self._source = source
        self._rule = rule
        self._dtype = dtype
        self._metadata = metadata
        self._provenance = provenance
        self._out = out

    def decomposes(self, trim: bool) -> bool:
        """Whether the ranks are known only after every module's SVD."""
        return trim or not isinstance(self._rule, Exact | Fixed)

    def prepare(self, spool: Spool, trim: bool, on_progress: OnProgress | None = None) -> Prepared:
        """The source as it is stored; ``on_progress`` is called where every module is decomposed for that."""
        source = self._source
        if isinstance(self._rule, Fixed):
            highest = max(limit(shape) for shape in source.shapes.values())
            if self._rule.rank > highest:
                raise RankError(
                    f"rank {self._rule.rank} is above what any module can have, which is {highest}; ask for less"
                )
        if self.decomposes(trim):
            return self._decomposed(spool, trim, on_progress)
        if isinstance(self._rule, Fixed):
            rank = self._rule.rank
            return Prepared(source, {n: min(rank, r, limit(source.shapes[n])) for n, r in source.ranks.items()})
        return Prepared(source, source.ranks)

    def _decomposed(self, spool: Spool, trim: bool, on_progress: OnProgress | None) -> Prepared:
        """Rules whose ranks are known only after every module's SVD.

        A source that is quick to decompose is decomposed again when it is written; a costly one's factors are kept on
        disk meanwhile.
        """

        def decompose(name: str) -> tuple[str, int, Decomposed, LowRank | None]:
            decomposed = self._source.decompose(name, self._rule)
            rank = self._rank(decomposed, trim)
            kept = decomposed.spectrum.truncated(rank) if self._source.costly else None
            return name, rank, _values_alone(decomposed, rank if isinstance(self._rule, Size) else None), kept

        ranks: dict[str, int] = {}
        known: dict[str, Decomposed] = {}
        results = in_order(decompose, self._source)
        for name, rank, decomposed, kept in counted(results, len(self._source), on_progress):
            if trim and decomposed.norm2 == 0:
                continue
            ranks[name], known[name] = rank, decomposed
            if kept is not None:
                spool.add(name, kept)
        if isinstance(self._rule, Size) and ranks:
            ranks = self._fit(self._rule, {name: decomposed.spectrum.s for name, decomposed in known.items()}, ranks)
        spool.ranks.update({name: rank for name, rank in ranks.items() if name in spool})
        prepared = Prepared(self._source, ranks, spool if self._source.costly else None)
        prepared.asked.update({name: _asked(decomposed, ranks[name]) for name, decomposed in known.items()})
        return prepared

    def _rank(self, decomposed: Decomposed, trim: bool) -> int:
        rank = decomposed.rank(Exact() if isinstance(self._rule, Size) else self._rule)
        return min(rank, decomposed.rank(Exact())) if trim else rank

    def _fit(self, rule: Size, values: Mapping[str, torch.Tensor], ranks: Mapping[str, int]) -> dict[str, int]:
        shapes = {name: self._source.shapes[name] for name in ranks}
        costs = {name: (shape[0] + math.prod(shape[1:])) * self._dtype.itemsize for name, shape in shapes.items()}
        whole = file_size(
            shapes,
            ranks,
            family=self._source.family,
            metadata=self._metadata,
            dtype=self._dtype,
            provenance=self._provenance,
            path=self._out,
        )
        rest = whole - sum(costs[name] * rank for name, rank in ranks.items())
        return allocate(values, costs, rule.size - rest)


def _values_alone(decomposed: Decomposed, count: int | None) -> Decomposed:
    """A module's singular values (the first ``count``) and norms without its factors, whose memory is freed."""
    empty = torch.empty(0)
    values, shape = decomposed.spectrum.s[:count].clone(), decomposed.spectrum.shape
    return Decomposed(Spectrum(empty, values, empty, shape), decomposed.norm2, decomposed.root2)


def _asked(decomposed: Decomposed, rank: int) -> ModuleError:
    return ModuleError(decomposed.norm2, decomposed.root2, 0.0, decomposed.lost2(rank))


def _without_noise(whole: Spectrum, root2: float) -> Spectrum:
    return Spectrum(whole.u, torch.where(whole.s > _NOISE * math.sqrt(root2), whole.s, 0.0), whole.v, whole.shape)


def _errors(cast: Mapping[str, CastError], prepared: Prepared) -> dict[str, ModuleError]:
    return {
        name: ModuleError(known.norm2, known.root2, cast[name].error2, known.lost2)
        for name, known in prepared.asked.items()
    }


def _report(written: Written, prepared: Prepared, rule: RankRule, left_out: Sequence[LeftOut]) -> MergeReport:
    errors = _errors(written.errors, prepared)
    total, blocks = report_blocks(errors, prepared.source.family)
    cancelled = tuple(name for name, error in errors.items() if error.cancels)
    return MergeReport(
        path=written.path,
        digest=written.digest,
        total=total,
        blocks=blocks,
        rule=rule.text(),
        rank=written.rank,
        alpha=written.alpha,
        modules=len(written.errors),
        size=written.path.stat().st_size,
        cancelled=cancelled,
        ranks=dict(prepared.ranks),
        norm2=sum(error.norm2 for error in errors.values()),
        left_out=tuple(left_out),
        whole=_stated_error(errors, prepared.source.family, left_out) if left_out else None,
    )
