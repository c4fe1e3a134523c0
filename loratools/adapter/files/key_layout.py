"""Which tensors a file has for an adapter: keys, shapes and ranks, before a value is computed.

Four styles. kohya's stores one ``alpha`` for the whole file, and flat names of the networks that trainers know, which
fuse what the original networks fuse. ``comfy`` and ``original`` store the original networks' dotted paths, behind
``diffusion_model.`` and bare; ``diffusers`` canonical names. These three have ``lora_A`` and ``lora_B`` with the scale
folded in, so that no alpha is needed. In Diffusers' all modules of a component have one rank, the lower ones padded
with zeros: diffusers before 0.40 takes one module's rank for the alpha of all, and scales modules of other ranks
wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch

from loratools.adapter.algebra.fuse import same_down
from loratools.adapter.algebra.fused_rows import FusedWeight, Rows, height_of, rows_of
from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.adapter.algebra.shapes import limit
from loratools.adapter.architectures.names import UNKNOWN, Naming, other_tree, stem_of, stored_weights
from loratools.dtypes import dtype_name
from loratools.errors import FormatError
from loratools.module_path import split_path

Style = Naming
Shape = tuple[int, ...]


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
    if style == "diffusers" or (family == UNKNOWN.name and style != "kohya"):
        own = {name: limit(shapes[name]) if name in dense else ranks[name] for name in adapter}
        stored = one_rank_each(own, family)
        slots = [_diffusers_slot(name, shapes[name], stored[name], own[name]) for name in adapter]
        return sorted(slots, key=lambda slot: slot.tensors[0].key)
    bundles = bundled(shapes, family, style)
    heights = {bundle.stem: _rank(adapter, bundle, ranks) for bundle in bundles if not _full(bundle, dense)}
    return kohya_slots(bundles, heights, dtype, alpha) if style == "kohya" else original_slots(bundles, heights)


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


def original_slots(bundles: Sequence[_Bundle], ranks: Mapping[str, int]) -> list[Slot]:
    """The slots of weights that are stored by the original network's paths: factors where ``ranks`` has the stem."""

    def slot(bundle: _Bundle) -> Slot:
        if bundle.suffix or bundle.stem not in ranks:
            parts: tuple[StoredTensor, ...] = (StoredTensor(f"{bundle.stem}.{bundle.suffix or 'diff'}", bundle.shape),)
            return Slot(bundle.names, bundle.rows, bundle.shape, parts, kind="full", rank=limit(bundle.shape))
        rank, shape = ranks[bundle.stem], bundle.shape
        return Slot(bundle.names, bundle.rows, shape, _factors(bundle.stem, shape, rank), "diffusers", rank)

    return sorted((slot(bundle) for bundle in bundles), key=lambda slot: slot.tensors[0].key)


def bundled(shapes: Mapping[str, Shape], family: str, naming: Naming = "kohya") -> list[_Bundle]:
    """The names of ``shapes`` by the stored weight that holds them.

    Args:
        naming: by which names weights are stored: kohya's, or the original network's.

    Raises:
        FormatError: if a module is not of the family, or fused ones do not fit together.
    """
    groups: dict[tuple[str, str], dict[str, str]] = {}
    for name in shapes:
        module, suffix = _parameter(name, shapes, family)
        groups.setdefault((stem_of(module, family, naming), suffix), {})[module] = name
    weights = stored_weights(family, naming)
    return [_bundle(stem, suffix, members, shapes, weights) for (stem, suffix), members in groups.items()]


def _diffusers_slot(name: str, shape: Shape, rank: int, own: int) -> Slot:
    if len(shape) < 2:
        raise FormatError(
            f"{name} is a difference of a bias or a norm, for which Diffusers' LoRA files have no word; "
            "write it in kohya's style"
        )
    whole = ((0, shape[0]),)
    return Slot((name,), (whole,), shape, _factors(name, shape, rank), "diffusers", rank, padded=rank > own)


def _factors(stem: str, shape: Shape, rank: int) -> tuple[StoredTensor, ...]:
    """``lora_A`` and ``lora_B`` of a weight."""
    ones = (1,) * (len(shape) - 2)
    return (
        StoredTensor(f"{stem}.lora_A.weight", (rank, *shape[1:])),
        StoredTensor(f"{stem}.lora_B.weight", (shape[0], rank, *ones)),
    )


def _bundle(
    stem: str,
    suffix: str,
    members: Mapping[str, str],
    shapes: Mapping[str, Shape],
    weights: Mapping[str, FusedWeight],
) -> _Bundle:
    fused = weights.get(stem, FusedWeight((stem,)))
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
