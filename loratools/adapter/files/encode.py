"""From differences to the tensors of a file: which keys, which shapes, which ranks, and what the cast loses.

Two styles. kohya's stores one ``alpha`` for the whole file and fuses what the original networks fuse; Diffusers' stores
``lora_A`` and ``lora_B`` by canonical name with the scale folded in, so that no alpha is needed. All modules of a
component then have one rank, the lower ones padded with zeros: diffusers before 0.40 takes one module's rank for
the alpha of all, and scales modules of other ranks wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from loratools.adapter.algebra.fuse import cut_factors, join, same_down, take
from loratools.adapter.algebra.fused_rows import FusedWeight, Rows, height_of, rows_of
from loratools.adapter.algebra.lowrank import Delta, LowRank, balance, finite, gram
from loratools.adapter.algebra.relative_error import relative_error
from loratools.adapter.algebra.shapes import limit
from loratools.adapter.architectures.names import UNKNOWN, kohya_name, kohya_weights, other_tree
from loratools.dtypes import dtype_name, stored_name
from loratools.errors import FormatError, NonFiniteError
from loratools.module_path import split_path

Style = Literal["kohya", "diffusers"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class CastError:
    """What storing a module, or several, cost: squared norms of what was asked, and of what the file misses of it."""

    norm2: float = 0.0
    error2: float = 0.0

    def __add__(self, other: CastError) -> CastError:
        return CastError(self.norm2 + other.norm2, self.error2 + other.error2)

    @property
    def relative(self) -> float:
        """``|stored - asked| / |asked|`` (Frobenius)."""
        return relative_error(self.error2, self.norm2)


@runtime_checkable
class KnownLayout(Protocol):
    """A mapping that knows its modules' shapes and ranks without computing their factors."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def ranks(self) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class StoredTensor:
    """One tensor to write."""

    key: str
    shape: Shape


@dataclass(frozen=True)
class Slot:
    """One stored weight: the canonical ``names`` that it holds, each at its ``rows`` of ``shape``.

    ``kind`` is ``kohya`` or ``diffusers`` factors, or ``full``. ``alpha`` is stored, ``scale`` = alpha / rank.
    ``padded`` says that ``rank`` is above the difference's own: the rest of the components are zero.
    """

    names: tuple[str, ...]
    rows: tuple[Rows, ...]
    shape: Shape
    tensors: tuple[StoredTensor, ...]
    kind: Literal["kohya", "diffusers", "full"]
    rank: int
    alpha: float = 1.0
    balanced: bool = True
    padded: bool = False

    @property
    def scale(self) -> float:
        """What the stored product is multiplied by."""
        return self.alpha / self.rank if self.kind == "kohya" else 1.0

    @property
    def wide(self) -> bool:
        """Whether it is a convolution wider than 1x1."""
        return any(size > 1 for size in self.shape[2:])


@dataclass(frozen=True)
class _Bundle:
    """The canonical names that one stored weight will hold, before its rank is known."""

    stem: str
    suffix: str
    names: tuple[str, ...]
    rows: tuple[Rows, ...]
    shape: Shape


def lay_out(
    adapter: Mapping[str, Delta],
    family: str,
    style: Style,
    dtype: torch.dtype,
    alpha: float | Mapping[str, float] | None,
) -> list[Slot]:
    """The stored weights of ``adapter`` in the file's order, every shape and rank decided.

    Raises:
        FormatError: if there is nothing to write, the style has no word for a difference, or a module is not of the
            family.
    """
    if not len(adapter):
        raise FormatError("an adapter of no modules cannot be written")
    dtype_name(dtype)  # raises for a type that LoRA files are not written in
    shapes, ranks, dense = _layout(adapter)
    if style == "diffusers":
        own = {name: limit(shapes[name]) if name in dense else ranks[name] for name in adapter}
        stored = one_rank_each(own, family)
        slots = [_diffusers_slot(name, shapes[name], stored[name], own[name]) for name in adapter]
        return sorted(slots, key=lambda slot: slot.tensors[0].key)
    bundles = bundled(shapes, family)
    heights = {bundle.stem: _rank(adapter, bundle, ranks) for bundle in bundles if not _full(bundle, dense)}
    return kohya_slots(bundles, heights, dtype, alpha)


