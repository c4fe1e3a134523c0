"""Writing LoRA files: factors folded and balanced, one alpha, hashes of the very bytes that are written.

The header goes first but holds the hash of what follows, so it is written twice: with placeholders of the same length,
then in place. Modules are encoded on every core and written one by one; nothing is held whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from loratools import files
from loratools.adapter.algebra.lowrank import Delta
from loratools.adapter.architectures.header_words import MODEL
from loratools.adapter.architectures.names import family_of
from loratools.adapter.files.base_facts import architecture_of
from loratools.adapter.files.encode import CastError, encode
from loratools.adapter.files.key_layout import Slot, Style, bundled, kohya_slots, lay_out
from loratools.adapter.files.metadata import ERROR, KEY, Provenance, guard_overwrite
from loratools.adapter.files.passthrough import Carried, Held, as_tensor
from loratools.adapter.files.rewrite_header import SPEC_HASH
from loratools.adapter.header import LegacyHash, TensorInfo, encode_header
from loratools.adapter.parallel import in_order
from loratools.dtypes import stored_name
from loratools.errors import FormatError
from loratools.progress import OnProgress, counted

_LORA = "networks.lora"

__all__ = ["CastError", "Style", "Written", "file_size", "state_dict", "total_error", "write"]


@dataclass(frozen=True)
class Written:
    """A file that was written: its ``digest`` (sha256 after the header), its one ``alpha`` and greatest ``rank``,
    per canonical module name what the cast to its storage type lost, and how many modules were ``padded`` with zeros
    to the rank of the others."""

    path: Path
    digest: str
    alpha: float
    rank: int
    errors: Mapping[str, CastError]
    padded: int = 0

    @property
    def error(self) -> float:
        """``|stored - given| / |given|`` over the whole file (Frobenius)."""
        return total_error(self.errors)


def total_error(errors: Mapping[str, CastError]) -> float:
    """``|stored - given| / |given|`` over all modules (Frobenius)."""
    return sum(errors.values(), CastError()).relative


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
    style: Style = "kohya",
    carried: Mapping[str, Carried | Held] | None = None,
    error: Callable[[Mapping[str, CastError]], float] | None = None,
    on_progress: OnProgress | None = None,
) -> Written:
    """Write ``adapter`` as a ``.safetensors`` LoRA file, whole or not at all.

    Args:
        adapter: canonical module name -> difference; looked up once each, in the file's order, on several threads.
            Modules that the original network fuses (Flux, SD3) are looked up twice.
        family: a key of ``names.FAMILIES``, or ``unknown``; it decides how the keys are spelled.
        metadata: header text to carry. ``ss_network_*`` and ``sshs_*`` are set to what is true of the written bytes.
        dtype: float16, bfloat16 or float32, for factors and alphas alike.
        provenance: how the file was made; ``owner`` is taken from it if not given.
        alpha: None writes one alpha for the file, its greatest rank, and balances the factors by powers of two.
            A number (or one by module) stores the factors so that ``alpha / rank * up @ down`` is the difference, as
            training does, and leaves their balance alone. Only kohya's style stores it.
        style: ``kohya``, or ``diffusers``: canonical names with ``lora_A`` and ``lora_B``, the scale folded in, all
            modules of a component padded to one rank.
        carried: further tensors to write bit for bit, by their own keys.
        error: from what the cast lost of each module, the relative error that the header tells; None tells none.
        on_progress: called with (done, all) after each stored weight.
    Raises:
        FileError: if ``path`` may not be overwritten or written.
        NonFiniteError: if a factor is not finite in ``dtype``.
        FormatError: if there is nothing to write, a module is not of the family, or the style has no word for it.
    """
    owner = owner or (provenance.owner if provenance else "")
    provenance = provenance or (Provenance({}, owner) if owner else None)
    target = Path(path)
    guard_overwrite(target, owner, force)
    slots = lay_out(adapter, family, style, dtype, alpha) if adapter or not carried else []
    layout = _FileLayout(slots, dict(sorted((carried or {}).items())), dtype)
    layout.check()
    texts = _metadata(target, family, metadata or {}, layout, provenance)
    with files.replacing(target) as part, open(part, "wb") as stream:
        digest, errors = _stream(stream, adapter, layout, texts, error, on_progress)
    return Written(target, digest, layout.alpha, layout.rank, errors, sum(slot.padded for slot in slots))


def state_dict(
    adapter: Mapping[str, Delta],
    *,
    family: str,
    dtype: torch.dtype = torch.float16,
    style: Style = "kohya",
    carried: Mapping[str, Carried | Held] | None = None,
) -> dict[str, Tensor]:
    """The tensors of the file that :func:`write` would make of ``adapter``, by key in the file's order, in memory.

    Raises:
        NonFiniteError, FormatError: as :func:`write`; FormatError too for a carried tensor of a type that torch lacks.
    """
    slots = lay_out(adapter, family, style, dtype, None) if adapter or not carried else []
    layout = _FileLayout(slots, dict(sorted((carried or {}).items())), dtype)
    layout.check()
    encoded = in_order(lambda slot: encode(adapter, slot, dtype)[0], slots)
    tensors = {
        stored.key: tensor.contiguous()
        for slot, values in zip(slots, encoded, strict=True)
        for stored, tensor in zip(slot.tensors, values, strict=True)
    }
    return tensors | {key: as_tensor(key, one) for key, one in layout.carried.items()}


def file_size(
    shapes: Mapping[str, tuple[int, ...]],
    ranks: Mapping[str, int],
    *,
    family: str,
    metadata: Mapping[str, str],
    dtype: torch.dtype,
    provenance: Provenance | None,
    path: Path,
) -> int:
    """Bytes of the kohya file that ``write`` would make of low-rank modules with these shapes and ranks.

    Fused modules are counted as if none of them shared its ``down``; the file may be smaller then.
    """
    bundles = bundled(shapes, family)
    stored = {bundle.stem: sum(ranks[name] for name in bundle.names) for bundle in bundles if not bundle.suffix}
    layout = _FileLayout(kohya_slots(bundles, stored, dtype, None), {}, dtype)
    texts = _metadata(path, family, metadata, layout, provenance)
    head = _header({**texts, **_placeholders(True)}, layout)
    return len(head) + sum(math.prod(tensor.shape) for slot in layout.slots for tensor in slot.tensors) * dtype.itemsize


@dataclass(frozen=True)
class _FileLayout:
    """What a file will hold: slots in their order, then tensors carried as they are."""

    slots: list[Slot]
    carried: Mapping[str, Carried | Held]
    dtype: torch.dtype

    @property
    def rank(self) -> int:
        """The greatest rank of any product; 1 where there is none."""
        return max((slot.rank for slot in self.slots if slot.kind != "full"), default=1)

    @property
    def alpha(self) -> float:
        """The alpha in the file; where factors are folded, what it would be: the rank."""
        stored = next((slot.alpha for slot in self.slots if slot.kind == "kohya"), None)
        folded = any(slot.kind == "diffusers" for slot in self.slots)
        return float(self.rank) if folded else 1.0 if stored is None else stored

    def check(self) -> None:
        """Raise FormatError if a carried key is one of the file's own."""
        own = {tensor.key for slot in self.slots for tensor in slot.tensors}
        if twice := sorted(own & set(self.carried)):
            raise FormatError(f"the unknown key '{twice[0]}' cannot be carried: the file has one of that name itself")


