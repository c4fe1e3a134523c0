"""Four ways to take a style out of a LoRA, each with what it removed and kept, block by block.

With S the style LoRA's difference of a module, R the one to remove and v the block's weight:

- direct:  ``S - v R``; equals a merge with weight -1.
- matched: ``S - v l R`` with ``l = <S, R> / |R|^2``, at least 0: removes what S has along R, and no more.
- project: ``S - v U U^T S`` (output side), ``S - v S V V^T`` (input), ``S - v U U^T S V V^T`` (both), where U and V are
  R's leading singular vectors.
- soft:    the same times ``m / (1 + m)``, which on one side is ``(I + m U U^T)^-1 S`` at v = 1 (cf. 2511.11051).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank, Vector, concatenate, inner, limit, zero
from loratools.adapter.algebra.rank import Energy, Exact, choose, spectrum
from loratools.errors import OptionError
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.lazy_result import LazyResult, norm2_of
from loratools.ops.merging.terms import Term

Mode = Literal["direct", "matched", "project", "soft"]
Side = Literal["output", "input", "both"]
_NOISE = 1e-12  # of |S|: what float64 leaves of a module that is removed whole


@dataclass(frozen=True)
class SubtractMethod:
    """How a style is removed.

    Args:
        energy: project and soft: the part of R's squared singular values that its directions must hold.
        side: project and soft: which side of the difference is freed of R's directions.
        mu: soft: how strongly; what R's directions keep is 1 / (1 + mu).
        most: matched: the largest multiple of R that is removed.
    Raises:
        OptionError: for a word that is not known, or a number out of its range.
    """

    mode: Mode = "direct"
    energy: float = 0.99
    side: Side = "output"
    mu: float = 1.0
    most: float = math.inf

    def __post_init__(self) -> None:
        for option, value, valid in (("mode", self.mode, get_args(Mode)), ("side", self.side, get_args(Side))):
            if value not in valid:
                raise OptionError(f"{option} '{value}' is not known; it may be {', '.join(valid)}")
        if not 0 < self.energy <= 1:
            raise OptionError(f"energy {self.energy:g} is out of range; it is a fraction, such as 0.99")
        if not (math.isfinite(self.mu) and self.mu > 0):
            raise OptionError(f"mu {self.mu:g} is out of range; it should be above 0, such as 1")
        if not self.most >= 0:
            raise OptionError(f"most {self.most:g} is out of range; it should be 0 or above")

    def json(self) -> dict[str, Any]:
        """The settings that this mode uses, for the header."""
        used: dict[Mode, tuple[str, ...]] = {
            "direct": (),
            "matched": ("most",),
            "project": ("energy", "side"),
            "soft": ("energy", "side", "mu"),
        }
        values = {key: getattr(self, key) for key in used[self.mode]}
        return {"mode": self.mode} | {key: value for key, value in values.items() if value != math.inf}


@dataclass(frozen=True)
class Removal:
    """Sums over modules: ``dot`` = <S, R>, and squared norms of S, of R, of what was taken and of what is kept."""

    dot: float = 0.0
    style2: float = 0.0
    base2: float = 0.0
    taken2: float = 0.0
    kept2: float = 0.0

    def __add__(self, other: Removal) -> Removal:
        return Removal(
            self.dot + other.dot,
            self.style2 + other.style2,
            self.base2 + other.base2,
            self.taken2 + other.taken2,
            self.kept2 + other.kept2,
        )

    @property
    def cosine(self) -> float:
        """Between S and R; 0 where either is zero."""
        both = math.sqrt(self.style2 * self.base2)
        return self.dot / both if both else 0.0

    @property
    def removed(self) -> float:
        """``|S - result|^2 / |S|^2``; 0 where S is zero and nothing was taken."""
        return self.taken2 / self.style2 if self.style2 else (math.inf if self.taken2 else 0.0)

    @property
    def kept(self) -> float:
        """``|result| / |S|``; 1 where both are zero."""
        return math.sqrt(self.kept2 / self.style2) if self.style2 else (math.inf if self.kept2 else 1.0)

    def json(self) -> dict[str, float]:
        """As JSON values."""
        return {"cosine": self.cosine, "removed": self.removed, "kept": self.kept}


class StyleRemoval(LazyResult):
    """The style with the base's part removed by a method, lazily by module; ``removed`` fills with what was removed.

    Args:
        style: S. ``base``: R at the strengths of its own terms.
        weighted: the base's terms with the block weights on top; v is the quotient of the two strengths.
    """

    def __init__(self, style: Combined, base: Combined, method: SubtractMethod, weighted: Sequence[Term]) -> None:
        self.family = style.family
        self.shapes = style.shapes
        self.dense = style.dense | (base.dense & set(style.shapes) if method.mode == "matched" else frozenset[str]())
        self.removed: dict[str, Removal] = {}
        self._style = style
        self._base = base
        self._method = method
        self._weighted = combine(weighted)
        self.ranks = {name: self._rank(name) for name in style.shapes}

    @property
    def all_names(self) -> list[str]:
        """The modules of both sides."""
        return sorted({*self._style, *self._base})

    def __getitem__(self, name: str) -> Delta:
        return self.measure(name)

    def measure(self, name: str) -> Delta:
        """One module's result, computed in float64; what was removed goes into ``removed``."""
        s = _of(self._style, name, self._base)
        r = _of(self._weighted, name, self._style)  # v R, whose directions are R's
        result = self._apply(name, s, r)
        if name in self.dense and isinstance(result, LowRank):
            result = Dense(result.dense())
        if isinstance(result, LowRank):  # the layout has promised room for a part that turned out to be less
            result = result.padded(self.ranks.get(name, 0))
        style2, kept2 = norm2_of(s), norm2_of(result)
        if kept2 <= _NOISE**2 * style2:  # all of it was removed, and rounding is no style
            result, kept2 = result.scaled(0.0), 0.0
        taken = concatenate([(1.0, s), (-1.0, result)])
        self.removed[name] = Removal(inner(s, r), style2, norm2_of(r), norm2_of(taken), kept2)
        return _single(result)

    def norms2(self, name: str, delta: Delta) -> tuple[float, float]:
        """Only the matched difference is a sum whose terms may cancel; projections are computed without cancelling."""
        removed = self.removed[name]
        return norm2_of(delta), removed.style2 + removed.taken2 if self._method.mode == "matched" else removed.kept2

    def _apply(self, name: str, s: Delta, r: Delta) -> Delta:
        match self._method.mode:
            case "direct":
                return concatenate([(1.0, s), (-1.0, r)])
            case "matched":
                return _matched(s, _of(self._base, name, self._style), r, self._method.most)
        base = _of(self._base, name, self._style)
        mu = self._method.mu
        strength = self._block_weight(base, r) * (mu / (1 + mu) if self._method.mode == "soft" else 1.0)
        u, v = directions(base, self._method.energy)
        return _projected(s, u, v, strength, self._method.side)

    def _block_weight(self, base: Delta, weighted: Delta) -> float:
        """v of the module: the multiple of R that the block weights make of it."""
        norm2 = norm2_of(base)
        return inner(base, weighted) / norm2 if norm2 else 0.0

    def _rank(self, name: str) -> int:
        own = self._style.ranks[name]
        match self._method:
            case SubtractMethod(mode="matched"):
                return own + self._weighted.ranks.get(name, 1)
            case SubtractMethod(mode="project" | "soft", side="both"):
                return own + min(own, self._base.ranks.get(name, 1), limit(self.shapes[name]))
        return own


