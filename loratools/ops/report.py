"""What a merge did, in numbers: errors in total and per block, as text for people and as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratools.adapter.algebra.relative_error import relative_error
from loratools.blocks.scheme import NO_BLOCK, full_scheme, sorted_blocks
from loratools.ops.text_table import table


@dataclass(frozen=True)
class ModuleError:
    """Squared Frobenius norms of one module: ``norm2`` of the sum that was asked for, ``root2`` = sum |w d|^2 of its
    terms, ``stored2`` lost by the storage type, ``lost2`` lost by a rank rule."""

    norm2: float
    root2: float
    stored2: float
    lost2: float

    @property
    def cancels(self) -> bool:
        """Whether the terms cancel: |asked| under half of sqrt(sum |w d|^2)."""
        return self.norm2 < 0.25 * self.root2

    def __add__(self, other: ModuleError) -> ModuleError:
        return ModuleError(
            self.norm2 + other.norm2, self.root2 + other.root2, self.stored2 + other.stored2, self.lost2 + other.lost2
        )


@dataclass(frozen=True)
class ErrorShare:
    """Relative errors of a group of modules: in total, of storage alone, of truncation alone."""

    modules: int
    error: float
    storage: float
    truncation: float

    @staticmethod
    def of(modules: int, sums: ModuleError) -> ErrorShare:
        """From summed squares. Truncation is relative to what was asked; storage to that, or to sqrt(sum |w d|^2)
        where the terms cancel."""
        reference2 = sums.root2 if sums.cancels else sums.norm2
        storage = relative_error(sums.stored2, reference2)
        truncation = relative_error(sums.lost2, sums.norm2)
        return ErrorShare(modules, math.hypot(storage, truncation), storage, truncation)

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"modules": self.modules, "error": self.error, "storage": self.storage, "truncation": self.truncation}


def report_blocks(errors: Mapping[str, ModuleError], family: str) -> tuple[ErrorShare, dict[str, ErrorShare]]:
    """Errors in total, and by block in the order of the family's scheme."""
    groups = grouped(errors, family)
    blocks = {b: ErrorShare.of(len(names), _sum([errors[name] for name in names])) for b, names in groups.items()}
    return ErrorShare.of(len(errors), _sum(list(errors.values()))), blocks


@dataclass(frozen=True)
class LeftOut:
    """A part of what was asked for that the result does not hold.

    Args:
        kind: what it is, counted: ``12 convolutions and other layers``.
        option: the flag that takes it; empty where no LoRA file can hold it.
        names: the parameters.
        norm2: squared norm of their change.
    """

    kind: str
    option: str
    names: tuple[str, ...]
    norm2: float

    def text(self) -> str:
        """``12 convolutions and other layers (--conv)``."""
        return f"{self.kind} ({self.option or 'no LoRA file holds them'})"


