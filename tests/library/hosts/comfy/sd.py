"""A stand-in for ComfyUI's module of that name: it patches copies of a model and a text encoder with a LoRA's tensors.

As ComfyUI does, it looks for each of the model's own modules by kohya's name, takes ``alpha`` as one number, multiplies
the factors and scales them; it keeps a list of what nothing asked for, which ComfyUI warns of in its log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

NOT_LOADED: list[str] = []


@dataclass
class Patcher:
    """A model, or a text encoder: kohya's name of each module -> its weight."""

    weights: dict[str, Tensor]
    patches: dict[str, Tensor] = field(default_factory=dict)

    def clone(self) -> Patcher:
        return Patcher(self.weights, dict(self.patches))

    def patched(self, name: str) -> Tensor:
        return self.weights[name] + self.patches[name] if name in self.patches else self.weights[name]


def load_lora_for_models(
    model: Patcher | None, clip: Patcher | None, lora: Mapping[str, Tensor], strength_model: float, strength_clip: float
) -> tuple[Patcher | None, Patcher | None]:
    if not isinstance(lora, dict) or not all(isinstance(value, Tensor) for value in lora.values()):
        raise TypeError("a loaded file is a dict of tensors by key")
    used: set[str] = set()
    patched = (_patched(model, lora, strength_model, used), _patched(clip, lora, strength_clip, used))
    NOT_LOADED[:] = sorted(lora.keys() - used)
    return patched


def _patched(target: Patcher | None, lora: Mapping[str, Tensor], strength: float, used: set[str]) -> Patcher | None:
    if target is None:
        return None
    result = target.clone()
    for name, weight in target.weights.items():
        keys = [f"{name}.lora_up.weight", f"{name}.lora_down.weight", f"{name}.alpha"]
        if keys[0] not in lora:
            continue
        up, down = lora[keys[0]].float(), lora[keys[1]].float()
        scale = lora[keys[2]].item() / down.shape[0] if keys[2] in lora else 1.0
        product = up.flatten(1) @ down.flatten(1)
        result.patches[name] = strength * scale * product.reshape(weight.shape)
        used.update(keys)
    return result
