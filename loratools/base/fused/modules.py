"""Fused forwards in the place of those of diffusers' modules, over weights laid out channels last.

Only modules of the plain structure that Stable Diffusion has are changed; every other one stays as it is. Modules are
still called as modules where a low-rank branch may hang on them (:mod:`loratools.base.patching`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.base.fused.group_norm import add_residual, group_norm

Forward = Callable[..., Any]


class FusedModules:
    """The fused forwards of some models. Parameters stay the same objects with the same numbers; the layout of their
    memory changes when they are first applied, and stays, since captured graphs read it.

    Args:
        models: such as a UNet and a VAE's decoder.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._models = models
        self._forwards = [own for model in models for own in _fused(model)]

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Run the block with the fused forwards in place; whatever else takes a forward's place comes after."""
        for model in self._models:
            _lay_out(model)
        before = [(module, name, vars(module).get(name)) for module, name, _ in self._forwards]
        for module, name, forward in self._forwards:
            setattr(module, name, forward)
        try:
            yield
        finally:
            for module, name, earlier in before:
                if earlier is None:
                    delattr(module, name)
                else:
                    setattr(module, name, earlier)


def _lay_out(model: nn.Module) -> None:
    """Lay the weights of 3x3 convolutions and their like out channels last, once."""
    weights = (own for own in model.parameters() if own.dim() == 4)
    if not all(own.is_contiguous(memory_format=torch.channels_last) for own in weights):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fused(model: nn.Module) -> Iterator[tuple[nn.Module, str, Forward]]:
    """Every method that is replaced: its module, its name, and the function that takes its place."""
    module: Any
    for module in model.modules():
        kind = type(module).__name__
        if kind == "ResnetBlock2D" and _plain_resnet(module):
            yield module, "forward", _Resnet(module)
            if module.conv_shortcut is not None:
                yield module.conv_shortcut, "forward", _Pointwise(module.conv_shortcut)
        elif kind == "Transformer2DModel" and _plain_transformer(module):
            yield module, "_operate_on_continuous_inputs", _Entry(module)
            yield module, "_get_output_for_continuous_inputs", _Exit(module)
            for projection in (module.proj_in, module.proj_out):
                if isinstance(projection, nn.Conv2d):
                    yield projection, "forward", _Pointwise(projection)
    norm, act = getattr(model, "conv_norm_out", None), getattr(model, "conv_act", None)
    if isinstance(norm, nn.GroupNorm) and isinstance(act, nn.SiLU):
        yield norm, "forward", _Norm(norm, silu=True)
        yield act, "forward", _same


def _same(x: Tensor) -> Tensor:
    """The activation is part of the norm before it."""
    return x


class _Norm:
    """A GroupNorm, with SiLU after it if ``silu``."""

    def __init__(self, norm: nn.GroupNorm, *, silu: bool = False) -> None:
        self._norm, self._silu = norm, silu

    def __call__(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """x (rows, c, h, w), and (rows, c) that is added to it before."""
        norm = self._norm
        return group_norm(x, norm.weight, norm.bias, norm.num_groups, norm.eps, silu=self._silu, added=added)


class _Resnet:
    """A residual block: both norms with their SiLU; the first convolution's bias joins the time embedding, and the
    second's the residual sum."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._norms = _Norm(block.norm1, silu=True), _Norm(block.norm2, silu=True)

    def __call__(self, input_tensor: Tensor, temb: Tensor | None = None, *_args: Any, **_kwargs: Any) -> Tensor:
        """x (rows, c, h, w) and the time embedding (rows, t) -> (rows, c', h, w)."""
        block = self._block
        hidden = _without_bias(block.conv1, self._norms[0](input_tensor))
        if block.time_emb_proj is None or temb is None:
            added = block.conv1.bias.expand(len(hidden), -1).contiguous()
        else:
            added = block.time_emb_proj(functional.silu(temb)) + block.conv1.bias
        hidden = _without_bias(block.conv2, self._norms[1](hidden, added))
        residual = input_tensor if block.conv_shortcut is None else block.conv_shortcut(input_tensor)
        return add_residual(hidden, residual, block.conv2.bias)


class _Entry:
    """``Transformer2DModel._operate_on_continuous_inputs``: pictures (rows, c, h, w) -> tokens (rows, h w, c')."""

    def __init__(self, model: Any) -> None:
        self._model, self._norm = model, _Norm(model.norm)

    def __call__(self, hidden_states: Tensor) -> tuple[Tensor, int]:
        """The tokens, and their width."""
        hidden, project = self._norm(hidden_states), self._model.proj_in
        if isinstance(project, nn.Conv2d):
            hidden = project(hidden)
        tokens = hidden.permute(0, 2, 3, 1).flatten(1, 2)
        if not isinstance(project, nn.Conv2d):
            tokens = project(tokens)
        return tokens, tokens.shape[-1]


class _Exit:
    """``Transformer2DModel._get_output_for_continuous_inputs``: tokens -> pictures, added to what came in."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(
        self, hidden_states: Tensor, residual: Tensor, batch_size: int, height: int, width: int, inner_dim: int
    ) -> Tensor:
        """Tokens (rows, h w, c') and the residual (rows, c, h, w) -> (rows, c, h, w)."""
        project = self._model.proj_out
        if not isinstance(project, nn.Conv2d):
            hidden_states = project(hidden_states)
        hidden = hidden_states.view(batch_size, height, width, -1).permute(0, 3, 1, 2)
        if isinstance(project, nn.Conv2d):
            hidden = project(hidden)
        summed: Tensor = hidden + residual
        return summed


class _Pointwise:
    """A 1x1 convolution of a channels-last input as the matrix product that it is, with the bias in it."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self._conv = conv

    def __call__(self, x: Tensor) -> Tensor:
        """x (rows, in, h, w) -> (rows, out, h, w)."""
        conv = self._conv
        y = functional.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias)
        return y.permute(0, 3, 1, 2)


def _without_bias(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return functional.conv2d(x, conv.weight, None, conv.stride, conv.padding)


def _plain_resnet(block: Any) -> bool:
    """Whether a ``ResnetBlock2D`` is the one of Stable Diffusion, of which :class:`_Resnet` is the whole."""
    convs = (block.conv1, block.conv2)
    return (
        block.time_embedding_norm == "default"
        and not block.skip_time_act
        and block.upsample is None
        and block.downsample is None
        and block.output_scale_factor == 1.0
        and isinstance(block.nonlinearity, nn.SiLU)
        and all(type(conv) is nn.Conv2d and conv.bias is not None and conv.groups == 1 for conv in convs)
        and all(_plain_norm(norm) for norm in (block.norm1, block.norm2))
        and (block.conv_shortcut is None or _projects(block.conv_shortcut))
    )


def _plain_transformer(model: Any) -> bool:
    """Whether a ``Transformer2DModel`` takes pictures, through a projection before and after its blocks."""
    methods = ("_operate_on_continuous_inputs", "_get_output_for_continuous_inputs")
    return (
        bool(getattr(model, "is_input_continuous", False))
        and all(hasattr(model, name) for name in methods)
        and _plain_norm(model.norm)
        and _projects(model.proj_in)
        and _projects(model.proj_out)
    )


def _plain_norm(norm: Any) -> bool:
    return type(norm) is nn.GroupNorm and norm.affine


def _projects(module: Any) -> bool:
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.kernel_size == module.stride == (1, 1))
