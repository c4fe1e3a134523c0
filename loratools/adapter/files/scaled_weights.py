"""Weights that a checkpoint stores as fp8 with a scale beside them (``X.weight`` and ``X.scale_weight``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_SCALES = ("scale_weight", "weight_scale")  # what follows the module's path: ComfyUI's older and newer word


class ScaledWeights:
    """The scales of a checkpoint's weights, by the weights' keys.

    Args:
        keys: every key of the checkpoint, and the file that has it.
    """

    def __init__(self, keys: Mapping[str, Path]) -> None:
        self._scales: dict[str, str] = {}
        for key, file in keys.items():
            module, _, last = key.rpartition(".")
            weight = f"{module}.weight"
            if last in _SCALES and keys.get(weight) == file:
                self._scales[weight] = key

    def scale_of(self, key: str) -> str | None:
        """The key of the scale that the weight ``key`` is to be multiplied by."""
        return self._scales.get(key)

    @property
    def first(self) -> str | None:
        """A weight that has a scale; None where none has."""
        return next(iter(self._scales), None)

    @staticmethod
    def unscaled(stored: Tensor, scale: Tensor) -> Tensor:
        """The weight itself, in float32; ``scale`` is one number, or one for each row."""
        factors = scale.to(torch.float32)
        rows = factors.reshape(-1, *[1] * (stored.dim() - 1)) if factors.numel() > 1 else factors.reshape(())
        return stored.to(torch.float32) * rows
