"""Suggested block vectors from files alone: how much of a style LoRA lies along a base-style LoRA, block by block.

Seen as long vectors, the style ``S`` splits into a part along the base style ``R`` and the rest, which is orthogonal to
it: ``S = c R + S'`` with ``c = <S, R> / |R|^2`` (least squares). ``GP1 S - GP2 R`` has no part along ``R`` left when
``GP2 = GP1 c``: that removes the base's style and no more. All of it is computed in factors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, inner
from loratools.adapter.algebra.rank import spectrum
from loratools.adapter.files.epoch_files import epochs
from loratools.adapter.files.file import Adapter, read
from loratools.adapter.files.lora_file import STRICT, KeyRules
from loratools.adapter.parallel import in_order
from loratools.blocks.scheme import UNKNOWN, Scheme, full_scheme, shortest_scheme, sorted_blocks
from loratools.blocks.vector import BlockVector
from loratools.errors import BlockError, FileError, ShapeError
from loratools.ops.merging.one_model import read_alike
from loratools.ops.merging.one_spelling import no_common_module, one_spelling
from loratools.ops.text_table import table

_NOTHING = 1e-12  # relative: what rounding leaves of a norm or a singular value of zero
_STILL_GROWING = 0.05  # growth over the later half beyond the median that is worth a word
_FAR = 2.0  # in median absolute deviations


@dataclass(frozen=True)
class Alignment:
    """One block: the least-squares ``coefficient`` of the base style in the style, their ``cosine``, and ``overlap``,
    the mean over modules of how much of the smaller subspace lies in the larger (0 to 1, of outputs and inputs).

    ``chance`` is the overlap that random subspaces of these sizes would have; only what lies above it says anything.
    """

    modules: int
    style: float
    base: float
    coefficient: float
    cosine: float
    overlap: float
    chance: float


@dataclass(frozen=True)
class Growth:
    """One block over a run's epochs: its norms, its growth over the later half, and that growth beyond the rest's.

    ``factor`` brings the norm back to where the rest's pace would have left it; 1 for a block that is no suspect.
    """

    norms: tuple[float, ...]
    growth: float
    beyond: float
    suspect: bool
    factor: float


@dataclass(frozen=True)
class Suggestion:
    """Suggested vectors beside the guide's, by block of ``scheme``; ``growth`` is empty unless a run was given."""

    scheme: str
    blocks: Mapping[str, Alignment]
    gp1: Mapping[str, float]
    gp2: Mapping[str, float]
    guide_gp1: Mapping[str, float]
    guide_gp2: Mapping[str, float]
    growth: Mapping[str, Growth]

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "scheme": self.scheme,
            "blocks": {name: asdict(block) for name, block in self.blocks.items()},
            "gp1": dict(self.gp1),
            "gp2": dict(self.gp2),
            "guide": {"gp1": dict(self.guide_gp1), "gp2": dict(self.guide_gp2)},
            "growth": {name: asdict(growth) for name, growth in self.growth.items()},
            "suspects": self.suspects,
        }

    @property
    def suspects(self) -> list[str]:
        """The blocks whose norm keeps growing while the rest has settled."""
        return [name for name, growth in self.growth.items() if growth.suspect]

    def text(self) -> str:
        """For a person: a table, and both vectors as they can be pasted."""
        head = ["block", "modules", "|S|", "|R|", "coefficient", "cosine", "overlap", "chance", "GP2", "guide's"]
        head += ["growth", "GP1", "guide's"] if self.growth else []
        rows = [head]
        for name, block in self.blocks.items():
            row = [
                name,
                str(block.modules),
                f"{block.style:.3g}",
                f"{block.base:.3g}",
                f"{block.coefficient:+.3f}",
                f"{block.cosine:+.3f}",
                f"{block.overlap:.3f}",
                f"{block.chance:.3f}",
                f"{self.gp2[name]:.3f}",
                _shown(self.guide_gp2.get(name)),
            ]
            if self.growth and name in self.growth:
                mark = " !" if self.growth[name].suspect else "  "
                row += [
                    f"{100 * self.growth[name].growth:+.0f} %{mark}",
                    f"{self.gp1[name]:.3f}",
                    _shown(self.guide_gp1.get(name)),
                ]
            rows.append(row + ["-"] * (len(head) - len(row)))
        lines = [table(rows), "", f"GP2 that removes the base's part and no more: {self._list(self.gp2)}"]
        if self.growth:
            lines.append(f"GP1 with the growing blocks held back: {self._list(self.gp1)}")
            suspects = " ".join(self.suspects) or "none"
            lines.append(f"still growing while the rest has settled (overfit suspects): {suspects}")
        return "\n".join(lines)

    def _list(self, weights: Mapping[str, float]) -> str:
        """A vector as a merge string takes it: bare numbers, or with names where the blocks have no agreed order."""
        numbers = {name: f"{weight:.3f}".rstrip("0").rstrip(".") for name, weight in weights.items()}
        named = self.scheme == UNKNOWN.name
        return ",".join(f"{name}={number}" if named else number for name, number in numbers.items())


