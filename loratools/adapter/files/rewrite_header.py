"""Other header text on the same tensors: a file is published under its own name, and not one byte after the header
changes, so its digest, and whatever refers to it by digest, stays true."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from loratools import files
from loratools.adapter.files.metadata import guard_overwrite
from loratools.adapter.header import LegacyHash, encode_header, read_header

MODEL_HASH, LEGACY_HASH, SPEC_HASH = "sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"
HASHES = (MODEL_HASH, LEGACY_HASH, SPEC_HASH)

_PIECE = 1 << 20
_DIGEST = "0" * 64  # stands for a hash until the tensors have been read


def rewrite_header(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    texts: Mapping[str, str],
    *,
    remove: Collection[str] = (),
    owner: str = "",
    force: bool = False,
) -> str:
    """Write the LoRA file ``source`` to ``out`` with ``texts`` over its header's metadata, whole or not at all; the two
    may be one file.

    Hashes that the header has are made true: ``sshs_model_hash`` and ``modelspec.hash_sha256`` (with ``0x`` in front)
    are sha256 after the header; ``sshs_legacy_hash``, AUTOMATIC1111's, is over the ``ss_*`` texts too.

    Args:
        remove: entries that are left out.
    Returns:
        The file's digest, the same as the source's.
    Raises:
        FileError: if ``source`` cannot be read, or ``out`` is a file that ``owner`` did not write.
        FormatError: if ``source`` is no safetensors file.
    """
    lora, header = Path(source), read_header(source)
    guard_overwrite(out, owner, force)
    metadata = {key: text for key, text in sorted({**header.metadata, **texts}.items()) if key not in remove}
    facts = {key: text for key, text in metadata.items() if key.startswith("ss_")}
    digest, legacy = hashlib.sha256(), LegacyHash(encode_header(facts, header.tensors))
    with files.replacing(out) as part, open(part, "wb") as target, open(lora, "rb") as stream:
        target.write(encode_header(_with_hashes(metadata, _DIGEST, _DIGEST[:8]), header.tensors))
        stream.seek(header.data_start)
        while piece := stream.read(_PIECE):
            digest.update(piece)
            legacy.update(piece)
            target.write(piece)
        target.seek(0)
        target.write(encode_header(_with_hashes(metadata, digest.hexdigest(), legacy.hexdigest()), header.tensors))
    return digest.hexdigest()


def true_hashes(digest: str, legacy: str) -> dict[str, str]:
    """The entries of all three hashes, for a file whose tensors have ``digest`` and whose old hash is ``legacy``."""
    return _with_hashes(dict.fromkeys(HASHES, ""), digest, legacy)


def _with_hashes(metadata: Mapping[str, str], digest: str, legacy: str) -> dict[str, str]:
    true = {MODEL_HASH: digest, LEGACY_HASH: legacy, SPEC_HASH: f"0x{digest}"}
    return {key: true.get(key, text) for key, text in metadata.items()}