def _stream(
    stream: BinaryIO,
    adapter: Mapping[str, Delta],
    layout: _FileLayout,
    texts: Mapping[str, str],
    error: Callable[[Mapping[str, CastError]], float] | None,
    on_progress: OnProgress | None,
) -> tuple[str, dict[str, CastError]]:
    stream.write(_header({**texts, **_placeholders(error is not None)}, layout))
    facts = {key: text for key, text in texts.items() if key.startswith("ss_")}
    hashes, errors = _Hashes(_header(facts, layout)), {}

    def put(pieces: Iterable[bytes | memoryview]) -> None:
        for data in pieces:
            hashes.update(data)
            stream.write(data)

    encoded = in_order(lambda slot: encode(adapter, slot, layout.dtype), layout.slots, size=_bytes_of)
    for tensors, lost in counted(encoded, len(layout.slots), on_progress):
        errors.update(lost)
        put(_bytes(tensor) for tensor in tensors)
    put(carried.data() for carried in layout.carried.values())
    measured = hashes.texts() | ({} if error is None else {ERROR: _error_text(error(errors))})
    stream.seek(0)
    stream.write(_header({**texts, **measured}, layout))
    return measured["sshs_model_hash"], errors


def _bytes_of(slot: Slot) -> int:
    """What a slot's values take in float32."""
    return 4 * sum(math.prod(tensor.shape) for tensor in slot.tensors)


