"""LoRA files: read lazily as exact differences by module, and written whole with true hashes and one alpha."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, BinaryIO, TypeVar

import torch
from torch import Tensor

from loratools.adapter.algebra.dora import difference
from loratools.adapter.algebra.fuse import cut, join, take
from loratools.adapter.algebra.fused_rows import FusedWeight, count_rows, rows_of
from loratools.adapter.algebra.lowrank import Delta, Dense, Vector, finite, limit, same_matrix
from loratools.adapter.algebra.shapes import scale_rank
from loratools.adapter.algebra.to_lowrank import lower
from loratools.adapter.files.checkpoint import view_of
from loratools.adapter.files.decode import NEED_BASE, Decoded, Group, Piece, decode, peft_path
from loratools.adapter.files.lora_file import LoraFile, config_beside, open_lora_file
from loratools.adapter.files.passthrough import Carried
from loratools.adapter.files.peft import stated_alpha, stated_rank
from loratools.adapter.files.save import Written, write
from loratools.adapter.files.tuned_model import TUNED, TunedGroup, base_of, decode_tuned, is_tuned, weight_before
from loratools.adapter.header import header
from loratools.digests import file_digest
from loratools.dtypes import torch_dtype_of
from loratools.errors import FileError, FormatError, NeedsBaseError, NonFiniteError, ShapeError
from loratools.module_path import split_path

__all__ = ["Adapter", "Weights", "Written", "header", "read", "write"]

Weights = Mapping[str, Tensor]  # a base's tensors by canonical parameter name: unet.down_blocks...to_q.weight

Number = TypeVar("Number", int, float)

_NO_FACTORS = ("alpha", "bias", "up_bias")


class Adapter(Mapping[str, Delta]):
    """A LoRA file as a lazy mapping: canonical module name -> difference in float32, alpha folded in once.

    Opening reads the header and the alphas; each lookup reads one module's bytes. Names are sorted. Differences of
    biases and norms are ``Vector``s under their parameter's name, ``MODULE.bias`` or ``NORM.weight``.

    Attributes:
        path: where the file is (a PEFT folder's weights).
        family: a key of ``names.FAMILIES``, or ``unknown``, whose modules keep the file's own names.
        identity: which model the file is for, as far as it can be told.
        metadata: the header's free text, as it stands.
        shapes: module -> shape of its difference.
        ranks: module -> columns of its ``up``.
        kinds: module -> ``lora``, ``tucker``, ``loha``, ``lokr``, ``diff``, ``norm``, ``bias``, ``set`` or ``dora``; in
            a whole checkpoint of a full training ``tuned``.
        alphas: module -> the stored alpha; modules without one (alpha = rank) are absent.
        carried: tensors that no table knows, by their own names; only where the reader was asked to allow them.
    """

    def __init__(self, source: LoraFile, decoded: Decoded, base: Weights | None = None) -> None:
        self.path = source.path
        self.family = decoded.family
        self.identity = decoded.identity
        self.metadata = source.header.metadata
        self._source = source
        self._header = source.header
        self._base = base
        self._pieces = decoded.pieces
        self.shapes = {name: piece.shape for name, piece in self._pieces.items()}
        self.ranks = {name: piece.rank for name, piece in self._pieces.items()}
        self.kinds = {name: piece.kind for name, piece in self._pieces.items()}
        self.alphas = self._read_alphas()
        self.carried = {key: self._carry(key) for key in decoded.leftover}
        self._digest: str | None = None

    def __getitem__(self, name: str) -> Delta:
        return self.delta(name)

    def delta(self, name: str, dtype: torch.dtype = torch.float32) -> Delta:
        """One module's difference, folded in ``dtype``.

        Raises:
            NonFiniteError: if a factor holds NaN or infinity.
            NeedsBaseError: if it is a DoRA and the reader was given no base, or the base lacks the module.
            ShapeError: if a DoRA's base weight is of another shape.
        """
        piece = self._pieces[name]
        if isinstance(piece.group, TunedGroup):
            return self._tuned(piece.group, dtype)
        if piece.bias:
            return self._bias(name, piece, dtype)
        group = piece.group
        with self._open() as stream:
            tensors = {
                role: self._tensor(stream, key, dtype) for role, key in group.keys.items() if role not in _NO_FACTORS
            }
        if group.kind == "set":
            return self._replacing(name, take(tensors["set"], piece.rows))
        whole = lower(group.kind, tensors, group.shape, self._scale(name, group))
        return cut(self._decomposed(group, whole, tensors) if group.dora else whole, piece.rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def __contains__(self, name: object) -> bool:
        return name in self._pieces

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical module names, sorted."""
        return tuple(self._pieces)

    @property
    def tensors_digest(self) -> str:
        """sha256 of the bytes after the header: what a true ``sshs_model_hash`` says."""
        return file_digest(self.path, skip=self._header.data_start)

    @property
    def digest(self) -> str:
        """sha256 of what the differences are made of: the bytes after the header, and where settings state the scale of
        the factors (a PEFT folder's, or those in a Diffusers file's header), the settings too."""
        if self._digest is None:  # not a cached_property: before Python 3.12 those let one thread in at a time
            own = self.tensors_digest
            if (config := config_beside(self.path)) is not None:
                own = hashlib.sha256(f"{own} {file_digest(config)}".encode()).hexdigest()
            elif self._source.settings:
                stated = json.dumps(self._source.settings, sort_keys=True)
                own = hashlib.sha256(f"{own} {stated}".encode()).hexdigest()
            self._digest = own
        return self._digest

    @cached_property
    def dense(self) -> frozenset[str]:
        """The modules whose difference is not low-rank: full ones, vectors, DoRA, and LoKr without a saving."""
        return frozenset(name for name, piece in self._pieces.items() if _is_dense(piece))

    @cached_property
    def needs_base(self) -> frozenset[str]:
        """The modules whose difference is not known, because no base was given: DoRA, and weights that replace it."""
        if self._base is not None:
            return frozenset()
        return frozenset(name for name, kind in self.kinds.items() if kind in NEED_BASE)

    @property
    def switched_off(self) -> tuple[str, ...]:
        """The modules whose difference is zero because alpha is 0: the file holds factors, and their scale is 0."""
        off = (name for name, alpha in self.alphas.items() if alpha == 0 and self.kinds[name] not in ("dora", "bias"))
        return tuple(name for name in off if self._scale(name, self._pieces[name].group) == 0)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The storage types of the factors, as safetensors spells them, sorted."""
        tensors = self._header.tensors
        return tuple(
            sorted(
                {tensors[key].dtype for p in self._pieces.values() for r, key in p.group.keys.items() if r != "alpha"}
            )
        )

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules' names without what says that the difference is a bias's or a norm's."""
        return tuple(dict.fromkeys(name for piece in self._pieces.values() for name in piece.group.fused.names))

    def renamed(self, names: Mapping[str, str]) -> Adapter:
        """The same differences of an unknown model under other module names; those that ``names`` lacks stay."""
        pieces: dict[str, Piece] = {}
        for name, piece in self._pieces.items():
            own = piece.group.fused.names[0]  # a weight is never cut where no table says how
            module = names.get(own, own)
            group = replace(piece.group, fused=FusedWeight((module,)))
            pieces[f"{module}{name.removeprefix(own)}"] = replace(piece, group=group)
        decoded = Decoded(self.identity, self.family, dict(sorted(pieces.items())), tuple(self.carried))
        other = Adapter(self._source, decoded, self._base)
        other._digest = self._digest
        return other

    def read_as(self, family: str) -> Adapter:
        """The same file with its modules named by another of the families in ``identity.readable``."""
        decoded = _decoded(self._source, allow_unknown=bool(self.carried), family=family)
        again = Adapter(self._source, decoded, self._base)
        again._digest = self._digest
        return again

    def stem(self, name: str) -> str:
        """How the file itself spells a module."""
        return self._pieces[name].group.stem

    def _tuned(self, group: TunedGroup, dtype: torch.dtype) -> Delta:
        """What a parameter of a whole checkpoint differs by from the base that it was trained on."""
        if self._base is None:
            self._base = base_of(self.path)
        before = weight_before(self._base, self.path, group.view.name).to(dtype)
        with self._open() as stream:
            stored = self._tensor(stream, group.keys[TUNED], dtype)
        before = before.to(torch_dtype_of(self._header.tensors[group.keys[TUNED]].dtype) or dtype).to(dtype)
        change = view_of(stored, group.view).reshape(before.shape) - before
        return Vector(change) if change.dim() == 1 else Dense(change)

    def _scale(self, name: str, group: Group) -> float:
        rank = scale_rank(group.kind, {role: self._header.tensors[key].shape for role, key in group.keys.items()})
        if rank is None and group.kind == "lokr":
            rank = self._stated(stated_rank, group)
        alpha = self.alphas.get(name)
        return 1.0 if rank is None or alpha is None else alpha / rank

    def _bias(self, name: str, piece: Piece, dtype: torch.dtype) -> Vector:
        """A bias's difference: as it stands, or for a bias of ``lora_B`` scaled like the product that it stands by."""
        group = piece.group
        with self._open() as stream:
            if "bias" in group.keys:
                return Vector(take(self._tensor(stream, group.keys["bias"], dtype), piece.rows))
            value = self._tensor(stream, group.keys["up_bias"], dtype)
        return Vector(take(value, piece.rows)).scaled(self._scale(name, group))

    def _replacing(self, name: str, value: Tensor) -> Delta:
        """The difference to a weight that takes the place of the base's."""
        module = name.removesuffix(".weight")
        if self._base is None:
            raise NeedsBaseError(needs_base_message(self))
        if f"{module}.weight" not in self._base:
            raise NeedsBaseError(f"{self.path} replaces {module}, which the given base lacks; give its own base")
        weight = self._base[f"{module}.weight"].to(value.dtype)
        if not same_matrix(tuple(weight.shape), tuple(value.shape)):
            raise ShapeError(
                f"{module} is {tuple(value.shape)} in {self.path} and {tuple(weight.shape)} in the base; it was made "
                "for another one"
            )
        change = value - weight.reshape(value.shape)
        return Vector(change) if change.dim() == 1 else Dense(change)

    def _decomposed(self, group: Group, direction: Delta, tensors: Mapping[str, Tensor]) -> Delta:
        """The difference of a DoRA group, whose stored weight is put together from the base's own modules."""
        rows_of_modules = rows_of(group.fused, group.shape[0], group.shape[1])
        weights = [
            self._weight(name, group, count_rows(rows))
            for name, rows in zip(group.fused.names, rows_of_modules, strict=True)
        ]
        whole = join(list(zip(rows_of_modules, weights, strict=True)), group.shape).dense()
        role = "magnitude" if "magnitude" in tensors else "dora"
        try:
            return difference(
                whole, direction.dense().reshape(group.shape), tensors[role], per_output=role == "magnitude"
            )
        except ShapeError as error:
            raise FormatError(f"{self.path}: module '{group.stem}' is broken: {error}; export it again") from None

    def _weight(self, name: str, group: Group, rows: int) -> Dense:
        if self._base is None:
            raise NeedsBaseError(needs_base_message(self))
        if f"{name}.weight" not in self._base:
            raise NeedsBaseError(f"{self.path} has a DoRA for {name}, which the given base lacks; give its own base")
        value = self._base[f"{name}.weight"]
        shape = (rows, *group.shape[1:])
        if not same_matrix(tuple(value.shape), shape):
            raise ShapeError(
                f"{name} is {shape} in {self.path} and {tuple(value.shape)} in the base; "
                "the DoRA was trained on another one"
            )
        return Dense(value)

    def _read_alphas(self) -> dict[str, float]:
        alphas: dict[str, float] = {}
        stored: dict[str, float] = {}
        with self._open() as stream:
            for name, piece in self._pieces.items():
                key = piece.group.keys.get("alpha")
                if key is not None and key not in stored:
                    stored[key] = self._alpha(stream, key)
                alpha = self._stated(stated_alpha, piece.group) if key is None else stored[key]
                if alpha is not None:
                    alphas[name] = alpha
        return alphas

    def _stated(self, what: Callable[[Mapping[str, Any], str, str, int], Number | None], group: Group) -> Number | None:
        """What the settings say of a dotted (Diffusers, PEFT) name: its alpha, or its rank."""
        settings = self._source.settings
        if not settings or group.rank == 0 or "." not in group.stem:
            return None
        first, _, rest = split_path(group.stem).unwrapped.partition(".")
        if self._source.folder:
            first, rest = "", peft_path(group.stem)
        try:
            return what(settings, first, rest, group.rank)
        except FormatError as error:
            raise FormatError(f"{self.path}: {error}; export the file again") from None

    def _alpha(self, stream: BinaryIO, key: str) -> float:
        if math.prod(self._header.tensors[key].shape) != 1:
            raise FormatError(f"{self.path}: '{key}' should be one number, not {self._header.tensors[key].shape}")
        return float(self._tensor(stream, key, torch.float64))

    def _carry(self, key: str) -> Carried:
        info = self._header.tensors[key]
        return Carried(info.dtype, info.shape, self.path, self._header.data_start + info.start, info.end - info.start)

    def _tensor(self, stream: BinaryIO, key: str, dtype: torch.dtype = torch.float32) -> Tensor:
        info = self._header.tensors[key]
        stored = torch_dtype_of(info.dtype)
        if stored is None or stored == torch.bool:
            raise FormatError(f"{self.path}: '{key}' is stored as {info.dtype}, which no LoRA uses; save it as F16")
        stream.seek(self._header.data_start + info.start)
        data = bytearray(info.end - info.start)
        if stream.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise FileError(f"{self.path} changed while it was being read; run the command again")
        value = torch.frombuffer(data, dtype=stored).reshape(info.shape).to(dtype)
        if not finite(value):
            raise NonFiniteError(
                f"{self.path}: '{key}' holds NaN or infinity; its training diverged, use an earlier epoch"
            )
        return value

    def _open(self) -> BinaryIO:
        try:
            return open(self.path, "rb", buffering=0)  # whole tensors are read: a buffer would only copy them
        except OSError as error:
            raise FileError(f"{self.path} cannot be read: {error.strerror or error}") from error


def read(
    path: str | os.PathLike[str],
    base: Weights | None = None,
    allow_unknown: bool = False,
    drop: Sequence[str] = (),
) -> Adapter:
    """Open a LoRA file or PEFT folder; factors are read when a module is looked up.

    Args:
        base: the weights that a DoRA was trained on, by canonical parameter name (``unet.....to_q.weight``).
        allow_unknown: keep keys that no table knows under ``Adapter.carried`` instead of refusing the file.
        drop: names of tensors, or patterns such as ``bundle_emb.*``, that are read as if they were not there.
    Raises:
        FileError: if it is missing or unreadable.
        FormatError: if it is not a LoRA, is truncated, or a module's factors do not fit.
        UnknownKeysError: if any key is of a kind or module that no table knows.
        NeedsBaseError: if it holds DoRA modules and no ``base`` is given.
        NonFiniteError: if an alpha (or, on lookup, a factor) is NaN or infinite.
    """
    adapter = open_adapter(path, base, allow_unknown, drop)
    if adapter.needs_base:
        raise NeedsBaseError(needs_base_message(adapter))
    return adapter


def open_adapter(
    path: str | os.PathLike[str],
    base: Weights | None = None,
    allow_unknown: bool = False,
    drop: Sequence[str] = (),
) -> Adapter:
    """As :func:`read`, but a DoRA without a base is refused only when such a module is looked up: for describing it."""
    source = open_lora_file(path, drop)
    if is_tuned(source.header):
        return Adapter(source, decode_tuned(source.path, source.header), base)
    return Adapter(source, _decoded(source, allow_unknown=allow_unknown), base)


def _decoded(source: LoraFile, *, allow_unknown: bool, family: str | None = None) -> Decoded:
    return decode(
        source.path,
        source.header.tensors,
        source.header.metadata,
        component=source.component,
        allow_unknown=allow_unknown,
        family=family,
    )


def needs_base_message(adapter: Adapter) -> str:
    """Why a file whose differences depend on the base is refused, for a person."""
    names = sorted(name for name, kind in adapter.kinds.items() if kind == "dora")
    if not names:
        names = sorted(name for name, kind in adapter.kinds.items() if kind == "set")
        return (
            f"{adapter.path} replaces {len(names)} of the base's own weights (set_weight), such as {names[0]}, so its "
            "difference cannot be told without them; give the base that it was made for"
        )
    return (
        f"{adapter.path} is a DoRA ({len(names)} modules, such as {names[0]}): it rescales the base's own weights, "
        "so its difference cannot be told without them; give the base of its training"
    )


def _is_dense(piece: Piece) -> bool:
    if piece.kind == "lokr":
        return piece.group.rank >= limit(piece.group.shape)
    return piece.kind in ("diff", "norm", "bias", *NEED_BASE, TUNED)