def one_rank_each(ranks: Mapping[str, int], family: str) -> dict[str, int]:
    """The rank at which each module is stored in Diffusers' style: the highest of its component.

    Loaders read a file component by component (``unet``, ``text_encoder``), so each may have a rank of its own.
    """
    highest: dict[str, int] = {}
    components = {name: _component(name, family) for name in ranks}
    for name, rank in ranks.items():
        highest[components[name]] = max(rank, highest.get(components[name], 1))
    return {name: highest[components[name]] for name in ranks}


def _component(name: str, family: str) -> str:
    """What a loader loads in one go: a canonical name's first part, or what an unknown family's namespace says."""
    if family == UNKNOWN.name:
        return split_path(name).component
    return name.partition(".")[0]


def kohya_slots(
    bundles: Sequence[_Bundle], ranks: Mapping[str, int], dtype: torch.dtype, alpha: float | Mapping[str, float] | None
) -> list[Slot]:
    """kohya's slots in order: factors where ``ranks`` has the stem, else full differences."""
    highest = max((ranks[b.stem] for b in bundles if not b.suffix and b.stem in ranks), default=1)

    def slot(bundle: _Bundle) -> Slot:
        if bundle.suffix or bundle.stem not in ranks:
            parts: tuple[StoredTensor, ...] = (StoredTensor(f"{bundle.stem}.{bundle.suffix or 'diff'}", bundle.shape),)
            return Slot(bundle.names, bundle.rows, bundle.shape, parts, kind="full", rank=limit(bundle.shape))
        rank, shape, ones = ranks[bundle.stem], bundle.shape, (1,) * (len(bundle.shape) - 2)
        wanted = alpha[bundle.names[0]] if isinstance(alpha, Mapping) else alpha
        stored = float(torch.tensor(float(highest if wanted is None else wanted), dtype=dtype))
        parts = (
            StoredTensor(f"{bundle.stem}.alpha", ()),
            StoredTensor(f"{bundle.stem}.lora_down.weight", (rank, *shape[1:])),
            StoredTensor(f"{bundle.stem}.lora_up.weight", (shape[0], rank, *ones)),
        )
        balanced = alpha is None
        return Slot(bundle.names, bundle.rows, shape, parts, kind="kohya", rank=rank, alpha=stored, balanced=balanced)

    return sorted((slot(bundle) for bundle in bundles), key=lambda slot: slot.tensors[0].key)


def bundled(shapes: Mapping[str, Shape], family: str) -> list[_Bundle]:
    """The names of ``shapes`` by the kohya weight that holds them.

    Raises:
        FormatError: if a module is not of the family, or fused ones do not fit together.
    """
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for name in shapes:
        module, suffix = _parameter(name, shapes, family)
        groups.setdefault((kohya_name(module, family), suffix), {})[module] = name
    return [_bundle(stem, suffix, members, shapes, family) for (stem, suffix), members in groups.items()]


def encode(adapter: Mapping[str, Delta], slot: Slot, dtype: torch.dtype) -> tuple[list[Tensor], dict[str, CastError]]:
    """The tensors of one slot as they are stored, and what each of its modules loses by that.

    Raises:
        NonFiniteError: if an entry is not finite in ``dtype``.
    """
    given = [(rows, adapter[name]) for name, rows in zip(slot.names, slot.rows, strict=True)]
    whole = given[0][1] if given[0][0] == ((0, slot.shape[0]),) else join(given, slot.shape)
    if slot.kind == "full":
        tensors, errors = _encode_full(whole, slot, dtype)
    else:
        tensors, errors = _encode_factors(whole if isinstance(whole, LowRank) else _as_factors(whole), slot, dtype)
    if [tuple(tensor.shape) for tensor in tensors] != [tensor.shape for tensor in slot.tensors]:
        raise FormatError(f"module {slot.names[0]} changed its shape while it was written")
    if not all(finite(tensor) for tensor in tensors):
        raise NonFiniteError(
            f"module {slot.names[0]} does not fit into {stored_name(dtype)} (or is not finite); "
            "write another type, such as fp32"
        )
    return tensors, errors


