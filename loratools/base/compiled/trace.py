"""A module as a function of its tensors: parameters, branches' factors and inputs, none of them a constant.

So blocks of one structure and size are one function, whichever of the UNet's many they are and whatever adapters hang
on them, and what was compiled of it can be kept on disk.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from loratools.base.patching.branches import Branch

_FORMAT = "2"  # of what is kept; another number makes everything kept unknown
_PLAIN = (bool, int, float, str, tuple, type(None), torch.dtype)
_BLOCK = "block."


@dataclass(frozen=True, eq=False)
class Arguments:
    """A call's arguments: its tensors, everything else as text, and how they are put together."""

    tensors: tuple[Tensor, ...]
    constants: tuple[Any, ...]  # None where a tensor stands
    spec: Any

    @classmethod
    def of(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """Those of ``f(*args, **kwargs)``."""
        leaves, spec = _pytree.tree_flatten((tuple(args), dict(kwargs)))
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        return cls(tensors, tuple(None if isinstance(leaf, Tensor) else (leaf,) for leaf in leaves), spec)

    def filled(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same call with other tensors."""
        waiting = iter(tensors)
        leaves = [next(waiting) if own is None else own[0] for own in self.constants]
        args, kwargs = _pytree.tree_unflatten(leaves, self.spec)
        return args, kwargs

    @property
    def text(self) -> str:
        """Equal for calls that differ in their tensors' numbers alone."""
        return f"{self.spec} {self.constants} {_layouts(self.tensors)}"


class BlockFunction:
    """A module's forward, its class's own, as a function of tensors alone.

    Args:
        block: whose forward returns a tensor, or a tuple of one.
        structure: what :func:`structure` gives for it.
    """

    def __init__(self, block: nn.Module, structure: str) -> None:
        self.block, self._structure = block, structure
        self.branches = tuple(branch for _, branch in _branches(block))
        self._names = [name for name, _ in block.named_parameters()]

    @property
    def tensors(self) -> list[Tensor]:
        """Its parameters and its branches' factors, as they are now."""
        factors = [getattr(branch, name) for branch in self.branches for name in branch.factors]
        return [*self.block.parameters(), *factors]

    def key(self, arguments: Arguments) -> str:
        """Equal for calls that one compiled function serves, on one kind of machine and with one version of torch."""
        kinds = [f"{name} {type(branch).__qualname__}" for name, branch in _branches(self.block)]
        parts = [_FORMAT, *_machine(arguments.tensors[0].device), self._structure, *kinds]
        parts += [_layouts(self.tensors), arguments.text]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def __call__(self, arguments: Arguments) -> Tensor:
        """The forward, run by torch."""
        args, kwargs = arguments.filled(arguments.tensors)
        return _only(type(self.block).forward(self.block, *args, **kwargs))

    def trace(self, arguments: Arguments) -> torch.fx.GraphModule:
        """The forward as a graph of (*tensors, *arguments.tensors) -> (output,)."""
        from torch.fx.experimental.proxy_tensor import make_fx

        count = len(self.tensors)

        def function(*given: Tensor) -> tuple[Tensor]:
            args, kwargs = arguments.filled(given[count:])
            return (self._run_on(given[:count], args, kwargs),)

        with torch.no_grad():
            return make_fx(function, tracing_mode="fake")(*self.tensors, *arguments.tensors)

    def _run_on(self, tensors: Sequence[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The forward with ``tensors`` in the place of its own."""
        state = {_BLOCK + name: value for name, value in zip(self._names, tensors, strict=False)}
        factors = iter(tensors[len(self._names) :])
        places = [(branch, name, getattr(branch, name)) for branch in self.branches for name in branch.factors]
        try:
            for branch, name, _ in places:
                setattr(branch, name, next(factors))
            return _only(torch.func.functional_call(_Plain(self.block), state, args, kwargs))
        finally:
            for branch, name, value in places:
                setattr(branch, name, value)


class _Plain(nn.Module):
    """Runs a block by its class's own forward, whatever forward the block has."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.train(block.training)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's result."""
        return type(self.block).forward(self.block, *args, **kwargs)


def _only(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    return result if isinstance(result, Tensor) else result[0]


def _branches(block: nn.Module) -> Iterator[tuple[str, Branch]]:
    for name, module in block.named_modules():
        forward: Callable[..., Any] | None = vars(module).get("forward")
        if isinstance(forward, Branch):
            yield name, forward


def structure(block: nn.Module) -> str:
    """What a module computes apart from its tensors and branches: its modules' classes and plain settings."""
    lines = []
    for name, module in block.named_modules():
        plain = sorted((key, own) for key, own in vars(module).items() if isinstance(own, _PLAIN))
        processor = type(getattr(module, "processor", None)).__qualname__
        lines.append(f"{name} {type(module).__module__}.{type(module).__qualname__} {plain} {processor}")
    return "\n".join(lines)


def _layouts(tensors: Sequence[Tensor]) -> str:
    return ";".join(f"{tuple(own.shape)} {own.stride()} {own.dtype} {own.device.type}" for own in tensors)


@cache
def _machine(device: torch.device) -> tuple[str, ...]:
    """The software and the device that compiled code is made for."""
    import diffusers

    if device.type == "cuda":
        name, (major, minor) = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        kind = f"{name} {major}.{minor} {torch.version.cuda or torch.version.hip}"
    else:
        kind = f"{device.type} {platform.processor()}"
    return (
        str(torch.__version__),
        str(diffusers.__version__),
        f"{platform.python_version()} {platform.machine()}",
        f"{torch.get_float32_matmul_precision()} {torch.backends.cudnn.allow_tf32}",
        kind,
    )
