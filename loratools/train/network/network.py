"""The network of a run: branches beside the modules of its base, put in their places while it is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.architectures.names import kohya_name
from loratools.adapter.files.passthrough import Held
from loratools.base.model import Base
from loratools.base.patching.patch import live_modules
from loratools.errors import NonFiniteError, TrainingError
from loratools.train import seeds
from loratools.train.config.network import NetworkConfig
from loratools.train.network.init_weights import Start
from loratools.train.network.layers import (
    Branch,
    DoraConv,
    DoraLinear,
    DroppedConv,
    DroppedLinear,
    Lora,
    LoraConv,
    LoraLinear,
    ModuleDrop,
    RankDrop,
    limit_together,
)
from loratools.train.network.lycoris import LohaConv, LohaLinear, Lokr, LokrConv, LokrLinear
from loratools.train.network.targets import Planned, planned

__all__ = ["LoraConv", "LoraLinear", "Network"]


class Network:
    """The branches of one run, by canonical module name.

    Args:
        base: a loaded base.
        rank, alpha: of every module for which ``options`` have nothing else; alpha None is the module's rank.
        seed: of the initial ``down`` factors, module by module, so that a name's start does not depend on the others.
        unet, text: which parts to train.
        options: everything else about the network.
    Raises:
        TrainingError: if there is nothing to train, or the file to start from does not fit.
        BlockError: for an unknown block in ``options``.
    """

    def __init__(
        self,
        base: Base,
        rank: int,
        alpha: float | None,
        seed: int,
        *,
        unet: bool = True,
        text: bool = True,
        options: NetworkConfig | None = None,
    ) -> None:
        options = options or NetworkConfig()
        self._family, self._live, self._parents = base.family, live_modules(base), _parents(base)
        components = [*(["unet"] if unet else []), *(["text_encoder", "text_encoder_2"] if text else [])]
        self.start = None if options.network_weights is None else Start(options.network_weights, base.family)
        self.plan = planned(base.family, self._live, rank, alpha, options, components, self.start)
        if not any(plan.trained for plan in self.plan.values()):
            raise TrainingError(f"the base {base.name} has no module that this LoRA of {base.family} would train")
        self.branches: dict[str, Branch] = {
            name: _branch(self._live[name], name, plan, options, seed) for name, plan in self.plan.items()
        }
        if self.start is not None:
            for name in self.start.names:
                self.start.put(name, self.branches[name])

    @property
    def sizes(self) -> dict[str, int]:
        """Parameters of each module."""
        return {
            name: sum(factor.numel() for factor in branch.factors().values()) for name, branch in self.branches.items()
        }

    @property
    def alphas(self) -> dict[str, float]:
        """Each module's alpha, as it is written."""
        return {name: branch.alpha for name, branch in self.branches.items()}

    def parameters(self, component: str) -> list[nn.Parameter]:
        """Every factor of a component that is trained (``unet``, ``text_encoder``), in the files' order."""
        chosen = [
            branch for name, branch in self.branches.items() if name.startswith(component) and self.plan[name].trained
        ]
        return [factor for branch in chosen for factor in branch.factors().values()]

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Run the block with the branches in place of the base's modules; afterwards the base is as it was."""
        try:
            for name, branch in self.branches.items():
                self._place(name, branch)
            yield
        finally:
            for name in self.branches:
                self._place(name, self._live[name])

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside the block nothing is dropped: for samples and validation."""
        before = {branch: branch.training for branch in self.branches.values()}
        try:
            for branch in before:
                branch.eval()
            yield
        finally:
            for branch, training in before.items():
                branch.train(training)

    def deltas(self) -> dict[str, LowRank]:
        """What each branch of two factors adds to its weight (of a DoRA: to its direction); copies on the CPU."""
        found = {name: branch.delta() for name, branch in self.branches.items()}
        return {name: delta for name, delta in found.items() if delta is not None}

    def extras(self, dtype: torch.dtype) -> dict[str, Held]:
        """What a file holds beside those factors, by key: DoRA's magnitudes, and LoHa's and LoKr's factors.

        In ``dtype``; but magnitudes in float32, since they change by less than half precision can tell.

        Raises:
            NonFiniteError: if a number does not fit into ``dtype``.
        """
        found = {}
        for name, branch in self.branches.items():
            for suffix, tensor in branch.extras().items():
                held = tensor if suffix == "dora_scale" else tensor.to(dtype)
                if not held.isfinite().all():
                    raise NonFiniteError(f"module {name} does not fit into {dtype}; write with another --dtype")
                found[f"{kohya_name(name, self._family)}.{suffix}"] = Held(held)
        return found

    def state(self) -> dict[str, Tensor]:
        """The factors as they are, for resuming."""
        return {
            f"{name}.{side}": factor.detach().cpu().clone()
            for name, branch in self.branches.items()
            for side, factor in branch.factors().items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` gave."""
        with torch.no_grad():
            for name, branch in self.branches.items():
                for side, factor in branch.factors().items():
                    factor.copy_(state[f"{name}.{side}"])

    def finite(self) -> bool:
        """Whether every factor is a number; one synchronisation with the device."""
        factors = [factor for branch in self.branches.values() for factor in branch.factors().values()]
        return bool(torch.stack([factor.detach().isfinite().all() for factor in factors]).all())

    def limit_norms(self, most: float) -> None:
        """Shrink every difference that is trained to the Frobenius norm ``most``; reads nothing on the host."""
        trained = [branch for name, branch in self.branches.items() if self.plan[name].trained]
        limit_together([branch for branch in trained if isinstance(branch, Lora)], most)
        for branch in trained:
            if not isinstance(branch, Lora):
                branch.limit_norm(most)

    def _place(self, name: str, module: nn.Module) -> None:
        parent, attribute = self._parents[id(self._live[name])]
        parent._modules[attribute] = module


