"""Writing kohya LoRA files: factors folded and balanced, one alpha, hashes of the very bytes that are written.

The header goes first but holds the hash of what follows, so it is written twice: with placeholders of the same length,
then in place. Modules are encoded on every core and written one by one; nothing is held whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import torch
from torch import Tensor

from loratools import files
from loratools.adapter.lowrank import Delta, LowRank, balance, finite, gram
from loratools.adapter.metadata import KEY, Provenance, guard_overwrite
from loratools.adapter.names import family_of, kohya_name
from loratools.adapter.parallel import in_order
from loratools.errors import FormatError, NonFiniteError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_NAMES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32"}
_LEGACY_OFFSET, _LEGACY_LENGTH = 0x100000, 0x10000


@dataclass(frozen=True)
class CastError:
    """What storing one module cost, squared: ``norm2`` of what was asked, ``error2`` of what the file misses of it."""

    norm2: float
    error2: float


@dataclass(frozen=True)
class Written:
    """A file that was written: its ``digest`` (sha256 after the header), its one ``alpha`` and greatest ``rank``,
    and per canonical module name what the cast to its storage type lost."""

    path: Path
    digest: str
    alpha: float
    rank: int
    errors: Mapping[str, CastError]

    @property
    def error(self) -> float:
        """``|stored - given| / |given|`` over the whole file (Frobenius)."""
        return relative(sum(e.error2 for e in self.errors.values()), sum(e.norm2 for e in self.errors.values()))


def relative(error2: float, reference2: float) -> float:
    """sqrt(error2 / reference2); of a zero request 0 if the result is 0, else infinite."""
    if reference2 == 0:
        return 0.0 if error2 == 0 else math.inf
    return math.sqrt(error2 / reference2)


@runtime_checkable
class Laid(Protocol):
    """A mapping that knows its modules' shapes and ranks without computing their factors."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def ranks(self) -> Mapping[str, int]: ...


@dataclass(frozen=True)
class _Part:
    """One tensor to write."""

    key: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Slot:
    """One module's place in the file: ``alpha`` is stored, ``scale`` = alpha / rank."""

    name: str
    parts: tuple[_Part, ...]
    alpha: float
    scale: float
    balanced: bool


def write(
    adapter: Mapping[str, Delta],
    path: str | os.PathLike[str],
    *,
    family: str,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
    provenance: Provenance | None = None,
    owner: str = "",
    force: bool = False,
    alpha: float | Mapping[str, float] | None = None,
) -> Written:
    """Write ``adapter`` as a kohya ``.safetensors`` file, whole or not at all.

    Args:
        adapter: canonical module name -> difference; looked up once each, in the file's order, on several threads.
        family: a key of ``names.FAMILIES``; it decides how the keys are spelled.
        metadata: header text to carry. ``ss_network_*`` and ``sshs_*`` are set to what is true of the written bytes.
        dtype: float16, bfloat16 or float32, for factors and alphas alike.
        provenance: how the file was made; ``owner`` is taken from it if not given.
        alpha: None writes one alpha for the file, its greatest rank, and balances the factors by powers of two.
            A number (or one by module) stores the factors so that ``alpha / rank * up @ down`` is the difference, as
            training does, and leaves their balance alone.
    Raises:
        FileError: if ``path`` may not be overwritten or written.
        NonFiniteError: if a factor is not finite in ``dtype``.
        FormatError: if there is nothing to write, or a module is not of the family.
    """
    owner = owner or (provenance.owner if provenance else "")
    provenance = provenance or (Provenance({}, owner) if owner else None)
    place = Path(path)
    guard_overwrite(place, owner, force)
    slots, shared = _slots(adapter, family, dtype, alpha)
    ranks = {slot.name: _rank(slot) for slot in slots}
    texts = _metadata(place, family, metadata or {}, slots, ranks, shared, provenance)
    with files.replacing(place) as part, open(part, "wb") as stream:
        digest, errors = _stream(stream, part, adapter, slots, texts, dtype)
    return Written(place, digest, shared, max(ranks.values()), errors)


def file_size(shapes: Mapping[str, tuple[int, ...]], ranks: Mapping[str, int], *, family: str,
              metadata: Mapping[str, str], dtype: torch.dtype, provenance: Provenance | None,
              path: Path) -> int:  # fmt: skip
    """Bytes of the file that ``write`` would make of low-rank modules with these shapes and ranks."""
    rank = float(max(ranks.values()))
    slots = [_slot(name, kohya_name(name, family), shapes[name], ranks[name], rank, True) for name in shapes]
    slots.sort(key=lambda slot: slot.parts[0].key)
    texts = _metadata(path, family, metadata, slots, dict(ranks), rank, provenance)
    head = _header({**texts, **_placeholders()}, slots, dtype)
    return len(head) + sum(math.prod(part.shape) for slot in slots for part in slot.parts) * dtype.itemsize


