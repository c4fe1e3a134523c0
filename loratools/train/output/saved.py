"""What a run's file is, once it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from loratools.adapter.files.metadata import Provenance


@dataclass(frozen=True)
class Saved:
    """A file that was written.

    Attributes:
        digest: sha256 of the bytes after its header.
        error: of a LoRA that was extracted, the relative error against all that was learnt; ``blocks`` by block.
    """

    digest: str
    error: float | None = None
    blocks: Mapping[str, float] = field(default_factory=dict)


class RunFile(Protocol):
    """Writes one kind of file of the weights as they are now."""

    def write(self, path: Path, metadata: Mapping[str, str], provenance: Provenance, *, force: bool) -> Saved:
        """Write ``path``, whole or not at all."""
