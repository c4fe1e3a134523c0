"""The trainable branches: ``y = W x + alpha / rank * up(down x)`` beside every module that sd-scripts trains."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.adapter.lowrank import LowRank
from loratools.adapter.names import lora_targets
from loratools.base.model import Base
from loratools.base.patch import live_modules
from loratools.errors import TrainingError
from loratools.train import seeds


class LoraLinear(nn.Module):
    """A frozen linear module with a branch: x (..., in) -> W x + b + scale * up (down x), (..., out).

    ``down`` (r, in) starts uniform (kaiming, a = sqrt 5), ``up`` (out, r) at zero, so that training starts at the base.
    LoRA, Hu et al. 2021, eq. 3. The factors are float32 whatever the base is stored in.
    """

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.frozen = frozen
        self.scale = alpha / rank
        self.shape: tuple[int, ...] = tuple(frozen.weight.shape)
        self.down = _down(rank, self.shape, generator, frozen.weight.device)
        self.up = nn.Parameter(torch.zeros(self.shape[0], rank, device=frozen.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frozen(x)
        inner = functional.linear(x.reshape(-1, self.shape[1]), self.down.to(x.dtype))
        up = self.up.to(inner.dtype)
        return torch.addmm(y.reshape(-1, self.shape[0]), inner, up.mT, alpha=self.scale).reshape(y.shape)


class LoraConv(nn.Module):
    """A frozen 1x1 convolution with a branch; the factors are matrices, as in :class:`LoraLinear`."""

    def __init__(self, frozen: nn.Conv2d, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.frozen = frozen
        self.scale = alpha / rank
        self.shape: tuple[int, ...] = tuple(frozen.weight.shape)
        self.down = _down(rank, self.shape, generator, frozen.weight.device)
        self.up = nn.Parameter(torch.zeros(self.shape[0], rank, device=frozen.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.conv2d(x, self.down.to(x.dtype)[:, :, None, None])
        branch = functional.conv2d(inner, (self.up * self.scale).to(inner.dtype)[:, :, None, None])
        y: Tensor = self.frozen(x)
        return y + branch.to(y.dtype)


class Network:
    """The branches of one run, by canonical module name.

    Args:
        base: a loaded base of a family whose attention modules are linear or 1x1 convolutions.
        rank, alpha: of every module; the branch is scaled by alpha / rank.
        seed: of the initial ``down`` factors, module by module, so that a name's start does not depend on the others.
        unet, text: which parts to train.
    Raises:
        TrainingError: if the base has none of the family's modules.
    """

    def __init__(self, base: Base, rank: int, alpha: float, seed: int, *, unet: bool = True, text: bool = True) -> None:
        self.rank, self.alpha = rank, alpha
        self._live = live_modules(base)
        self._parents = _parents(base)
        wanted = {"unet": unet, "text_encoder": text, "text_encoder_2": text}
        names = [name for name in lora_targets(base.family, self._live) if wanted[name.partition(".")[0]]]
        if not names:
            raise TrainingError(f"the base {base.name} has no module that a LoRA of {base.family} trains")
        names.sort(key=lambda name: (not name.startswith("text"), name))
        self.branches: dict[str, LoraLinear | LoraConv] = {
            name: _branch(self._live[name], name, rank, alpha, seed) for name in names
        }

    def parameters(self, component: str) -> list[nn.Parameter]:
        """``down`` and ``up`` of every branch of ``unet`` or ``text_encoder``, in the files' order."""
        chosen = [branch for name, branch in self.branches.items() if name.startswith(component)]
        return [factor for branch in chosen for factor in (branch.down, branch.up)]

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

    def deltas(self) -> dict[str, LowRank]:
        """What each branch adds to its weight, with the scale folded into ``up``; copies, in float32 on the CPU."""
        return {
            name: LowRank(
                (branch.up.detach() * branch.scale).cpu().clone(), branch.down.detach().cpu().clone(), branch.shape
            )
            for name, branch in self.branches.items()
        }

    def state(self) -> dict[str, Tensor]:
        """The factors as they are, for resuming."""
        return {
            f"{name}.{side}": getattr(branch, side).detach().cpu().clone()
            for name, branch in self.branches.items()
            for side in ("down", "up")
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state` gave."""
        with torch.no_grad():
            for name, branch in self.branches.items():
                branch.down.copy_(state[f"{name}.down"])
                branch.up.copy_(state[f"{name}.up"])

    def finite(self) -> bool:
        """Whether every factor is a number; one synchronisation with the device."""
        factors = [factor for branch in self.branches.values() for factor in (branch.down, branch.up)]
        return bool(torch.stack([factor.detach().isfinite().all() for factor in factors]).all())

    def _place(self, name: str, module: nn.Module) -> None:
        parent, attribute = self._parents[id(self._live[name])]
        parent._modules[attribute] = module


def _branch(module: nn.Module, name: str, rank: int, alpha: float, seed: int) -> LoraLinear | LoraConv:
    generator = seeds.generator(seed, "network", name)
    match module:
        case nn.Linear():
            return LoraLinear(module, rank, alpha, generator)
        case nn.Conv2d() if module.kernel_size == (1, 1) and module.groups == 1:
            return LoraConv(module, rank, alpha, generator)
    raise TrainingError(f"{name} of this base is a {type(module).__name__}; only linear modules and 1x1 convolutions "
                        "can be trained")  # fmt: skip


def _down(rank: int, shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> nn.Parameter:
    bound = 1 / math.sqrt(shape[1])  # kaiming_uniform with a = sqrt 5: gain sqrt(1/3), times sqrt(3 / fan_in)
    start = torch.rand(rank, shape[1], generator=generator) * (2 * bound) - bound
    return nn.Parameter(start.to(device))


def _parents(base: Base) -> dict[int, tuple[nn.Module, str]]:
    found: dict[int, tuple[nn.Module, str]] = {}
    for component in base.components().values():
        for parent in component.modules():
            for attribute, child in parent.named_children():
                found[id(child)] = (parent, attribute)
    return found
