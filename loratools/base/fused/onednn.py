"""Linear modules and convolutions of a float32 model on a CPU through oneDNN, with weights packed once.

Measured on the pocket base: torch's own float32 linear modules go through MKL, which is slow on processors that are not
Intel's, and oneDNN's convolutions lay their weights out anew in every call. Packed weights, channels-last activations
and GELU fused into its product take a quarter to a half less time, and a row's result is the same, bit for bit, in a
batch of 2 to 24.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.base.fused.modules import Forward

_MOST_PACKED = 1 << 30  # bytes of weights that are packed; larger models would take their memory twice for little


class OneDnnModules:
    """The forwards of some models through oneDNN, installed or not. Parameters stay as they are.

    A weight that is changed in place, as patching does, is packed again by the next call.

    Args:
        models: in float32 on a CPU, such as a UNet and a VAE.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._models = models
        self._replaced: list[nn.Module] = []

    def install(self) -> None:
        """Replace the forwards, if this torch has oneDNN and its operations."""
        if self._replaced or not supported():
            return
        size = sum(own.nbytes for model in self._models for own in model.parameters())
        for model in self._models:
            for module, forward in _forwards(model, packed=size <= _MOST_PACKED):
                if "forward" not in vars(module):  # another one's replacement stays
                    module.forward = forward
                    self._replaced.append(module)

    def remove(self) -> None:
        """Bring the modules' own forwards back, and free packed weights."""
        for module in self._replaced:
            del module.forward
        self._replaced.clear()


@cache
def supported() -> bool:
    """Whether torch has oneDNN, and the operations that its compiler uses work as they are called here."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    with torch.random.fork_rng(devices=[]):  # a caller's random numbers stay as they are
        linear, conv = nn.Linear(8, 8), nn.Conv2d(8, 8, 3, padding=1)
    x, picture = torch.linspace(-1, 1, 16).reshape(2, 8), torch.linspace(-1, 1, 128).reshape(1, 8, 4, 4)
    with torch.no_grad():
        try:
            pairs = [
                (_Linear(linear, packed=True)(x), linear(x)),
                (_Linear(linear, packed=False)(x), linear(x)),
                (_Conv(conv, packed=True)(picture), conv(picture)),
            ]
        except (AttributeError, RuntimeError, TypeError):  # private operations: another torch may lack or change them
            return False
        return all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in pairs)


def _forwards(model: nn.Module, *, packed: bool) -> Iterator[tuple[nn.Module, Forward]]:
    for module in model.modules():
        if type(module) is nn.Linear:
            yield module, _Linear(module, packed=packed)
        elif type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            yield module, _Conv(module, packed=packed)
        elif type(module).__name__ == "GEGLU" and type(getattr(module, "proj", None)) is nn.Linear:
            yield module, _GatedGelu(module, packed=packed)
        elif type(module).__name__ == "Attention" and _plain_attention(module):
            yield module, _Attention(module)


class _Weight:
    """A parameter, or a packed copy of it that is made anew when the parameter was changed."""

    def __init__(self, parameter: Tensor, *, packed: bool) -> None:
        self._parameter, self._packed = parameter, packed
        self._state: tuple[int, int] | None = None
        self._value: Any = None

    def value(self, pack: Callable[[Tensor], Any], plain: Any) -> Any:
        """``pack(weight)``, or ``plain`` where nothing is packed."""
        if not self._packed:
            return plain
        state = self._parameter._version, self._parameter.data_ptr()
        if self._state != state:
            self._value, self._state = pack(self._parameter.detach()), state
        return self._value


class _Linear:
    """A linear module: x (..., in) -> (..., out)."""

    def __init__(self, module: nn.Linear, *, packed: bool) -> None:
        self._module, self._weight = module, _Weight(module.weight, packed=packed)

    def __call__(self, x: Tensor) -> Tensor:
        weight = self._weight.value(torch.ops.mkldnn._reorder_linear_weight, self._module.weight)
        made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, self._module.bias, "none", [], "")
        return made


class _Conv:
    """A convolution of channels-last pictures: x (rows, in, h, w) -> (rows, out, h', w')."""

    def __init__(self, module: nn.Conv2d, *, packed: bool) -> None:
        self._module, self._weight = module, _Weight(module.weight, packed=packed)

    def __call__(self, x: Tensor, *_unused: Any) -> Tensor:
        own = self._module
        x = x.contiguous(memory_format=torch.channels_last)
        how = [list(own.padding), list(own.stride), list(own.dilation), own.groups]

        def pack(weight: Tensor) -> Any:
            return torch.ops.mkldnn._reorder_convolution_weight(weight, *how, list(x.shape))

        weight = self._weight.value(pack, own.weight)
        made: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, own.bias, *how, "none", [], "")
        return made


class _GatedGelu:
    """diffusers' GEGLU: x (..., in) -> (..., out), the half of a product times the GELU of its other half."""

    def __init__(self, module: Any, *, packed: bool) -> None:
        self._projection, self._weight = module.proj, _Weight(module.proj.weight, packed=packed)

    def __call__(self, x: Tensor, *_unused: Any, **_kwargs: Any) -> Tensor:
        own = self._projection
        if own.bias is None or not isinstance(vars(own).get("forward"), _Linear):  # a branch stands beside the product
            hidden, gate = own(x).chunk(2, dim=-1)
            gated: Tensor = hidden * functional.gelu(gate)
            return gated
        hidden_weight, gate_weight = self._weight.value(_packed_halves, own.weight.detach().chunk(2))
        hidden_bias, gate_bias = own.bias.detach().chunk(2)
        gate = torch.ops.mkldnn._linear_pointwise(x, gate_weight, gate_bias, "gelu", [], "none")
        made: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, gate, hidden_weight, hidden_bias, "mul")
        return made


class _Attention:
    """diffusers' Attention without what it finds out anew in every call, which costs as much as a small product."""

    def __init__(self, module: Any) -> None:
        self._module, self._forward = module, module.forward

    def __call__(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """Tokens (rows, n, c), and the prompts' hidden states (rows, m, d) that they look at -> (rows, n, c)."""
        own = self._module
        if attention_mask is not None or kwargs or hidden_states.dim() != 3:
            other: Tensor = self._forward(hidden_states, encoder_hidden_states, attention_mask, **kwargs)
            return other
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            each.unflatten(-1, (own.heads, -1)).transpose(1, 2)
            for each in (own.to_q(hidden_states), own.to_k(seen), own.to_v(seen))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        made: Tensor = own.to_out[0](mixed.transpose(1, 2).flatten(2))
        return made


def _plain_attention(module: Any) -> bool:
    """Whether :class:`_Attention` is the whole of a diffusers ``Attention``: nothing is normed, rescaled or added."""
    absent = ("spatial_norm", "group_norm", "norm_q", "norm_k", "norm_cross")
    return (
        type(module.processor).__name__ == "AttnProcessor2_0"
        and not any(getattr(module, name, None) for name in absent)
        and not module.residual_connection
        and module.rescale_output_factor == 1.0
        and module.to_k is not None
        and module.to_out is not None
    )


def _packed_halves(weight: Tensor) -> tuple[Tensor, Tensor]:
    hidden, gate = (torch.ops.mkldnn._reorder_linear_weight(half.contiguous()) for half in weight.chunk(2))
    return hidden, gate