def _slots(adapter: Mapping[str, Delta], family: str, dtype: torch.dtype,
           alpha: float | Mapping[str, float] | None) -> tuple[list[_Slot], float]:  # fmt: skip
    if not len(adapter):
        raise FormatError("an adapter of no modules cannot be written")
    if dtype not in _NAMES:
        raise FormatError(f"LoRA files are written as fp16, bf16 or fp32, not {dtype}")
    shapes, ranks, dense = _layout(adapter)
    highest = max((rank for name, rank in ranks.items() if name not in dense), default=1)

    def stored(name: str) -> float:
        wanted = alpha[name] if isinstance(alpha, Mapping) else alpha
        return float(torch.tensor(float(highest if wanted is None else wanted), dtype=dtype))

    slots = []
    for name in adapter:
        stem = kohya_name(name, family)
        if name in dense:
            slots.append(_Slot(name, (_Part(f"{stem}.diff", shapes[name]),), 1.0, 1.0, False))
        else:
            slots.append(_slot(name, stem, shapes[name], ranks[name], stored(name), alpha is None))
    slots.sort(key=lambda slot: slot.parts[0].key)
    return slots, next((slot.alpha for slot in slots if len(slot.parts) > 1), 1.0)


def _slot(name: str, stem: str, shape: tuple[int, ...], rank: int, alpha: float, balanced: bool) -> _Slot:
    ones = (1,) * (len(shape) - 2)
    parts = (
        _Part(f"{stem}.alpha", ()),
        _Part(f"{stem}.lora_down.weight", (rank, *shape[1:])),
        _Part(f"{stem}.lora_up.weight", (shape[0], rank, *ones)),
    )
    return _Slot(name, parts, alpha, alpha / rank, balanced)


def _layout(adapter: Mapping[str, Delta]) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, int], set[str]]:
    if isinstance(adapter, Laid):
        dense: set[str] = set(getattr(adapter, "dense", ()))
        return adapter.shapes, adapter.ranks, dense
    shapes, ranks, full = {}, {}, set()
    for name, delta in adapter.items():
        shapes[name], ranks[name] = delta.shape, delta.rank
        if not isinstance(delta, LowRank):
            full.add(name)
    return shapes, ranks, full


def _rank(slot: _Slot) -> int:
    return slot.parts[1].shape[0] if len(slot.parts) > 1 else 1


def _stream(stream: BinaryIO, part: Path, adapter: Mapping[str, Delta], slots: list[_Slot],
            texts: Mapping[str, str], dtype: torch.dtype) -> tuple[str, dict[str, CastError]]:  # fmt: skip
    stream.write(_header({**texts, **_placeholders()}, slots, dtype))
    start = stream.tell()
    digest, errors = hashlib.sha256(), {}
    for slot, tensors, cast_error in _encoded(adapter, slots, dtype):
        errors[slot.name] = cast_error
        for tensor in tensors:
            data = _bytes(tensor)
            digest.update(data)
            stream.write(data)
    stream.flush()
    facts = {key: text for key, text in texts.items() if key.startswith("ss_")}
    hashes = {
        "sshs_model_hash": digest.hexdigest(),
        "sshs_legacy_hash": _legacy_hash(_header(facts, slots, dtype), part, start),
    }
    stream.seek(0)
    stream.write(_header({**texts, **hashes}, slots, dtype))
    return hashes["sshs_model_hash"], errors


def _encoded(adapter: Mapping[str, Delta], slots: list[_Slot],
             dtype: torch.dtype) -> Iterator[tuple[_Slot, list[Tensor], CastError]]:  # fmt: skip
    def encode(slot: _Slot) -> tuple[_Slot, list[Tensor], CastError]:
        delta = adapter[slot.name]
        tensors, error = _encode_factors(delta, slot, dtype) if isinstance(delta, LowRank) else _encode_dense(
            delta, dtype)  # fmt: skip
        if [tuple(tensor.shape) for tensor in tensors] != [part.shape for part in slot.parts]:
            raise FormatError(f"module {slot.name} changed its shape while it was written")
        if not all(finite(tensor) for tensor in tensors):
            raise NonFiniteError(
                f"module {slot.name} does not fit into {_NAMES[dtype]} (or is not finite); write with another --dtype"
            )
        return slot, tensors, error

    return in_order(encode, slots)


def _encode_factors(delta: LowRank, slot: _Slot, dtype: torch.dtype) -> tuple[list[Tensor], CastError]:
    """alpha, down and up as they are stored, and the error of the cast from Gram matrices of the rounding itself."""
    given = LowRank(_plain(delta.up), _plain(delta.down), delta.shape).scaled(1 / slot.scale)
    given = balance(given) if slot.balanced else given
    up, down = given.up.to(dtype), given.down.to(dtype)
    error = cast_error(given, up, down, slot.scale)
    alpha = torch.tensor(slot.alpha, dtype=dtype)
    return [alpha, down.reshape(slot.parts[1].shape), up.reshape(slot.parts[2].shape)], error


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32)


