"""``network_weights``: a LoRA file from which a network starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from loratools.adapter.algebra.lowrank import LowRank, same_matrix
from loratools.adapter.architectures.names import family_of
from loratools.adapter.files.epoch_files import find_file
from loratools.adapter.files.file import open_adapter
from loratools.adapter.files.metadata import inherited
from loratools.errors import TrainingError
from loratools.train.network.layers import AdapterLayer, Lora


class InitWeights:
    """The modules of a ``network_weights`` file; of a training run, its last epoch or the named one (``RUN@8``).

    Raises:
        FileError, FormatError: if the file cannot be read or is no LoRA.
        TrainingError: if it is for another model family, or holds what is no product of two factors.
    """

    def __init__(self, path: Path, family: str) -> None:
        path = find_file(str(path))
        self.path, self._adapter = path, open_adapter(path)
        if self._adapter.family != family:
            raise TrainingError(
                f"network_weights {path} is for {family_of(self._adapter.family).title} and the base is "
                f"{family_of(family).title}; start from a LoRA of the base's family"
            )
        if self._adapter.dense:
            name = sorted(self._adapter.dense)[0]
            raise TrainingError(
                f"network_weights {path} holds {name} as '{self._adapter.kinds[name]}', from which no branch can "
                "start; give a plain LoRA or LoCon"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical module names, sorted."""
        return self._adapter.names

    @property
    def input(self) -> dict[str, str]:
        """Name and digest, for the header of what is trained."""
        return {"name": str(self.path), "digest": self._adapter.digest, "kind": "start"}

    @property
    def ancestors(self) -> Mapping[str, Mapping[str, Any]]:
        """How the file itself was made, by its digest, for the header of what is trained."""
        return inherited([(self._adapter.digest, self._adapter.metadata)])

    def rank(self, name: str) -> int:
        """A module's rank; 0 for one that the file does not have."""
        return self._adapter.ranks.get(name, 0)

    def alpha(self, name: str) -> float:
        """A module's stored alpha, or its rank where the file has none."""
        return self._adapter.alphas.get(name, float(self.rank(name)))

    def load_into(self, name: str, layer: AdapterLayer) -> None:
        """Set ``layer`` to the file's difference exactly; ranks above the file's keep their initial values, whose
        difference is 0.

        Raises:
            TrainingError: if the layer or the file has no two factors, or a rank or shape does not fit.
        """
        delta = self._adapter[name]
        if not isinstance(delta, LowRank) or not isinstance(layer, Lora):
            raise TrainingError(f"network_weights {self.path} has {name} as two factors, and this network has not")
        if delta.rank > layer.rank:
            raise TrainingError(
                f"network_weights {self.path} has {name} at rank {self.rank(name)}, above this network's "
                f"{layer.rank}; raise dim (or conv_dim), or set dim_from_weights"
            )
        if not same_matrix(tuple(delta.shape), layer.shape):
            raise TrainingError(
                f"network_weights {self.path} has {name} of shape {tuple(delta.shape)} where the base's is "
                f"{layer.shape}; it was made for another base"
            )
        layer.begin_at(delta)