_KINDS: dict[str, tuple[type[Branch], type[Branch]]] = {  # beside linear modules, and beside convolutions
    "lora": (LoraLinear, LoraConv),
    "dropped": (DroppedLinear, DroppedConv),
    "dora": (DoraLinear, DoraConv),
    "loha": (LohaLinear, LohaConv),
    "lokr": (LokrLinear, LokrConv),
}


def _branch(module: nn.Module, name: str, plan: Planned, options: NetworkConfig, seed: int) -> Branch:
    generator, wide = seeds.generator(seed, "network", name), isinstance(module, nn.Conv2d)
    if not (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)):
        raise TrainingError(
            f"{name} of this base is a {type(module).__name__}; only linear modules and convolutions "
            "of one group can be trained"
        )
    drop = _drop(options, 1 if wide else -1)
    plain = "dora" if options.dora else "lora" if drop is None else "dropped"
    kind = _KINDS[plain if options.network_type == "lora" else options.network_type][wide]
    if issubclass(kind, Lokr):
        branch: Branch = kind(
            module, plan.rank, plan.alpha, generator, stabilised=options.rslora, drop=drop, factor=options.lokr_factor
        )
    else:
        branch = kind(module, plan.rank, plan.alpha, generator, stabilised=options.rslora, drop=drop)
    return branch if plan.trained else branch.requires_grad_(False).eval()


def _drop(options: NetworkConfig, axis: int) -> nn.Module | None:
    drops: list[nn.Module] = [nn.Dropout(options.network_dropout)] if options.network_dropout else []
    drops += [RankDrop(options.rank_dropout, axis)] if options.rank_dropout else []
    drops += [ModuleDrop(options.module_dropout)] if options.module_dropout else []
    return nn.Sequential(*drops) if drops else None


def _parents(base: Base) -> dict[int, tuple[nn.Module, str]]:
    found: dict[int, tuple[nn.Module, str]] = {}
    for component in base.components().values():
        for parent in component.modules():
            for attribute, child in parent.named_children():
                found[id(child)] = (parent, attribute)
    return found
