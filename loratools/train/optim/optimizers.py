"""Optimisers by sd-scripts' short names, or any class by its dotted path."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from loratools.errors import TrainingError, UnavailableError, did_you_mean
from loratools.train.config.optimizer import OptimizerConfig

_NO_GRADIENT_STEP = frozenset({"Optimizer", "LBFGS", "SparseAdam", "Muon"})  # need a closure, sparse or 2-D only
_LOWEST_FACTOR = 0.01  # a learning rate below it, given to an optimiser that multiplies it by its own, is a mistake


@dataclass(frozen=True)
class _Named:
    """A short name's class, the package that it comes from, and arguments that the name stands for."""

    path: str
    package: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _bitsandbytes(name: str) -> _Named:
    return _Named(f"bitsandbytes.optim.{name}", "bitsandbytes")


def _free(name: str) -> _Named:
    return _Named(f"schedulefree.{name}", "schedulefree")


_NESTEROV = {"momentum": 0.9, "nesterov": True}
_BY_SHORT_NAME = {
    **{
        name: _bitsandbytes(name)
        for name in (
            "AdamW8bit",
            "PagedAdamW",
            "PagedAdamW8bit",
            "PagedAdamW32bit",
            "Lion8bit",
            "PagedLion8bit",
            "AdEMAMix8bit",
            "PagedAdEMAMix8bit",
        )
    },
    "SGDNesterov": _Named("torch.optim.SGD", "torch", _NESTEROV),
    "SGDNesterov8bit": _Named("bitsandbytes.optim.SGD8bit", "bitsandbytes", _NESTEROV),
    "Lion": _Named("lion_pytorch.Lion", "lion-pytorch"),
    "Prodigy": _Named("prodigyopt.Prodigy", "prodigyopt"),
    "Adafactor": _Named("loratools.train.optim.adafactor.Adafactor", "transformers"),  # torch's by its dotted path
    **{name: _free(name) for name in ("AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree")},
}


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """The optimiser ``name``: a short name or one of torch.optim's, in any case, or a dotted ``package.module.Class``.

    Raises:
        TrainingError: if there is none; it says what there is.
        UnavailableError: if its package is not installed; it says what to install.
    """
    if name.lower().startswith("dadapt"):
        raise TrainingError(
            f"'{name}' is not offered, since D-Adaptation is no longer maintained; use its successor: "
            "optimizer: Prodigy with learning_rate: 1"
        )
    known = {key.lower(): key for key in (*_torch_optimizers(), *_BY_SHORT_NAME)}
    short = known.get(name.lower())
    if short in _BY_SHORT_NAME:
        named = _BY_SHORT_NAME[short]
        return _imported(named.path, f"pip install {named.package}, or loratools[optim]")
    if short is not None:
        return _torch_optimizers()[short]
    if "." not in name:
        hint = did_you_mean(name, known.values())
        listed = ", ".join(sorted(known.values()))
        raise TrainingError(
            f"there is no optimizer '{name}'{hint}; there are {listed}, and any class by its dotted "
            "path, such as bitsandbytes.optim.LAMB8bit"
        )
    return _imported(name, "install its package")


def _class_name(name: str) -> str:
    """What the optimiser's class is called, whether its package is installed or not."""
    paths = {**{key: key for key in _torch_optimizers()}, **{key: named.path for key, named in _BY_SHORT_NAME.items()}}
    by_lower = {key.lower(): path for key, path in paths.items()}
    return by_lower.get(name.lower(), name).rpartition(".")[2]


