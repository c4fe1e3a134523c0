"""LoRA beside quantised linear layers: ``y = Q(x) + w * up (down x)``, as PEFT has it, since nothing can be added to Q.

Adding to quantised weights would mean to quantise the sum again, whose rounding is coarser than most LoRAs' change. So
the weights stay as they are, bit for bit, and the difference is computed beside them, in the layer's own compute dtype.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from loratools.adapter.algebra.lowrank import Delta, LowRank


def is_quantized(module: nn.Module | None) -> bool:
    """Whether a module's weight is anything but plain numbers: packed integers, or a tensor class of its own."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.is_meta:
        return False
    return not weight.is_floating_point() or type(weight.data) is not Tensor


def quantized_shape(module: nn.Module) -> tuple[int, ...] | None:
    """(out, in) of a quantised linear layer, whose weight has another shape; None for other modules."""
    sizes = getattr(module, "out_features", None), getattr(module, "in_features", None)
    return (int(sizes[0]), int(sizes[1])) if isinstance(sizes[0], int) and isinstance(sizes[1], int) else None


class QuantizedBranches:
    """The branches that stand beside quantised layers now, by the layers' names."""

    def __init__(self) -> None:
        self._hooks: dict[str, RemovableHandle] = {}

    def put(self, name: str, module: nn.Module, delta: Delta, weight: float) -> None:
        """Stand ``weight`` * ``delta`` beside ``module``, in the place of what stood there."""
        self.remove([name])
        self._hooks[name] = module.register_forward_hook(_Beside(delta, weight))

    def remove(self, names: Iterable[str]) -> None:
        """Take branches away; names without one are passed over."""
        for name in names:
            if (hook := self._hooks.pop(name, None)) is not None:
                hook.remove()


class _Beside:
    """A forward hook that adds ``weight`` * ``delta`` x to a linear layer's output.

    Factors go to the device and the dtype of what comes in, once for as long as these stay the same.
    """

    def __init__(self, delta: Delta, weight: float) -> None:
        self._parts: tuple[Tensor, ...] = (delta.down, delta.up) if isinstance(delta, LowRank) else (delta.value,)
        self._weight = weight

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        x: Tensor = inputs[0]
        first = self._parts[0]
        if first.device != x.device or first.dtype != x.dtype:
            self._parts = tuple(part.to(x.device, x.dtype) for part in self._parts)
        added = x
        for part in self._parts:
            added = functional.linear(added, part)
        return output + self._weight * added


def beside(modules: Mapping[str, nn.Module], names: Iterable[str]) -> set[str]:
    """Those of ``names`` that are quantised modules."""
    return {name for name in names if is_quantized(modules.get(name))}
