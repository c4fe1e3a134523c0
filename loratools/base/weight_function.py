"""A UNet whose weights are a differentiable function of a few numbers: W(p) = W0 + sum over i of p_i * D_i.

A :class:`~loratools.base.patching.patch.Patcher` writes one sum into live weights. Here the sum is part of the graph
that gradients flow through, so that the derivative of anything a picture is worth, by each number, comes out of one
backward pass. The weights themselves are never written to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.base.model import Base
from loratools.base.patching.patch import live_modules
from loratools.base.sampling.sample import AddedConditions, UNet
from loratools.errors import BaseModelError

_LARGE = 1 << 19  # numbers of a weight beside which factors are applied


@dataclass(frozen=True, eq=False)
class _Weight:
    """One parameter that is formed at every point: its saved value, and the difference of each number that moves it."""

    start: Tensor
    differences: tuple[tuple[int, Tensor], ...]

    def at(self, point: Tensor) -> Tensor:
        """The sum, formed in float32 and rounded once, as a patch is."""
        total = self.start.float()
        for index, difference in self.differences:
            total = total + point[index] * difference.float()
        return total.to(self.start.dtype)


@dataclass(frozen=True, eq=False)
class _Factors:
    """A module whose weight stays, and what all differences together add to its output: ``up(number * down(x))``.

    Attributes:
        down: (r, in) of a linear module, (r, in, kh, kw) of a convolution.
        up: (out, r), or (out, r, 1, 1).
        numbers: of each of the r components the index of the number that scales it, in the point with a 1 at its end.
    """

    module: nn.Linear | nn.Conv2d
    down: Tensor
    up: Tensor
    numbers: Tensor

    @staticmethod
    def of(module: nn.Linear | nn.Conv2d, parts: Sequence[tuple[int, LowRank]]) -> _Factors:
        """Of differences with the indices of their numbers."""
        live = module.weight
        downs = [part.down.reshape(part.rank, *live.shape[1:]) for _, part in parts]
        ups = [part.up.reshape(live.shape[0], part.rank, *(1 for _ in live.shape[2:])) for _, part in parts]
        numbers = [index for index, part in parts for _ in range(part.rank)]
        return _Factors(
            module,
            torch.cat(downs).to(live.device, live.dtype),
            torch.cat(ups, 1).to(live.device, live.dtype),
            torch.tensor(numbers, device=live.device),
        )

    def added(self, x: Tensor, point: Tensor) -> Tensor:
        """What the differences add for an input ``x``; ``point`` has the 1 at its end."""
        scales = point[self.numbers].to(x.dtype)
        if isinstance(self.module, nn.Linear):
            return functional.linear(functional.linear(x, self.down) * scales, self.up)
        own = self.module
        inner = functional.conv2d(x, self.down, None, own.stride, own.padding, own.dilation)
        return functional.conv2d(inner * scales[:, None, None], self.up)


class WeightFunction:
    """The UNet of a base under LoRAs that are scaled by the numbers of a point.

    Each module is computed in the cheaper of two ways. Where the differences' ranks are small beside the weight, their
    factors are applied beside it and it stays as it is: no weight is formed, none has a gradient, and a large UNet
    takes little more memory than it had. Else the weight is formed from dense differences, as a merge forms it.

    Args:
        fixed: what is added whatever the point, module by canonical name -> difference.
        directions: of each number of the point what it adds, in the same form; modules of the text encoders are left
            out.
    Raises:
        BaseModelError: for a module that the UNet lacks.
    """

    def __init__(self, base: Base, fixed: Mapping[str, Delta], directions: Sequence[Mapping[str, Delta]]) -> None:
        self._base = base
        modules = live_modules(base)
        found: dict[str, list[tuple[int, Delta]]] = {}
        for index, deltas in enumerate((*directions, fixed)):  # the last stands for a number that is always 1
            for name, delta in deltas.items():
                if name.startswith("unet."):
                    found.setdefault(name, []).append((index, delta))
        self._factors: list[_Factors] = []
        self._weights: dict[str, _Weight] = {}
        for name, parts in found.items():
            parameter = _parameter_name(name, modules)
            factors = [(index, delta) for index, delta in parts if isinstance(delta, LowRank)]
            module = modules.get(name)
            if len(factors) == len(parts) and _stays(module, sum(delta.rank for _, delta in factors)):
                self._factors.append(_Factors.of(module, factors))
            else:
                live = base.unet.get_parameter(parameter).detach()
                self._weights[parameter] = _formed(live, parts, always=len(directions))

    def at(self, point: Tensor, *, keep: bool = False) -> UNet:
        """The UNet at ``point`` (d,), as :func:`~loratools.base.sampling.sample.denoise` calls it.

        Args:
            keep: keep the activations of every call for the backward pass; else they are computed again in it, which
                takes a third longer, and the memory of many sampler steps is that of one.
        """
        names = tuple(self._weights)
        values = [own.at(point) for own in self._weights.values()]
        numbers = torch.cat([point, point.new_ones(1)])

        def call(
            latents: Tensor, time: Tensor, hidden: Tensor, added: AddedConditions, numbers: Tensor, *weights: Tensor
        ) -> Tensor:
            options = {"encoder_hidden_states": hidden, "added_cond_kwargs": added, "return_dict": False}
            parameters = dict(zip(names, weights, strict=True))
            with self._beside(numbers):
                result: Tensor = functional_call(self._base.unet, parameters, (latents, time), options)[0]
            return result

        def run(latents: Tensor, time: Tensor, hidden: Tensor, added: AddedConditions) -> Tensor:
            if keep:
                return call(latents, time, hidden, added, numbers, *values)
            result: Tensor = checkpoint(call, latents, time, hidden, added, numbers, *values, use_reentrant=False)
            return result

        return run

    @contextlib.contextmanager
    def _beside(self, numbers: Tensor) -> Iterator[None]:
        """Every module with factors adds what they make of its input; only in this context."""
        with contextlib.ExitStack() as hooks:
            for own in self._factors:
                handle = own.module.register_forward_hook(partial(_add, own, numbers))
                hooks.callback(handle.remove)
            yield


def _add(factors: _Factors, numbers: Tensor, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """A forward hook."""
    return output + factors.added(inputs[0], numbers)


def _stays(module: nn.Module | None, rank: int) -> TypeGuard[nn.Linear | nn.Conv2d]:
    """Whether a module's weight stays and factors of ``rank`` are applied beside it.

    They are multiplied three times for each position (drawn, computed again, and backwards); a weight that is formed
    has a gradient instead, one product of its own size. A small weight is formed whatever the rank: it takes little
    memory, and what is added to each output costs more than that product.
    """
    if not isinstance(module, nn.Linear | nn.Conv2d) or (isinstance(module, nn.Conv2d) and module.groups != 1):
        return False
    rows, columns = module.weight.shape[0], module.weight[0].numel()
    return rows * columns >= _LARGE and 3 * rank * (rows + columns) < rows * columns


def _formed(live: Tensor, parts: Sequence[tuple[int, Delta]], always: int) -> _Weight:
    """A parameter that is formed; ``always`` is the index of what is added whatever the point."""
    start, moving = live, list[tuple[int, Tensor]]()
    for index, delta in parts:
        difference = delta.dense(torch.float32).reshape(live.shape).to(live.device)
        if index == always:
            start = (live.float() + difference).to(live.dtype)
        else:
            moving.append((index, difference.to(_kept(live.dtype))))
    return _Weight(start, tuple(moving))


def _kept(dtype: torch.dtype) -> torch.dtype:
    """What differences are kept in: the base's own type where that is small."""
    return dtype if dtype.itemsize <= 2 else torch.float32


def _parameter_name(name: str, modules: Mapping[str, nn.Module]) -> str:
    """A UNet's own name of the parameter that a difference called ``name`` goes to."""
    short = name.removeprefix("unet.")
    if isinstance(getattr(modules.get(name), "weight", None), nn.Parameter):
        return f"{short}.weight"
    stem, _, kind = short.rpartition(".")
    if kind in ("weight", "bias") and f"unet.{stem}" in modules:
        return short
    raise BaseModelError(f"the base lacks the adapter's module {name}; it was made for another base family")
