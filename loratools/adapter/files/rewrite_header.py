"""Other header text on the same tensors: a file is published under its own name, and not one byte after the header
changes, so its digest, and whatever refers to it by digest, stays true."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from loratools import files
from loratools.adapter.files.metadata import guard_overwrite
from loratools.adapter.header import encode_header, legacy_hash, read_header

_PIECE = 1 << 20


def rewrite_header(
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
    lora, header = Path(source), read_header(source)
    guard_overwrite(out, owner, force)
    metadata = dict(sorted({**header.metadata, **texts}.items()))
    if "sshs_legacy_hash" in metadata:
        facts = {key: text for key, text in metadata.items() if key.startswith("ss_")}
        head = encode_header(facts, header.tensors)
        metadata["sshs_legacy_hash"] = legacy_hash(lora, head=head, skip=header.data_start)
    digest = hashlib.sha256()
    with files.replacing(out) as part, open(part, "wb") as target, open(lora, "rb") as stream:
        target.write(encode_header(metadata, header.tensors))
        stream.seek(header.data_start)
        while piece := stream.read(_PIECE):
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest()
