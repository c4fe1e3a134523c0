"""Dense float64 formulas, written from the formats' definitions and sharing no code with loratools.

Everything is keyed by the file's own kohya stems, and blocks come from a table of key prefixes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

# 17 values: BASE IN01 IN02 IN04 IN05 IN07 IN08 M00 OUT03 ... OUT11
SD1_PREFIXES = (
    "lora_te_",
    *(f"lora_unet_down_blocks_{level}_attentions_{layer}_" for level in range(3) for layer in range(2)),
    "lora_unet_mid_block_",
    *(f"lora_unet_up_blocks_{level}_attentions_{layer}_" for level in range(1, 4) for layer in range(3)),
)
_ROWS = 64
GP1 = (1.0, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1)
GP2 = (0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2)


class Stored:
    """A kohya file's modules as dense float64 matrices (out, in * kh * kw), one at a time."""

    def __init__(self, path: Path | str) -> None:
        self._file = safe_open(path, "pt")
        self._keys: dict[str, dict[str, str]] = {}
        for key in self._file.keys():  # noqa: SIM118  (no mapping)
            stem, _, suffix = key.partition(".")
            self._keys.setdefault(stem, {})[suffix] = key
        self.stems = sorted(self._keys)

    def parts(self, stem: str) -> dict[str, Tensor]:
        return {suffix: self._file.get_tensor(key).double() for suffix, key in self._keys[stem].items()}

    def dense(self, stem: str) -> Tensor:
        return dense(self.parts(stem))


def dense(parts: Mapping[str, Tensor]) -> Tensor:
    """One module's difference as a matrix (out, in * kh * kw), from tensors by suffix."""
    if "diff" in parts:
        return parts["diff"].reshape(parts["diff"].shape[0], -1)
    if "lora_up.weight" in parts:
        up, down = parts["lora_up.weight"], parts["lora_down.weight"]
        scale = float(parts["alpha"]) / down.shape[0] if "alpha" in parts else 1.0
        if "lora_mid.weight" in parts:
            whole = torch.einsum("om,mrhw,ri->oihw", up.flatten(1), parts["lora_mid.weight"], down.flatten(1))
            return scale * whole.flatten(1)
        return scale * up.flatten(1) @ down.flatten(1)
    if "hada_w1_a" in parts:
        scale = float(parts["alpha"]) / parts["hada_w1_b"].shape[0] if "alpha" in parts else 1.0
        return scale * _half(parts, "1") * _half(parts, "2")
    return _lokr(parts)


def _half(parts: Mapping[str, Tensor], side: str) -> Tensor:
    a, b, core = parts[f"hada_w{side}_a"], parts[f"hada_w{side}_b"], parts.get(f"hada_t{side}")
    return a @ b if core is None else torch.einsum("ijhw,ip,jr->prhw", core, a, b).flatten(1)


def _lokr(parts: Mapping[str, Tensor]) -> Tensor:
    rank = parts.get("lokr_w2_b", parts.get("lokr_w1_b"))
    scale = 1.0 if rank is None or "alpha" not in parts else float(parts["alpha"]) / rank.shape[0]
    one = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
    if "lokr_t2" in parts:
        two = torch.einsum("ijhw,ip,jr->prhw", parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"])
    else:
        two = parts["lokr_w2"] if "lokr_w2" in parts else parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    if two.dim() == 4:
        one = one[:, :, None, None]
    return scale * torch.kron(one.contiguous(), two.contiguous()).flatten(1)


def sd1_weight(stem: str, vector: Sequence[float] | None) -> float:
    """The weight that a 17-value vector gives a module of an SD1 attention LoRA."""
    if vector is None:
        return 1.0
    index = [i for i, prefix in enumerate(SD1_PREFIXES) if stem.startswith(prefix)]
    assert len(index) == 1, stem
    return vector[index[0]]


def relative_error(result: Path | str, terms: Sequence[tuple[Path | str, float, Sequence[float] | None]]) -> float:
    """``|result - sum w v d| / |sum w v d|`` over a whole SD1 file, dense, module by module."""
    error2 = norm2 = 0.0
    for difference, asked in _compared(result, terms):
        error2 += float(torch.linalg.vector_norm(difference)) ** 2
        norm2 += float(torch.linalg.vector_norm(asked)) ** 2
    return math.sqrt(error2 / norm2)


def _compared(
    result: Path | str, terms: Sequence[tuple[Path | str, float, Sequence[float] | None]]
) -> Iterator[tuple[Tensor, Tensor]]:
    files = [(Stored(path), weight, vector) for path, weight, vector in terms]
    stored = Stored(result)
    assert set(stored.stems) == {stem for file, _, _ in files for stem in file.stems}
    for stem in stored.stems:
        whole = stored.parts(stem)
        given = [
            (file.parts(stem), weight * sd1_weight(stem, vector))
            for file, weight, vector in files
            if stem in file.stems
        ]
        for start in range(0, whole["lora_up.weight"].shape[0], _ROWS):
            asked = torch.stack([weight * dense(_rows(parts, start)) for parts, weight in given]).sum(0)
            yield dense(_rows(whole, start)).sub_(asked), asked


def _rows(parts: Mapping[str, Tensor], start: int) -> dict[str, Tensor]:
    """Some rows of a plain LoRA: small pieces are much quicker than fresh memory for whole matrices."""
    return {**parts, "lora_up.weight": parts["lora_up.weight"][start : start + _ROWS]}
