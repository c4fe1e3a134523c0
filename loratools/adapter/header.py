"""A safetensors header, read strictly and without torch: hostile or truncated files are named errors, never a crash.

And its writing: the bytes of a header, and the hash that AUTOMATIC1111's WebUI once took of model files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.foreign_file import what_it_is
from loratools.dtypes import ITEM_BITS
from loratools.errors import FileError, FormatError
from loratools.files import utf8_text

_LEGACY_START, _LEGACY_END = 0x100000, 0x110000  # the bytes that the WebUI's old hash reads
_LONGEST = 100_000_000  # bytes; the safetensors library's own limit


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: ``start`` and ``end`` are byte offsets from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """A safetensors file's header: free-text ``metadata``, ``tensors`` by name, and where the data begins."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorInfo]
    data_start: int
    size: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read and check the header of a safetensors file.

    Raises:
        FileError: if the file is missing or unreadable.
        FormatError: if it is empty, truncated, no safetensors file, or its header contradicts itself.
    """
    file = Path(path)
    raw, size = _header_bytes(file)
    entries = _parse(file, raw)
    metadata = _metadata(file, entries.pop("__metadata__", {}))
    tensors = {name: _tensor(file, name, entry) for name, entry in entries.items()}
    _check_layout(file, tensors, size - 8 - len(raw))
    return Header(metadata, tensors, 8 + len(raw), size)


def header(path: str | os.PathLike[str]) -> tuple[Mapping[str, str], Mapping[str, TensorInfo]]:
    """``(metadata, tensors)`` of a safetensors file, without torch and without reading its data."""
    whole = read_header(path)
    return whole.metadata, whole.tensors


def encode_header(metadata: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> bytes:
    """The first bytes of a safetensors file: the header's length (8 bytes) and the header, padded to 8 bytes.

    Args:
        metadata: free text; characters that UTF-8 cannot hold become ``?``.
        tensors: in the order in which the header lists them.
    """
    entries: dict[str, object] = {"__metadata__": {utf8_text(key): utf8_text(text) for key, text in metadata.items()}}
    for key, info in tensors.items():
        entries[key] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [info.start, info.end]}
    raw = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


class LegacyHash:
    """AUTOMATIC1111's old hash of a file: the first 8 hex digits of sha256 over the 64 KiB that begin at 1 MiB.

    Args:
        head: the file's first bytes; the others follow through :meth:`update`.
    """

    def __init__(self, head: bytes = b"") -> None:
        self._hash = hashlib.sha256()
        self._position = 0
        self.update(head)

    def update(self, data: bytes | memoryview) -> None:
        """Take the file's next bytes."""
        start, end = _LEGACY_START - self._position, _LEGACY_END - self._position
        self._hash.update(data[max(start, 0) : max(end, 0)])
        self._position += len(data)

    def hexdigest(self) -> str:
        """8 hex digits."""
        return self._hash.hexdigest()[:8]


def legacy_hash(path: str | os.PathLike[str], *, head: bytes = b"", skip: int = 0) -> str:
    """The :class:`LegacyHash` of a file's bytes after the first ``skip`` of them, as if ``head`` stood before them."""
    legacy = LegacyHash(head)
    with open(path, "rb") as stream:
        stream.seek(skip)
        legacy.update(stream.read(_LEGACY_END))
    return legacy.hexdigest()


def _header_bytes(path: Path) -> tuple[bytes, int]:
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            first = stream.read(8)
            if size == 0:
                raise FormatError(f"{path} is empty (0 bytes); download or export it again")
            length = int.from_bytes(first, "little")
            if size < 10 or length > min(_LONGEST, size - 8):
                raise FormatError(_no_safetensors(path, first, length, size))
            return stream.read(length), size
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist; check the name and the folder") from error
    except IsADirectoryError as error:
        raise FileError(f"{path} is a folder; a .safetensors file is needed here") from error
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error


def _no_safetensors(path: Path, first: bytes, length: int, size: int) -> str:
    if (other := what_it_is(path)) is not None:
        return f"{path} {other}"
    if size < 10:
        return f"{path} is truncated: {size} bytes hold no safetensors header; download it again"
    if length > _LONGEST:
        return (
            f"{path} is not a safetensors file: its first 8 bytes ({first!r}) announce a header of {length} bytes; "
            "download it again"
        )
    return f"{path} is truncated: its header should have {length} bytes, the file has {size}; download it again"


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    """The header's JSON. As in the safetensors library the last of two equal names counts, but for one case: a tensor
    that is named twice must be the same both times, since its bytes are counted once."""

    def last_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            for name, entry in pairs:
                if entry != entries[name] and not isinstance(entry, str):
                    raise FormatError(f"{path} names '{_clip(name)}' twice in its header; export it again")
        return entries

    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=last_wins, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if (other := what_it_is(path)) is not None and not raw.lstrip().startswith(b"{"):
            raise FormatError(f"{path} {other}") from error
        raise FormatError(
            f"{path} is not a safetensors file: its header is no JSON ({_short(error)}); download or export it again"
        ) from error
    if not isinstance(entries, dict):
        raise FormatError(f"{path} is not a safetensors file: its header is no JSON object; download it again")
    return entries


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _short(error: Exception) -> str:
    return str(error).split("\n")[0][:120]


def _metadata(path: Path, entry: object) -> dict[str, str]:
    if entry is None:  # as some programs write no metadata
        return {}
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise FormatError(f"{path} is not a safetensors file: its __metadata__ must map names to text")
    return {utf8_text(key): utf8_text(value) for key, value in entry.items()}


def _tensor(path: Path, name: str, entry: object) -> TensorInfo:
    if utf8_text(name) != name:
        raise FormatError(f"{path} has a tensor whose name is no text ({_clip(name)!r}); export it again")
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]}:
            pass
        case [str(dtype), list(shape), [int(start), int(end)]]:  # the library reads an entry without names too
            pass
        case _:
            raise FormatError(f"{path} has a malformed header entry for '{_clip(name)}'; export it again")
    if dtype not in ITEM_BITS:
        raise FormatError(f"{path} stores '{_clip(name)}' as {_clip(dtype)}, which is not supported; save it as F16")
    sizes = [size for size in shape if type(size) is int and 0 <= size < 2**48]
    if len(sizes) != len(shape) or not 0 <= start <= end:
        raise FormatError(f"{path} declares an impossible shape or offset for '{_clip(name)}'; export it again")
    count = 1
    for size in sizes:
        count = min(count * size, 2**60)
    if count * ITEM_BITS[dtype] != 8 * (end - start):
        raise FormatError(
            f"{path} declares shape {sizes} of {dtype} for '{_clip(name)}' but {end - start} bytes; export it again"
        )
    return TensorInfo(dtype, tuple(sizes), start, end)


def _clip(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}..."


def _check_layout(path: Path, tensors: Mapping[str, TensorInfo], available: int) -> None:
    position = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            raise FormatError(f"{path} has overlapping or missing bytes before '{_clip(name)}'; export it again")
        position = info.end
    if position > available:
        raise FormatError(
            f"{path} is truncated: its header promises {position} bytes of tensors, {available} are there; "
            "download it again"
        )
    if position < available:
        raise FormatError(f"{path} has {available - position} bytes after its last tensor; export it again")
