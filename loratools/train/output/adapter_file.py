"""The file of a trained LoRA's weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from loratools.adapter.files.metadata import Provenance
from loratools.adapter.files.save import write
from loratools.train.network.network import Network
from loratools.train.output.saved import Saved


@dataclass(frozen=True)
class AdapterFile:
    """Writes what an adapter network holds: its factors, and what stands beside them."""

    network: Network
    family: str
    dtype: torch.dtype

    def write(self, path: Path, metadata: Mapping[str, str], provenance: Provenance, *, force: bool) -> Saved:
        """Write the file ``path``, whole or not at all."""
        written = write(
            self.network.deltas(),
            path,
            family=self.family,
            metadata=metadata,
            dtype=self.dtype,
            provenance=provenance,
            force=force,
            alpha=self.network.alphas,
            carried=self.network.extras(self.dtype),
        )
        return Saved(written.digest)