def _encode_factors(delta: LowRank, slot: Slot, dtype: torch.dtype) -> tuple[list[Tensor], dict[str, CastError]]:
    """alpha, down and up as they are stored, and the error of the cast from Gram matrices of the rounding itself."""
    given = _plain_factors(delta).scaled(1 / slot.scale)
    given = balance(given) if slot.balanced else given
    given = given.padded(slot.rank) if slot.kind == "diffusers" else given
    up, down = given.up.to(dtype), given.down.to(dtype)
    errors = {}
    for name, rows in zip(slot.names, slot.rows, strict=True):
        errors[name] = cast_error(cut_factors(given, rows), take(up, rows), down, slot.scale)
    tensors = [down.reshape(slot.tensors[-2].shape), up.reshape(slot.tensors[-1].shape)]
    return [torch.tensor(slot.alpha, dtype=dtype), *tensors] if slot.kind == "kohya" else tensors, errors


def _encode_full(delta: Delta, slot: Slot, dtype: torch.dtype) -> tuple[list[Tensor], dict[str, CastError]]:
    value = _plain(delta.dense(torch.float32)).reshape(slot.shape)
    stored = value.to(dtype)
    squares, lost = value.double() ** 2, (value.double() - stored.double()) ** 2
    errors = {
        name: CastError(float(take(squares, rows).sum()), float(take(lost, rows).sum()))
        for name, rows in zip(slot.names, slot.rows, strict=True)
    }
    return [stored], errors


def _as_factors(delta: Delta) -> LowRank:
    """A full difference as the product of itself and a unit matrix, which is exact."""
    matrix = delta.dense(torch.float32).reshape(delta.shape[0], -1)
    rows, columns = matrix.shape
    unit = torch.eye(min(rows, columns))
    return LowRank(unit, matrix, delta.shape) if rows <= columns else LowRank(matrix, unit, delta.shape)


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32)


def _plain_factors(delta: LowRank) -> LowRank:
    """``delta`` itself where its factors are plain already, so that what is known of it stays known."""
    factors = (delta.up, delta.down)
    if all(f.dtype == torch.float32 and f.device.type == "cpu" and not f.requires_grad for f in factors):
        return delta
    return LowRank(_plain(delta.up), _plain(delta.down), delta.shape)


def cast_error(given: LowRank, up: Tensor, down: Tensor, scale: float) -> CastError:
    """``|scale * given|^2`` and ``|scale * (given - up @ down)|^2`` for factors that were rounded from ``given``'s.

    The difference is ``(u - u') d' + u (d - d')``: rounding residues are exact in float32, nothing cancels.
    """
    kept_up, kept_down = up.to(given.up.dtype), down.to(given.down.dtype)
    exact_up, exact_down = torch.equal(kept_up, given.up), torch.equal(kept_down, given.down)
    gram_up, gram_down = given.grams
    norm2 = float((gram_up * gram_down).sum())
    if exact_up and exact_down:
        return CastError(max(norm2, 0.0) * scale**2, 0.0)
    lost_up, lost_down = given.up - kept_up, given.down - kept_down
    if exact_down:
        error2 = float((gram(lost_up, lost_up) * gram_down).sum())
    else:
        gram_kept = gram(kept_down.T, kept_down.T)
        errors = gram(lost_up, lost_up) * gram_kept + gram_up * gram(lost_down.T, lost_down.T)
        error2 = float((errors + 2 * gram(lost_up, given.up) * gram(kept_down.T, lost_down.T)).sum())
    return CastError(max(norm2, 0.0) * scale**2, max(error2, 0.0) * scale**2)


