"""Latents on disk, named after what they were made from and never after the image's name.

sd-scripts names its cache after the image and its size, and so takes an edited image's, another VAE's or another
bucket's latents for its own. Here the name is a digest of everything that determines the numbers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from loratools.files import write_bytes

VERSION = 2  # raise it when pixels or their encoding change


class LatentCache:
    """Means and deviations in ``folder``, one safetensors file an entry; several processes may share it.

    Args:
        folder: made when the first entry is written.
        vae: whose weights are part of every key.
    """

    def __init__(self, folder: Path, vae: torch.nn.Module) -> None:
        self._folder, self._vae = folder, weights_digest(vae)

    def key(self, image: str, **made_with: Any) -> str:
        """The name of an entry: sha256 over the image's digest, the VAE's, and everything in ``made_with``."""
        facts = {"version": VERSION, "image": image, "vae": self._vae, **made_with}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def load(self, key: str) -> tuple[Tensor, Tensor] | None:
        """``(mean, deviation)``, (4, h, w) each; None where there is no entry, or it is broken or not ours."""
        try:
            with safe_open(self._path(key), framework="pt") as file:
                facts = file.metadata() or {}
                mean, deviation = file.get_tensor("mean"), file.get_tensor("deviation")
        except (OSError, SafetensorError):
            return None
        whole = facts.get("key") == key and facts.get("sha256") == _digest(mean, deviation)
        return (mean, deviation) if whole else None

    def store(self, key: str, mean: Tensor, deviation: Tensor) -> None:
        """Write an entry whole or not at all."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"key": key, "sha256": _digest(mean, deviation), "format": f"loratools-latents-{VERSION}"}
        write_bytes(path, save({"mean": mean.contiguous(), "deviation": deviation.contiguous()}, facts))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


def weights_digest(module: torch.nn.Module) -> str:
    """sha256 over every tensor's name, type, shape and bytes, wherever the module lies."""
    whole = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        whole.update(_bytes(tensor))
    return whole.hexdigest()


def _digest(*tensors: Tensor) -> str:
    whole = hashlib.sha256()
    for tensor in tensors:
        whole.update(repr((str(tensor.dtype), tuple(tensor.shape))).encode())
        whole.update(_bytes(tensor))
    return whole.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    values = tensor.detach().cpu().contiguous()
    return bytes(values.reshape(-1).view(torch.uint8).numpy().data)
