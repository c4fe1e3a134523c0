"""Learning rates and optimisers. A rate is a pure function of the step, so resuming needs no scheduler state."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from loratools.errors import TrainingError, did_you_mean

_NO_GRADIENT_STEP = frozenset({"Optimizer", "LBFGS", "SparseAdam", "Muon"})  # need a closure, sparse or 2-D only


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of warm-up: ``warmup`` itself from 1 on, a share of ``total`` below."""
    return round(warmup * total) if warmup < 1 else round(warmup)


def rate_factor(name: str, step: int, total: int, warmup: int, *, cycles: int = 1, power: float = 1.0) -> float:
    """The factor on the learning rate at ``step`` (0 is the first) of ``total``, as diffusers' schedules define it.

    The rate rises linearly over the first ``warmup`` steps from 0, then follows ``name``; plain ``constant`` ignores
    the warm-up, as there.
    """
    if name == "constant":
        return 1.0
    if step < warmup:
        return step / max(warmup, 1)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    match name:
        case "constant_with_warmup":
            return 1.0
        case "cosine" | "cosine_with_warmup":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case "cosine_with_restarts":
            return 0.0 if progress >= 1 else 0.5 * (1 + math.cos(math.pi * (cycles * progress % 1)))
        case "linear":
            return 1 - progress
        case "polynomial":
            return float((1 - progress) ** power)
    raise TrainingError(f"there is no learning-rate schedule '{name}'")


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """The optimiser ``name``: one of torch.optim's in any case, or a dotted path such as ``package.module.Class``.

    Raises:
        TrainingError: if there is none; it lists those that there are.
    """
    available = {key.lower(): key for key in _torch_optimizers()}
    if name.lower() in available:
        return _torch_optimizers()[available[name.lower()]]
    if "." not in name:
        hint = did_you_mean(name, available.values())
        listed = ", ".join(available.values())
        raise TrainingError(
            f"there is no optimizer '{name}' here{hint}; there are {listed}, and any class by its dotted path, such as "
            "bitsandbytes.optim.AdamW8bit"
        )
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise TrainingError(f"the optimizer '{name}' cannot be imported ({error}); install its package") from error
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise TrainingError(f"'{name}' is not an optimizer; name a subclass of torch.optim.Optimizer")
    return found


def build_optimizer(name: str, arguments: Mapping[str, Any], groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    """The optimiser over parameter ``groups``, each with its ``lr``; torch's own fused kernels where they exist.

    Raises:
        TrainingError: for an unknown optimiser, or arguments that it does not take.
    """
    kind = optimizer_class(name)
    valid = inspect.signature(kind).parameters
    free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in valid.values())
    for key in arguments:
        if key not in valid and not free:
            raise TrainingError(f"{kind.__name__} takes no argument '{key}'{did_you_mean(key, valid)}; "
                                f"it takes {', '.join(list(valid)[1:])}")  # fmt: skip
    fast = {"fused": True} if kind is torch.optim.AdamW and not {"foreach", "capturable"} & set(arguments) else {}
    try:
        return kind(list(groups), **{**fast, **arguments})
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{kind.__name__} refuses its settings ({error}); correct optimizer_args") from error


def _torch_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    return {
        name: kind
        for name, kind in sorted(vars(torch.optim).items())
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in _NO_GRADIENT_STEP
    }
