"""What any number of LoRAs do to one another when they are added: the shares that agree, cancel, and are orthogonal.

Every difference is taken apart into its singular components ``s u v^T``. The others, summed, have ``c = u^T R v`` in
such a direction: with ``c > 0`` they go the same way, with ``c < 0`` against it, and so the part ``min(1, |c| / s)`` of
the component's squared norm agrees or cancels; the rest is orthogonal to what they do. All of it comes from the
factors: no (out, in) matrix is formed, and nothing depends on how a file is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loratools.adapter.algebra.rank import Spectrum
from loratools.ops.text_table import table

_LONGEST = 40  # characters of a file's name in a table
_PAIRS = 12  # pairs that the text lists, those that touch one another most; the JSON has all


@dataclass(frozen=True)
class ConflictShare:
    """Shares of the squared norms, which add up to 1, over some modules and files.

    Attributes:
        strength: ``|sum d_i| / sqrt(sum |d_i|^2)``: 1 where all are orthogonal, above it where they add up, below it
            where they cancel; of one file, in which the others have no part, it is 1.
    """

    modules: int
    agree: float
    cancel: float
    orthogonal: float
    strength: float

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "modules": self.modules,
            "agree": self.agree,
            "cancel": self.cancel,
            "orthogonal": self.orthogonal,
            "strength": self.strength,
        }

    def cells(self) -> list[str]:
        """The shares as a table's cells."""
        return [f"{100 * share:.1f} %" for share in (self.agree, self.cancel, self.orthogonal)]


@dataclass(frozen=True)
class Conflict:
    """What files added at weight 1 do to one another.

    Attributes:
        blocks: by block, over all files.
        files: of each file, over all blocks, in the order of ``paths``.
        cosines: (i, j) -> cosine of two whole files, over the modules that both have.
    """

    paths: tuple[Path, ...]
    blocks: Mapping[str, ConflictShare]
    total: ConflictShare
    files: tuple[ConflictShare, ...]
    cosines: Mapping[tuple[int, int], float]

    def json(self) -> dict[str, Any]:
        """The total's shares, and ``blocks``, ``files`` and ``pairs``, whose ``files`` count from 0."""
        return {
            **self.total.json(),
            "blocks": {name: share.json() for name, share in self.blocks.items()},
            "files": [{"path": str(path), **share.json()} for path, share in zip(self.paths, self.files, strict=True)],
            "pairs": [{"files": list(pair), "cosine": cosine} for pair, cosine in self.cosines.items()],
        }

    def text(self) -> str:
        """A table by file, one by block, and for three files and more one by pair; none wider than 80 columns."""
        heads = ["agree", "cancel", "orthogonal"]
        files = [["file", *heads]]
        files += [
            [f"{number} {_clipped(path.name)}", *share.cells()]
            for number, (path, share) in enumerate(zip(self.paths, self.files, strict=True), 1)
        ]
        rows = [["block", "modules", *heads, "sum"]]
        rows += [
            [_clipped(name), str(share.modules), *share.cells(), f"{share.strength:.2f}"]
            for name, share in (*self.blocks.items(), ("total", self.total))
        ]
        parts = [table(files), table(rows)]
        if len(self.paths) > 2:
            order = sorted(self.cosines.items(), key=lambda item: -abs(item[1]))
            pairs = [["files", "cosine"], *([f"{i + 1} and {j + 1}", f"{cosine:.3f}"] for (i, j), cosine in order)]
            parts.append(table(pairs[: _PAIRS + 1]))
            if len(order) > _PAIRS:
                parts.append(f"and {len(order) - _PAIRS} pairs whose cosines are nearer to 0")
        return "\n\n".join(parts)


@dataclass(frozen=True)
class ModuleConflict:
    """One module's squared norms ``norms2``, what of them agrees and cancels (a number for each file), and all inner
    products by pair."""

    norms2: tuple[float, ...]
    agree: tuple[float, ...]
    cancel: tuple[float, ...]
    products: Mapping[tuple[int, int], float]


def measure_conflict(spectra: Sequence[Spectrum | None]) -> ModuleConflict:
    """One module of several files.

    Args:
        spectra: of each file; None where it lacks the module.
    """
    known = {index: one for index, one in enumerate(spectra) if one is not None and float(one.s[0]) > 0}
    met = {index: torch.zeros_like(one.s) for index, one in known.items()}  # c, along the file's own directions
    products: dict[tuple[int, int], float] = {}
    for i, j in combinations(known, 2):
        shared = (known[i].u.T @ known[j].u) * (known[i].v @ known[j].v.T)
        met[i] += shared @ known[j].s
        met[j] += shared.T @ known[i].s
        products[i, j] = float(known[i].s @ shared @ known[j].s)
    norms2, agree, cancel = ([0.0] * len(spectra) for _ in range(3))
    for index, one in known.items():
        norms2[index] = float((one.s**2).sum())
        agree[index], cancel[index] = _parts(one.s, met[index])
    return ModuleConflict(tuple(norms2), tuple(agree), tuple(cancel), products)


def summarize_conflict(
    modules: Mapping[str, ModuleConflict], groups: Mapping[str, Sequence[str]], paths: Sequence[Path]
) -> Conflict:
    """All modules, by block, by file and in total.

    Args:
        groups: block -> its modules.
    """
    blocks = {block: _share([modules[name] for name in names]) for block, names in groups.items()}
    every = list(modules.values())
    files = tuple(_share(every, index) for index in range(len(paths)))
    cosines = {pair: _cosine(every, pair) for pair in combinations(range(len(paths)), 2)}
    return Conflict(tuple(paths), blocks, _share(every), files, cosines)


def _parts(values: Tensor, met: Tensor) -> tuple[float, float]:
    """What of the squared singular values agrees with what the others have there, and what they cancel."""
    matched = values * met.abs().minimum(values)
    return float(matched[met > 0].sum()), float(matched[met < 0].sum())


def _share(modules: Sequence[ModuleConflict], index: int | None = None) -> ConflictShare:
    """Over all files, or of the file ``index`` alone."""
    taken = slice(None) if index is None else slice(index, index + 1)
    count = sum(any(one.norms2[taken]) for one in modules)
    norm2 = sum(sum(one.norms2[taken]) for one in modules)
    if norm2 == 0:
        return ConflictShare(count, 0.0, 0.0, 1.0, 1.0)
    agree = sum(sum(one.agree[taken]) for one in modules) / norm2
    cancel = sum(sum(one.cancel[taken]) for one in modules) / norm2
    products = sum(sum(one.products.values()) for one in modules) if index is None else 0.0
    strength = math.sqrt(max(1 + 2 * products / norm2, 0.0))
    return ConflictShare(count, agree, cancel, max(1 - agree - cancel, 0.0), strength)


def _cosine(modules: Sequence[ModuleConflict], pair: tuple[int, int]) -> float:
    both = [one for one in modules if pair in one.products]
    size = math.sqrt(math.prod(sum(one.norms2[index] for one in both) for index in pair))
    return sum(one.products[pair] for one in both) / size if size else 0.0


def _clipped(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 15]}...{name[-12:]}"
