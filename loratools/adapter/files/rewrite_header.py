"""Other header text on the same tensors: a file is published under its own name, and not one byte after the header
changes, so its digest, and whatever refers to it by digest, stays true."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from loratools import files
from loratools.adapter.files.metadata import guard_overwrite
from loratools.adapter.header import Header, read_header

_LEGACY_OFFSET, _LEGACY_LENGTH = 0x100000, 0x10000
_PIECE = 1 << 20


def relabel(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    texts: Mapping[str, str],
    *,
    owner: str = "",
    force: bool = False,
) -> str:
    """Write the LoRA file ``source`` to ``out`` with ``texts`` over its header's metadata, whole or not at all.

    ``sshs_model_hash`` (sha256 after the header) stays what it is; ``sshs_legacy_hash``, which AUTOMATIC1111's hash
    reads over the ``ss_*`` texts too, is made true again where the file has one.

    Returns:
        The file's digest, the same as the source's.
    Raises:
        FileError: if ``source`` cannot be read, or ``out`` is a file that ``owner`` did not write.
        FormatError: if ``source`` is no safetensors file.
    """
    place, header = Path(source), read_header(source)
    guard_overwrite(out, owner, force)
    metadata = {**header.metadata, **texts}
    if "sshs_legacy_hash" in metadata:
        metadata["sshs_legacy_hash"] = _legacy_hash(place, header, metadata)
    digest = hashlib.sha256()
    with files.replacing(out) as part, open(part, "wb") as target, open(place, "rb") as stream:
        target.write(_head(header, metadata))
        stream.seek(header.data_start)
        while piece := stream.read(_PIECE):
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest()


def _head(header: Header, metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    for key, info in header.tensors.items():
        entries[key] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [info.start, info.end]}
    raw = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _legacy_hash(path: Path, header: Header, metadata: Mapping[str, str]) -> str:
    """The first 8 hex digits of sha256 over 64 KiB at 1 MiB of the file, had it only the ``ss_*`` texts."""
    head = _head(header, {key: text for key, text in metadata.items() if key.startswith("ss_")})
    piece = head[_LEGACY_OFFSET : _LEGACY_OFFSET + _LEGACY_LENGTH]
    with open(path, "rb") as stream:
        stream.seek(header.data_start + max(_LEGACY_OFFSET - len(head), 0))
        piece += stream.read(_LEGACY_LENGTH - len(piece))
    return hashlib.sha256(piece).hexdigest()[:8]