def suggest(
    style: Path,
    base_style: Path,
    gp1: BlockVector | None = None,
    gp2: BlockVector | None = None,
    keys: KeyRules = STRICT,
) -> Suggestion:
    """Suggest GP2 from the overlap of two LoRAs, and GP1 from the epochs where ``style`` is a training run.

    Args:
        style: a LoRA file, or a run; its last epoch counts for the overlap.
        base_style: a LoRA file, or a run, whose last epoch is taken.
        gp1: the vector that the style will be given, by default all ones; GP2 is measured against it.
        gp2: the guide's, to be shown beside.
        keys: what is done about keys that no table knows.
    Raises:
        FileError, FormatError: for files that are missing or no LoRA.
        ShapeError: if a module has another shape in the other file.
        BlockError: if they are of different families.
    """
    runs = _epochs(style)

    def opened(path: Path) -> Adapter:
        return read(path, None, keys.allow_unknown, keys.drop)

    adapter, other = read_alike([opened(runs[-1]), opened(_epochs(base_style)[-1])])
    if full_scheme(adapter.family) is not full_scheme(other.family):
        raise BlockError(f"{style} is of {adapter.family} and {base_style} of {other.family}; their blocks differ")
    adapter, other = one_spelling([adapter, other])
    if not set(adapter) & set(other):
        raise no_common_module(style, base_style)
    scheme = shortest_scheme(adapter.family, [*adapter, *other])
    blocks = align(adapter, other, scheme)
    growth = (
        measure_growth(read_alike([opened(path) for path in runs], adapter.family), scheme) if len(runs) > 2 else {}
    )
    names = scheme.names or tuple(blocks)
    guide = {name: gp1.weights.get(name, 1.0) if gp1 is not None else 1.0 for name in names}
    ours = {name: weight * (growth[name].factor if name in growth else 1.0) for name, weight in guide.items()}
    along = {name: block.coefficient for name, block in blocks.items()}
    removing = {name: max(0.0, weight * along.get(name, 0.0)) for name, weight in ours.items()}
    theirs = {name: weight for name, weight in gp2.weights.items() if name in names} if gp2 is not None else {}
    return Suggestion(
        scheme=scheme.name, blocks=blocks, gp1=ours, gp2=removing, guide_gp1=guide, guide_gp2=theirs, growth=growth
    )


def align(style: Adapter, base: Adapter, scheme: Scheme) -> dict[str, Alignment]:
    """How two LoRAs lie to each other in each block of ``scheme`` that either of them changes.

    Raises:
        ShapeError: if a module has another shape in the other file.
    """
    names = sorted({*style, *base})
    groups: dict[str, list[_Pair]] = {}
    for name, pair in in_order(lambda name: (name, _pair(name, style, base)), names):
        block = scheme.block_of(name)
        if block is not None:
            groups.setdefault(block, []).append(pair)
    return {name: _alignment(groups[name]) for name in sorted_blocks(scheme, groups)}


def measure_growth(run: Sequence[Adapter], scheme: Scheme) -> dict[str, Growth]:
    """Each block's norm over the epochs of a run, and which keep growing while the rest has settled.

    A suspect grows over the later half by more than the median of all blocks plus two median absolute deviations, and
    by at least 5 % more than it.
    """
    norms: dict[str, list[float]] = {}
    for epoch, adapter in enumerate(run):
        squares: dict[str, float] = {}
        for name, square in _squares(adapter):
            block = scheme.block_of(name)
            if block is not None:
                squares[block] = squares.get(block, 0.0) + square
        for name, square in squares.items():
            norms.setdefault(name, [0.0] * len(run))[epoch] = math.sqrt(square)
    held = {name: norms[name] for name in sorted_blocks(scheme, norms) if any(norms[name])}
    middle = (len(run) - 1) // 2
    pace = {name: _growth(norms, middle) for name, norms in held.items()}
    typical = median(pace.values()) if pace else 0.0
    spread = median(abs(value - typical) for value in pace.values()) if pace else 0.0
    return {name: _judged(norms, pace[name], typical, spread) for name, norms in held.items()}