def build_optimizer(config: OptimizerConfig, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    """The config's optimiser over parameter ``groups``, each with its ``lr``, ready to step.

    torch's own fused kernels are used where they exist.

    Raises:
        TrainingError: for an unknown optimiser, arguments that it does not take, or learning rates that it cannot use.
    """
    kind = optimizer_class(config.optimizer)
    arguments = {**_implied(config.optimizer), **config.optimizer_args}
    check_arguments(config)
    check_rates(config, [group["lr"] for group in groups])
    fast = {"fused": True} if kind is torch.optim.AdamW and not {"foreach", "capturable"} & set(arguments) else {}
    try:
        optimizer = kind(list(groups), **{**_required(kind, config), **fast, **arguments})
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(f"{kind.__name__} refuses its settings ({error}); correct optimizer_args") from error
    if any(group.get("relative_step") for group in optimizer.param_groups):
        warnings.warn(
            "Adafactor chooses its rates itself: learning_rate, unet_lr, te_lr and lr_scheduler have no say, "
            "unless optimizer_args has relative_step: false",
            stacklevel=2,
        )
    if has_modes(optimizer):
        optimizer.train()  # type: ignore[attr-defined]
    return optimizer


@contextlib.contextmanager
def optimizer_modes(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside the block the parameters are those to save and to draw samples with; afterwards as before, bit for bit.

    They differ for schedule-free optimisers (Defazio et al. 2024): the gradient is taken at y, and x is the average
    that counts. For all others nothing happens. A state to resume from is saved outside of the block.
    """
    if not has_modes(optimizer):
        yield
        return
    factors = [factor for group in optimizer.param_groups for factor in group["params"]]
    kept = [factor.detach().clone() for factor in factors]
    optimizer.eval()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined]
        with torch.no_grad():
            for factor, value in zip(factors, kept, strict=True):
                factor.copy_(value)  # going to x and back rounds


def effective_rates(optimizer: torch.optim.Optimizer, rates: Mapping[str, float]) -> dict[str, float]:
    """The rates that a step really uses, by group name: ``rates`` times d for Prodigy, Adafactor's relative steps."""
    return {group["name"]: _effective(optimizer, group, rates[group["name"]]) for group in optimizer.param_groups}


def _effective(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], rate: float) -> float:
    if group.get("relative_step"):
        done = int(optimizer.state.get(group["params"][0], {}).get("step", 0))
        most = 1e-6 * (done + 1) if group["warmup_init"] else 1e-2
        return min(most, 1 / math.sqrt(done + 1))
    d = group.get("d")
    return rate * d if isinstance(d, float) else rate


def _imported(path: str, remedy: str) -> type[torch.optim.Optimizer]:
    module, _, attribute = path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise UnavailableError(f"the optimizer '{path}' cannot be imported ({error}); {remedy}") from error
    except AttributeError as error:
        raise TrainingError(f"the optimizer '{path}' cannot be imported ({error}); {remedy}") from error
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise TrainingError(f"'{path}' is not an optimizer; name a subclass of torch.optim.Optimizer")
    return kind


def _implied(name: str) -> Mapping[str, Any]:
    by_lower = {key.lower(): named.arguments for key, named in _BY_SHORT_NAME.items()}
    return by_lower.get(name.lower(), {})


def _required(kind: type, config: OptimizerConfig) -> dict[str, float]:
    """A learning rate for the few classes that require one although every group has its own."""
    rate = inspect.signature(kind).parameters.get("lr")
    return {"lr": config.learning_rate} if rate is not None and rate.default is inspect.Parameter.empty else {}


def check_arguments(config: OptimizerConfig) -> None:
    """Raise TrainingError for one of the ``optimizer_args`` that the config's optimiser does not take."""
    kind = optimizer_class(config.optimizer)
    valid = inspect.signature(kind).parameters
    free = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in valid.values())
    for key in config.optimizer_args:
        if key not in valid and not free:
            raise TrainingError(
                f"{kind.__name__} takes no argument '{key}'{did_you_mean(key, valid)}; "
                f"it takes {', '.join(list(valid)[1:])}"
            )


def check_rates(config: OptimizerConfig, rates: Sequence[float]) -> None:
    """Raise TrainingError for learning ``rates``, the text encoder's first, that the optimiser cannot use."""
    kind = _class_name(config.optimizer)
    if "ScheduleFree" in kind and not config.lr_scheduler.startswith("constant"):
        raise TrainingError(
            f"{kind} takes the place of a schedule; set lr_scheduler: constant, or constant_with_warmup"
        )
    if kind != "Prodigy":
        return
    if len(set(rates)) > 1:
        raise TrainingError(
            f"Prodigy finds one rate for all, but unet_lr and te_lr are {rates[-1]:g} and {rates[0]:g}"
            "; give one learning_rate, or set one of them to 0"
        )
    if rates and rates[0] < _LOWEST_FACTOR:
        raise TrainingError(
            f"Prodigy multiplies the rate that it finds by {rates[0]:g}, so that nothing would be "
            "learnt; set learning_rate: 1"
        )


def has_modes(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimiser trains other parameters than those to save; see :func:`optimizer_modes`."""
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def _torch_optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    return {
        name: kind
        for name, kind in sorted(vars(torch.optim).items())
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in _NO_GRADIENT_STEP
    }