def cast_error(given: LowRank, up: Tensor, down: Tensor, scale: float) -> CastError:
    """``|scale * given|^2`` and ``|scale * (given - up @ down)|^2`` for factors that were rounded from ``given``'s.

    The difference is ``(u - u') d' + u (d - d')``: rounding residues are exact in float32, nothing cancels.
    """
    lost_up, lost_down = given.up - up.to(given.up.dtype), given.down - down.to(given.down.dtype)
    gram_up, gram_down = gram(given.up, given.up), gram(given.down.T, given.down.T)
    norm2 = (gram_up * gram_down).sum()
    error2 = (gram(lost_up, lost_up) * gram_down).sum()
    if bool(lost_down.any()):
        stored = down.to(given.down.dtype).T
        error2 = (gram(lost_up, lost_up) * gram(stored, stored)).sum() + (
            gram_up * gram(lost_down.T, lost_down.T)).sum()  # fmt: skip
        error2 = error2 + 2 * (gram(lost_up, given.up) * gram(stored, lost_down.T)).sum()
    return CastError(max(float(norm2), 0.0) * scale**2, max(float(error2), 0.0) * scale**2)


def _encode_dense(delta: Delta, dtype: torch.dtype) -> tuple[list[Tensor], CastError]:
    value = _plain(delta.dense(torch.float32))
    stored = value.to(dtype)
    lost = value.double() - stored.double()
    return [stored], CastError(float((value.double() ** 2).sum()), float((lost**2).sum()))


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.contiguous().reshape(-1)
    data: memoryview = flat.view(torch.uint8).numpy().data
    return data


def _placeholders() -> dict[str, str]:
    return {"sshs_model_hash": "0" * 64, "sshs_legacy_hash": "0" * 8}


def _header(texts: Mapping[str, str], slots: list[_Slot], dtype: torch.dtype) -> bytes:
    """The file's first bytes: the header's length and the header, padded to 8 bytes as the library does."""
    safe = {key: text.encode("utf-8", "replace").decode("utf-8") for key, text in sorted(texts.items())}
    entries: dict[str, object] = {"__metadata__": safe}
    position = 0
    for part in (part for slot in slots for part in slot.parts):
        end = position + math.prod(part.shape) * dtype.itemsize
        entries[part.key] = {"dtype": _NAMES[dtype], "shape": list(part.shape), "data_offsets": [position, end]}
        position = end
    raw = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _legacy_hash(head: bytes, part: Path, start: int) -> str:
    """First 8 hex digits of sha256 over 64 KiB at 1 MiB of the file with only its ``ss_*`` metadata (AUTOMATIC1111)."""
    piece = head[_LEGACY_OFFSET : _LEGACY_OFFSET + _LEGACY_LENGTH]
    with open(part, "rb") as stream:
        stream.seek(start + max(_LEGACY_OFFSET - len(head), 0))
        piece += stream.read(_LEGACY_LENGTH - len(piece))
    return hashlib.sha256(piece).hexdigest()[:8]


def _metadata(path: Path, family: str, given: Mapping[str, str], slots: list[_Slot], ranks: dict[str, int],
              alpha: float, provenance: Provenance | None) -> dict[str, str]:  # fmt: skip
    kind = family_of(family)
    texts = {key: text for key, text in given.items() if not key.startswith("sshs_") and key != KEY}
    texts.setdefault("ss_output_name", path.stem)
    texts.setdefault("ss_base_model_version", kind.base_model_version)
    texts.setdefault("ss_v2", str(family == "sd2"))
    texts.setdefault("modelspec.sai_model_spec", "1.0.1")
    texts.setdefault("modelspec.architecture", kind.architecture)
    texts.setdefault("modelspec.title", path.stem)
    wide = {slot.name: slot.alpha for slot in slots if slot.parts[1:] and math.prod(slot.parts[1].shape[2:]) > 1}
    plain = [ranks[slot.name] for slot in slots if slot.name not in wide]
    texts["ss_network_module"] = texts.get("ss_network_module", "networks.lora")
    texts["ss_network_dim"] = str(max(plain or list(ranks.values())))
    texts["ss_network_alpha"] = str(alpha)
    if wide:
        name = next(iter(wide))
        arguments = {"conv_dim": str(max(ranks[name] for name in wide)), "conv_alpha": str(wide[name])}
        texts.setdefault("ss_network_args", json.dumps(arguments))
    if provenance is not None:
        texts[KEY] = provenance.to_json()
    return texts