def directions(delta: Delta, energy: float) -> tuple[Tensor, Tensor]:
    """``U`` (out, k) and ``V^T`` (k, in * kh * kw): the leading singular vectors that hold ``energy``; k is 0 for a
    zero difference."""
    whole = spectrum(delta)
    if not bool(whole.s[0] > 0):
        return whole.u[:, :0], whole.v[:0]
    columns = max(delta.shape[0], math.prod(delta.shape[1:]))
    rank = min(choose(whole.s, Energy(energy), columns), choose(whole.s, Exact(), columns))
    return whole.u[:, :rank], whole.v[:rank]


def _matched(s: Delta, base: Delta, weighted: Delta, most: float) -> Delta:
    norm2 = norm2_of(base)
    multiple = min(max(inner(s, base) / norm2, 0.0), most) if norm2 else 0.0
    return concatenate([(1.0, s), (-multiple, weighted)])


def _projected(s: Delta, u: Tensor, v: Tensor, strength: float, side: Side) -> Delta:
    if not isinstance(s, LowRank):
        return _projected_dense(s, u, v, strength, side)
    match side:
        case "output":
            return _canonical(LowRank(s.up - strength * (u @ (u.T @ s.up)), s.down, s.shape))
        case "input":
            return _canonical(LowRank(s.up, s.down - strength * ((s.down @ v.T) @ v), s.shape))
    if u.shape[1] <= s.rank:  # the shorter of U C and V^T, or U U^T up and down V V^T
        more_up, more_down = u @ ((u.T @ s.up) @ (s.down @ v.T)), v
    else:
        more_up, more_down = u @ (u.T @ s.up), (s.down @ v.T) @ v
    return _canonical(LowRank(torch.cat([s.up, -strength * more_up], 1), torch.cat([s.down, more_down]), s.shape))


def _canonical(delta: LowRank) -> LowRank:
    """The same by SVD: what a projection leaves are components that cancel in part, which a half-precision cast would
    show."""
    whole = spectrum(delta)
    root = whole.s.sqrt()
    return LowRank(whole.u * root, whole.v * root[:, None], delta.shape)


def _projected_dense(s: Delta, u: Tensor, v: Tensor, strength: float, side: Side) -> Delta:
    matrix = s.dense().reshape(s.shape[0], -1)
    part = u @ (u.T @ matrix) if side != "input" else matrix
    part = (part @ v.T) @ v if side != "output" else part
    value = (matrix - strength * part).reshape(s.shape)
    return Vector(value) if isinstance(s, Vector) else Dense(value)


def _of(source: Combined, name: str, other: Combined) -> Delta:
    if name in source.shapes:
        return source.delta(name, torch.float64)
    return zero(other.shapes[name], torch.float64)


def _single(delta: Delta) -> Delta:
    if isinstance(delta, LowRank):
        return delta.to(torch.float32)
    return Vector(delta.value.float()) if isinstance(delta, Vector) else Dense(delta.value.float())