@dataclass(frozen=True)
class MergeReport:
    """A written result.

    Attributes:
        digest: sha256 of the bytes after the header.
        total, blocks: what storing it cost against what the operation computed.
        ranks: by module.
        norm2: squared norm of what the modules were asked to be.
        distance: for a result that is not the exact sum of its terms, how far it is from that sum.
        left_out: parts of what was asked for that are not in it.
        whole: the relative error against all that was asked for, what is left out too; None where that is nothing.
        warnings: what to mind about the files that it was made of, a sentence each.
        weights: of an average over epochs: epoch -> its weight.
    """

    path: Path
    digest: str
    total: ErrorShare
    blocks: Mapping[str, ErrorShare]
    rule: str
    rank: int
    alpha: float
    modules: int
    size: int
    cancelled: tuple[str, ...]
    ranks: Mapping[str, int] = field(default_factory=dict)
    norm2: float = 0.0
    distance: Verification | None = None
    left_out: tuple[LeftOut, ...] = ()
    whole: float | None = None
    warnings: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float:
        """Relative error in total, of what is left out too."""
        return self.total.error if self.whole is None else self.whole

    @property
    def left_out_share(self) -> float:
        """``|left out| / |all that was asked for|``."""
        left2 = sum(part.norm2 for part in self.left_out)
        return math.sqrt(left2 / (left2 + self.norm2)) if left2 else 0.0

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": str(self.path),
            "digest": self.digest,
            "error": self.error,
            "storage": self.total.storage,
            "truncation": self.total.truncation,
            "rank": self.rank,
            "alpha": self.alpha,
            "rule": self.rule,
            "modules": self.modules,
            "size": self.size,
            "cancelled": list(self.cancelled),
            "blocks": {name: block.json() for name, block in self.blocks.items()},
            "warnings": list(self.warnings),
            **({"weights": dict(self.weights)} if self.weights else {}),
            **({"distance": self.distance.json()} if self.distance else {}),
            **(self._left_out_json() if self.left_out else {}),
        }

    def _left_out_json(self) -> dict[str, Any]:
        whole2 = self.norm2 + sum(part.norm2 for part in self.left_out)
        parts = [
            {
                "kind": part.kind.partition(" ")[2],
                "option": part.option or None,
                "count": len(part.names),
                "names": list(part.names),
                "share": math.sqrt(part.norm2 / whole2),
            }
            for part in self.left_out
        ]
        return {"error_of_kept": self.total.error, "left_out": parts, "left_out_share": self.left_out_share}

    def text(self) -> str:
        """A table of errors by block under one line of facts."""
        rows = [["block", "modules", "error", "storage", "truncation"]]
        shares = [*self.blocks.items(), ("total", self.total)]
        rows += [
            [name, str(s.modules), f"{s.error:.2e}", f"{s.storage:.2e}", f"{s.truncation:.2e}"] for name, s in shares
        ]
        size = f"{self.size / 2**20:.1f} MiB"
        facts = f"{self.path}  {self.modules} modules, rank {self.rank}, {size}, error {self.error:.2e}"
        lines = [facts, table(rows)]
        if self.weights:
            lines.append("weights: " + ", ".join(f"{name} {100 * one:.1f} %" for name, one in self.weights.items()))
        if self.left_out:
            parts = ", ".join(part.text() for part in self.left_out)
            lines.append(
                f"left out: {parts} = {100 * self.left_out_share:.1f} % of the change; the error {self.error:.2e} is "
                f"of the whole change, {self.total.error:.2e} of what is kept"
            )
        if self.cancelled:
            lines.append(f"{len(self.cancelled)} modules nearly cancel; they were re-balanced by SVD before the cast")
        if self.distance:
            lines += [f"this is not the sum that was asked for; it is {self.distance.error:.2e} of it away from it:"]
            lines += [self.distance.text()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Verification:
    """How far a file is from what was asked: relative error in total and by block."""

    error: float
    blocks: Mapping[str, float]

    def json(self) -> dict[str, Any]:
        """``{"error": x, "blocks": {NAME: x}}``."""
        return {"error": self.error, "blocks": dict(self.blocks)}

    def text(self) -> str:
        """A table of errors by block."""
        rows = [["block", "error"], *([name, f"{error:.2e}"] for name, error in self.blocks.items())]
        return table([*rows, ["total", f"{self.error:.2e}"]])


def grouped(names: Iterable[str], family: str) -> dict[str, list[str]]:
    """Module names by block, in the order of the family's scheme; blocks without modules are left out."""
    scheme = full_scheme(family)
    block_of = {name: scheme.block_of(name) for name in names}
    order = sorted_blocks(scheme, (block for block in block_of.values() if block is not None))
    groups: dict[str, list[str]] = {block: [] for block in (*order, NO_BLOCK)}
    for name, block in block_of.items():
        groups[block or NO_BLOCK].append(name)
    return {block: members for block, members in groups.items() if members}


def _sum(errors: Sequence[ModuleError]) -> ModuleError:
    total = ModuleError(0.0, 0.0, 0.0, 0.0)
    for error in errors:
        total = total + error
    return total