def _diffusers_slot(name: str, shape: Shape, rank: int, own: int) -> Slot:
    if len(shape) < 2:
        raise FormatError(
            f"{name} is a difference of a bias or a norm, for which Diffusers' LoRA files have no word; "
            "write it in kohya's style"
        )
    ones = (1,) * (len(shape) - 2)
    parts = (
        StoredTensor(f"{name}.lora_A.weight", (rank, *shape[1:])),
        StoredTensor(f"{name}.lora_B.weight", (shape[0], rank, *ones)),
    )
    return Slot((name,), (((0, shape[0]),),), shape, parts, "diffusers", rank, padded=rank > own)


def _bundle(stem: str, suffix: str, members: Mapping[str, str], shapes: Mapping[str, Shape], family: str) -> _Bundle:
    fused = FusedWeight((stem,)) if family == UNKNOWN.name else kohya_weights(family)[stem]
    heights = {module: shapes[name][0] for module, name in members.items()}
    first = shapes[next(iter(members.values()))]
    weight = shapes.get(next(iter(members)), first)  # a bias's own weight tells how wide it is
    columns = weight[1] if len(weight) > 1 else None
    try:
        if len({shapes[name][1:] for name in members.values()}) > 1:
            raise FormatError("its parts have different widths")
        out = height_of(fused, heights, columns)
        rows_by_name = dict(zip(fused.names, rows_of(fused, out, columns), strict=True))
    except FormatError as error:
        raise FormatError(f"'{stem}' cannot be put together: {error}") from None
    present = [module for module in fused.names if module in members] or list(members)
    rows = tuple(rows_by_name.get(module, ((0, out),)) for module in present)
    return _Bundle(stem, suffix, tuple(members[module] for module in present), rows, (out, *first[1:]))


def _parameter(name: str, shapes: Mapping[str, Shape], family: str) -> tuple[str, str]:
    """A name's module, and the suffix of its key where it is a vector; else an empty one."""
    if len(shapes[name]) > 1:
        return name, ""
    module, _, kind = name.rpartition(".")
    if kind == "weight":
        return module, "w_norm"
    if kind != "bias":
        return name, "diff"
    normal = f"{module}.weight" in shapes or module in {m.name for m in other_tree(family, 64) if m.kind == "norm"}
    return module, "b_norm" if normal else "diff_b"


def _full(bundle: _Bundle, dense: set[str]) -> bool:
    return bool(bundle.suffix) or any(name in dense for name in bundle.names)


def _rank(adapter: Mapping[str, Delta], bundle: _Bundle, ranks: Mapping[str, int]) -> int:
    """The rank of what a bundle stores: its parts' own if they share ``down``, else all of theirs together.

    Sharing shows only in the factors, so those of fused modules are looked up once more than others.
    """
    own = [ranks[name] for name in bundle.names]
    if len(own) > 1 and len(set(own)) == 1:
        deltas = [delta for name in bundle.names if isinstance(delta := adapter[name], LowRank)]
        if len(deltas) == len(own) and same_down(deltas):
            return own[0]
    return sum(own)


def _layout(adapter: Mapping[str, Delta]) -> tuple[Mapping[str, Shape], Mapping[str, int], set[str]]:
    if isinstance(adapter, KnownLayout):
        dense: set[str] = set(getattr(adapter, "dense", ()))
        return adapter.shapes, adapter.ranks, dense
    shapes, ranks, full = {}, {}, set()
    for name, delta in adapter.items():
        shapes[name], ranks[name] = delta.shape, delta.rank
        if not isinstance(delta, LowRank):
            full.add(name)
    return shapes, ranks, full
