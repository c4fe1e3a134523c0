"""Looking into LoRAs: where their strength lies, how many directions they use, how alike two are, how several clash."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import LowRank, inner, same_matrix
from loratools.adapter.algebra.rank import Spectrum, spectrum
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.lora_file import STRICT, KeyRules
from loratools.adapter.parallel import in_order
from loratools.errors import FormatError, ShapeError
from loratools.ops.analysis.conflict import Conflict, ModuleConflict, measure_conflict, summarize_conflict
from loratools.ops.merging.combine import shapes_differ
from loratools.ops.merging.one_model import read_alike
from loratools.ops.merging.one_spelling import no_common_module, one_spelling
from loratools.ops.report import grouped
from loratools.ops.text_table import table

_ENERGY = 0.99  # of a module's squared singular values: the directions that principal angles compare
_SHARED = 0.5  # mean cosine of two files' `down` factors, above which they started from the same random A


@dataclass(frozen=True)
class BlockAnalysis:
    """One file's block.

    Attributes:
        norm: Frobenius norm of all its differences together.
        share: of the file's squared norm.
        effective_rank: ``exp`` of the entropy of ``s^2 / sum s^2``, averaged over the modules that are not zero.
        stable_rank: ``sum s^2 / s_1^2``, averaged likewise.
    """

    modules: int
    norm: float
    share: float
    effective_rank: float
    stable_rank: float

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "modules": self.modules,
            "norm": self.norm,
            "share": self.share,
            "effective_rank": self.effective_rank,
            "stable_rank": self.stable_rank,
        }


@dataclass(frozen=True)
class BlockLikeness:
    """Two files' block, over the modules that both have and neither is zero in.

    Attributes:
        cosine: between the differences.
        overlap: ``|U1^T U2|_F^2 / min(k1, k2)`` on the output and the input side, averaged: 1 if one's directions hold
            the other's, 0 if they are orthogonal. U are the leading directions that hold 99 % of the energy.
        angle: the smallest principal angle on the output side in degrees, averaged over modules.
        down: cosine between the ``down`` factors as they are stored; None where their shapes differ everywhere.
    """

    modules: int
    cosine: float
    overlap: float
    angle: float
    down: float | None

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "modules": self.modules,
            "cosine": self.cosine,
            "overlap": self.overlap,
            "angle": self.angle,
            "down_cosine": self.down,
        }


@dataclass(frozen=True)
class Analysis:
    """One file, or several side by side.

    Attributes:
        blocks: of each file.
        likeness, total: of two files, by block and in total.
        conflict: of two files or more, what they do to one another when they are added.
    """

    paths: tuple[Path, ...]
    blocks: tuple[Mapping[str, BlockAnalysis], ...]
    likeness: Mapping[str, BlockLikeness]
    total: BlockLikeness | None
    conflict: Conflict | None = None

    @property
    def shared_start(self) -> bool:
        """Whether the ``down`` factors are alike, as they are when two trainings began with the same seed."""
        return self.total is not None and self.total.down is not None and abs(self.total.down) > _SHARED

    def json(self) -> dict[str, Any]:
        """One file's ``blocks``; for several ``files`` and ``conflict``, and for two how alike they are, by block in
        ``blocks`` and in total."""
        files = [
            {"path": str(path), "blocks": {name: one.json() for name, one in blocks.items()}}
            for path, blocks in zip(self.paths, self.blocks, strict=True)
        ]
        if self.conflict is None:
            return files[0]
        if self.total is None:
            return {"files": files, "conflict": self.conflict.json()}
        likeness = {name: one.json() for name, one in self.likeness.items()}
        return {
            "files": files,
            "blocks": likeness,
            **self.total.json(),
            "shared_start": self.shared_start,
            "conflict": self.conflict.json(),
        }

    def text(self) -> str:
        """A table for each file (but not of three and more, which would be long), one for a pair, and what several do
        to one another."""
        by_file = list(zip(self.paths, self.blocks, strict=True)) if len(self.paths) < 3 else []
        parts = [f"{path}\n{_block_table(blocks)}" for path, blocks in by_file]
        if self.total is not None:
            parts.append(f"together\n{_likeness_table({**self.likeness, 'total': self.total})}")
        if self.shared_start:
            parts.append(
                "warning: the down factors are alike, so the two trainings started from the same random A; "
                "cosine and overlap then say less about what was learnt"
            )
        if self.conflict is not None:
            parts.append(f"added at weight 1\n{self.conflict.text()}")
        return "\n\n".join(parts)


def analyze(
    *paths: str | os.PathLike[str], base: Mapping[str, Tensor] | None = None, keys: KeyRules = STRICT
) -> Analysis:
    """Analyse one LoRA file, or several and what they do to one another; every module is decomposed once.

    Args:
        paths: at least one.
        base: the base's weights by canonical parameter name, which the differences of a DoRA depend on.
        keys: what is done about keys that no table knows.
    Raises:
        FileError, FormatError: for a file that is missing or no LoRA, or files of different families, or one that has
            no module in common with any other.
        ShapeError: if two disagree over a module's shape.
    """
    adapters = read_alike([read(path, base, keys.allow_unknown, keys.drop) for path in paths])
    if len(adapters) > 1:
        adapters = _comparable(adapters)
    names = sorted({name for adapter in adapters for name in adapter})
    measured = dict(in_order(lambda name: (name, _measure(name, adapters)), names))
    groups = grouped(names, adapters[0].family)
    blocks = tuple(
        _summaries([measured[name].ones[index] for name in names], names, groups) for index in range(len(adapters))
    )
    pairs = {name: one.pair for name, one in measured.items() if one.pair is not None}
    likeness = {
        block: _likeness([pairs[name] for name in members if name in pairs]) for block, members in groups.items()
    }
    total = _likeness(list(pairs.values())) if len(adapters) == 2 else None
    opened = tuple(adapter.path for adapter in adapters)
    conflicts = {name: one.conflict for name, one in measured.items() if one.conflict is not None}
    return Analysis(
        opened,
        blocks,
        {block: one for block, one in likeness.items() if one.modules} if total else {},
        total,
        summarize_conflict(conflicts, groups, opened) if len(adapters) > 1 else None,
    )


@dataclass(frozen=True)
class _One:
    norm2: float
    effective: float
    stable: float


@dataclass(frozen=True)
class _Pair:
    dot: float
    norms2: tuple[float, float]
    overlap: float
    angle: float
    down: tuple[float, float, float] | None  # <A1, A2>, |A1|^2, |A2|^2


@dataclass(frozen=True)
class _Measured:
    ones: tuple[_One | None, ...]
    pair: _Pair | None
    conflict: ModuleConflict | None


def _comparable(adapters: Sequence[Adapter]) -> list[Adapter]:
    """Files under one spelling of their modules, and an error where they cannot be compared."""
    first = adapters[0]
    for other in adapters[1:]:
        if first.family != other.family:
            raise FormatError(
                f"{first.path} is a {first.family} LoRA and {other.path} is {other.family}; "
                "only LoRAs of one family can be compared"
            )
    named = one_spelling(adapters)
    for place, adapter in enumerate(named):
        others = [other for number, other in enumerate(named) if number != place]
        if not any(set(adapter) & set(other) for other in others):
            raise no_common_module(adapter.path, " and ".join(str(other.path) for other in others))
        for name in adapter:
            for other in others[place:]:  # those after it; the ones before have looked at it
                if name in other and not same_matrix(adapter.shapes[name], other.shapes[name]):
                    raise ShapeError(shapes_differ(name, adapter, adapter.shapes[name], other))
    return named


def _measure(name: str, adapters: Sequence[Adapter]) -> _Measured:
    spectra = [spectrum(adapter[name]) if name in adapter else None for adapter in adapters]
    ones = tuple(None if one is None else _ranks(one.s) for one in spectra)
    conflict = measure_conflict(spectra) if len(spectra) > 1 else None
    pair = None
    if len(spectra) == 2 and spectra[0] is not None and spectra[1] is not None:
        pair = _likeness_of(name, adapters, spectra[0], spectra[1])
    return _Measured(ones, pair, conflict)


def _likeness_of(name: str, adapters: Sequence[Adapter], first: Spectrum, second: Spectrum) -> _Pair | None:
    """How alike two files are in a module that both have; None where one is zero there."""
    if not (float(first.s[0]) > 0 and float(second.s[0]) > 0):
        return None
    deltas = adapters[0][name], adapters[1][name]
    (u1, v1), (u2, v2) = _directions(first), _directions(second)
    out, into = torch.linalg.svdvals(u1.T @ u2), torch.linalg.svdvals(v1 @ v2.T)
    overlap = (float((out**2).mean()) + float((into**2).mean())) / 2
    angle = math.degrees(math.acos(min(1.0, float(out[0]))))
    down = None
    if isinstance(deltas[0], LowRank) and isinstance(deltas[1], LowRank):
        one, other = deltas[0].down.double(), deltas[1].down.double()
        if one.shape == other.shape:
            down = float((one * other).sum()), float((one**2).sum()), float((other**2).sum())
    norms2 = float((first.s**2).sum()), float((second.s**2).sum())
    return _Pair(inner(*deltas), norms2, overlap, angle, down)


def _ranks(values: Tensor) -> _One:
    energy = values**2
    total = float(energy.sum())
    if total == 0:
        return _One(0.0, 0.0, 0.0)
    part = energy[energy > 0] / total
    return _One(total, math.exp(-float((part * part.log()).sum())), total / float(energy[0]))


def _directions(whole: Spectrum) -> tuple[Tensor, Tensor]:
    energy = (whole.s**2).cumsum(0)
    count = int((energy < _ENERGY * energy[-1]).sum()) + 1
    return whole.u[:, :count], whole.v[:count]


def _summaries(
    ones: Sequence[_One | None], names: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> dict[str, BlockAnalysis]:
    known = {name: one for name, one in zip(names, ones, strict=True) if one is not None}
    whole = sum(one.norm2 for one in known.values()) or 1.0
    blocks = {}
    for block, members in groups.items():
        inside = [known[name] for name in members if name in known]
        used = [one for one in inside if one.norm2 > 0] or [_One(0.0, 0.0, 0.0)]
        norm2 = sum(one.norm2 for one in inside)
        if inside:
            effective, stable = _mean([one.effective for one in used]), _mean([one.stable for one in used])
            blocks[block] = BlockAnalysis(len(inside), math.sqrt(norm2), norm2 / whole, effective, stable)
    return blocks


def _likeness(pairs: Sequence[_Pair]) -> BlockLikeness:
    if not pairs:
        return BlockLikeness(0, 0.0, 0.0, 90.0, None)
    both = math.sqrt(sum(pair.norms2[0] for pair in pairs) * sum(pair.norms2[1] for pair in pairs))
    downs = [pair.down for pair in pairs if pair.down is not None]
    size = math.sqrt(sum(one for _, one, _ in downs) * sum(other for _, _, other in downs))
    down = sum(dot for dot, _, _ in downs) / size if size else None
    return BlockLikeness(
        len(pairs),
        sum(pair.dot for pair in pairs) / both,
        _mean([pair.overlap for pair in pairs]),
        _mean([pair.angle for pair in pairs]),
        down,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _block_table(blocks: Mapping[str, BlockAnalysis]) -> str:
    rows = [["block", "modules", "norm", "share", "effective rank", "stable rank"]]
    rows += [
        [
            name,
            str(one.modules),
            f"{one.norm:.4g}",
            f"{100 * one.share:.1f} %",
            f"{one.effective_rank:.1f}",
            f"{one.stable_rank:.1f}",
        ]
        for name, one in blocks.items()
    ]
    return table(rows)


def _likeness_table(blocks: Mapping[str, BlockLikeness]) -> str:
    rows = [["block", "cosine", "overlap", "angle", "cosine of down"]]
    rows += [
        [
            name,
            f"{one.cosine:.3f}",
            f"{one.overlap:.3f}",
            f"{one.angle:.1f}",
            "-" if one.down is None else f"{one.down:.3f}",
        ]
        for name, one in blocks.items()
    ]
    return table(rows)