def _bytes(tensor: Tensor) -> memoryview:
    flat = tensor.contiguous().reshape(-1)
    data: memoryview = flat.view(torch.uint8).numpy().data
    return data


def _placeholders(error: bool) -> dict[str, str]:
    texts = {"sshs_model_hash": "0" * 64, "sshs_legacy_hash": "0" * 8}
    return texts | ({ERROR: _error_text(0.0)} if error else {})


def _error_text(error: float) -> str:
    """An error in a text whose length is always the same: ``1.23e-04``."""
    return f"{error if error >= 1e-99 else 0.0:8.2e}" if error < 1e99 else f"{'inf':>8}"


def _header(texts: Mapping[str, str], layout: _FileLayout) -> bytes:
    """The file's first bytes, its metadata sorted by key."""
    tensors: dict[str, TensorInfo] = {}
    position = 0

    def add(key: str, dtype: str, shape: tuple[int, ...], size: int) -> int:
        tensors[key] = TensorInfo(dtype, shape, position, position + size)
        return position + size

    stored = stored_name(layout.dtype)
    for tensor in (tensor for slot in layout.slots for tensor in slot.tensors):
        position = add(tensor.key, stored, tensor.shape, math.prod(tensor.shape) * layout.dtype.itemsize)
    for key, carried in layout.carried.items():
        position = add(key, carried.dtype, carried.shape, carried.size)
    return encode_header(dict(sorted(texts.items())), tensors)


class _Hashes:
    """Both hashes of a file while its data goes by: sha256 of the data, and the WebUI's old one, which also reads a
    ``head`` with only the ``ss_*`` metadata."""

    def __init__(self, head: bytes) -> None:
        self._digest = hashlib.sha256()
        self._legacy = LegacyHash(head)

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes after the header."""
        self._digest.update(data)
        self._legacy.update(data)

    def texts(self) -> dict[str, str]:
        """The header's entries."""
        return {"sshs_model_hash": self._digest.hexdigest(), "sshs_legacy_hash": self._legacy.hexdigest()}


def _metadata(
    path: Path, family: str, given: Mapping[str, str], layout: _FileLayout, provenance: Provenance | None
) -> dict[str, str]:
    kind = family_of(family)
    computed = (KEY, ERROR, SPEC_HASH)  # the last is of other bytes
    texts = {key: text for key, text in given.items() if not key.startswith("sshs_") and key not in computed}
    texts.setdefault("ss_output_name", path.stem)
    if kind.network is not None and MODEL not in texts:  # else its family's name would not be true of it
        texts.setdefault("ss_base_model_version", kind.base_model_version)
        texts.setdefault("ss_v2", str(family == "sd2"))
        if architecture := architecture_of(kind, texts):
            texts.setdefault("modelspec.architecture", architecture)
    texts.setdefault("modelspec.sai_model_spec", "1.0.1")
    texts.setdefault("modelspec.title", path.stem)
    factors = [slot for slot in layout.slots if slot.kind != "full"]
    wide = [slot for slot in factors if slot.wide]
    plain = [slot.rank for slot in factors if not slot.wide]
    module = texts.get("ss_network_module", _LORA)
    lowered = factors and len(factors) == len(layout.slots) and not layout.carried  # nothing but pairs of factors
    texts["ss_network_module"] = _LORA if lowered and module.startswith("lycoris.") else module
    if layout.slots:
        texts["ss_network_dim"] = str(max(plain or [layout.rank]))
        texts["ss_network_alpha"] = str(layout.alpha)
    if wide:
        shown = wide[0].alpha if wide[0].kind == "kohya" else float(max(slot.rank for slot in wide))
        arguments = {"conv_dim": str(max(slot.rank for slot in wide)), "conv_alpha": str(shown)}
        texts.setdefault("ss_network_args", json.dumps(arguments))
    if provenance is not None:
        texts[KEY] = provenance.to_json()
    return texts