def _squares(adapter: Adapter) -> Iterator[tuple[str, float]]:
    return iter(in_order(lambda name: (name, adapter[name].norm() ** 2), adapter))


@dataclass(frozen=True)
class _Pair:
    """One module in both files: squared norms, inner product, and the overlap of their subspaces beside what chance
    would give, if both have one."""

    style2: float
    base2: float
    product: float
    overlap: tuple[float, float] | None


def _pair(name: str, style: Adapter, base: Adapter) -> _Pair:
    a = style.get(name)
    b = base.get(name)
    if a is None or b is None:
        return _Pair(0.0 if a is None else a.norm() ** 2, 0.0 if b is None else b.norm() ** 2, 0.0, None)
    if math.prod(a.shape) != math.prod(b.shape) or a.shape[0] != b.shape[0]:
        raise ShapeError(
            f"{name} is {tuple(a.shape)} in {style.path} and {tuple(b.shape)} in {base.path}; they are "
            "of different models"
        )
    product = 0.0 if len(a.shape) == 1 != len(b.shape) else inner(a, b)
    return _Pair(a.norm() ** 2, b.norm() ** 2, product, _overlap(a, b))


def _overlap(a: Delta, b: Delta) -> tuple[float, float] | None:
    """``|Qa^T Qb|^2 / min(rank)``, the mean of output and input subspaces, and its expectation for random ones, which
    is ``max(rank) / size``; None if one of the two is zero."""
    if len(a.shape) == 1:
        return None
    (left_a, right_a), (left_b, right_b) = _bases(a), _bases(b)
    smaller = min(left_a.shape[1], left_b.shape[1])
    if smaller == 0:
        return None
    sides = ((left_a.T @ left_b), (right_a.T @ right_b))
    larger = max(left_a.shape[1], left_b.shape[1])
    chance = (larger / left_a.shape[0] + larger / right_a.shape[0]) / 2
    return sum(float((side**2).sum()) / smaller for side in sides) / 2, chance


def _bases(delta: Delta) -> tuple[Tensor, Tensor]:
    """Orthonormal bases of the outputs (out, r) and inputs (in, r), for the directions that are not rounding."""
    whole = spectrum(delta)
    kept = int((whole.s > _NOTHING + 1e-6 * whole.s.max()).sum()) if len(whole.s) else 0
    return whole.u[:, :kept], whole.v[:kept].T


def _alignment(pairs: Sequence[_Pair]) -> Alignment:
    style2, base2 = sum(pair.style2 for pair in pairs), sum(pair.base2 for pair in pairs)
    product = sum(pair.product for pair in pairs)
    overlaps = [pair.overlap for pair in pairs if pair.overlap is not None]
    both = math.sqrt(style2 * base2)
    return Alignment(
        len(pairs),
        math.sqrt(style2),
        math.sqrt(base2),
        product / base2 if base2 > 0 else 0.0,
        product / both if both > 0 else 0.0,
        *_means(overlaps),
    )


def _means(overlaps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    count = max(len(overlaps), 1)
    return sum(overlap for overlap, _ in overlaps) / count, sum(chance for _, chance in overlaps) / count


def _growth(norms: Sequence[float], middle: int) -> float:
    return norms[-1] / norms[middle] - 1 if norms[middle] > 0 else math.inf if norms[-1] > 0 else 0.0


def _judged(norms: Sequence[float], growth: float, typical: float, spread: float) -> Growth:
    beyond = growth - typical
    suspect = beyond > max(_STILL_GROWING, _FAR * spread)
    factor = (1 + max(typical, 0.0)) / (1 + growth) if suspect and math.isfinite(growth) else 1.0
    return Growth(tuple(norms), growth, beyond, suspect, min(1.0, factor))


def _epochs(run: Path) -> list[Path]:
    if run.is_file():
        return [run]
    if not run.exists() and not run.parent.exists():
        raise FileError(f"there is no {run}; give a LoRA file or a training run's folder")
    return [epoch.path for epoch in epochs(run)]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
