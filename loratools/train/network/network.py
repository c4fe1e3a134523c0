"""The network of a LoRA's run: adapter layers that replace modules of the base while it is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.architectures.names import is_text, kohya_name
from loratools.adapter.files.passthrough import Held
from loratools.base.model import Base
from loratools.base.patching.patch import live_modules
from loratools.errors import NonFiniteError, TrainingError
from loratools.train import seeds
from loratools.train.config.config import TrainConfig
from loratools.train.config.network import NetworkConfig
from loratools.train.network.dora import DoraConv, DoraLinear
from loratools.train.network.init_weights import InitWeights
from loratools.train.network.layers import (
    AdapterLayer,
    Lora,
    LoraConv,
    LoraDropoutConv,
    LoraDropoutLinear,
    LoraLinear,
    ModuleDropout,
    RankDropout,
    limit_norms,
)
from loratools.train.network.lycoris import LohaConv, LohaLinear, Lokr, LokrConv, LokrLinear
from loratools.train.network.targets import Target, find_targets
from loratools.train.network.trained_weights import TrainedParameter, TrainedWeights

__all__ = ["LoraConv", "LoraLinear", "Network"]


class Network(TrainedWeights):
    """The adapter layers of one run, by canonical module name.

    Args:
        base: a loaded base.
        rank, alpha: of every module for which ``options`` have nothing else; alpha None means the module's rank.
        seed: of the initial ``down`` factors; each module has a generator of its own, so that its initial values do not
            depend on which others there are.
        unet, text: which parts to train; ``text_2`` is SDXL's second encoder, which is like the first if None.
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
        text_2: bool | None = None,
        options: NetworkConfig | None = None,
    ) -> None:
        options = options or NetworkConfig()
        self._family, self._live, self._parents = base.family, live_modules(base), _parents(base)
        wanted = {"unet": unet, "text_encoder": text, "text_encoder_2": text if text_2 is None else text_2}
        components = [component for component, trained in wanted.items() if trained]
        self.init_weights = (
            None if options.network_weights is None else InitWeights(options.network_weights, base.family)
        )
        self.targets = find_targets(base.family, self._live, rank, alpha, options, components, self.init_weights)
        if not any(target.trained for target in self.targets.values()):
            raise TrainingError(f"the base {base.name} has no module that this LoRA of {base.family} would train")
        self.layers: dict[str, AdapterLayer] = {
            name: _layer(self._live[name], name, target, options, seed) for name, target in self.targets.items()
        }
        if self.init_weights is not None:
            for name in self.init_weights.names:
                self.init_weights.load_into(name, self.layers[name])

    def parameters(self, config: TrainConfig) -> Iterator[TrainedParameter]:
        """Every trained factor, with its block's factor on the rate, times LoRA+'s for ``up``."""
        for name, layer in self.layers.items():
            target, component = self.targets[name], name.partition(".")[0]
            if target.trained:
                plus = config.plus_ratio(component)
                for side, parameter in layer.factors().items():
                    yield TrainedParameter(parameter, component, target.rate * (plus if side == "up" else 1.0))

    @property
    def sizes(self) -> dict[str, int]:
        """Parameters of each module."""
        return {name: sum(factor.numel() for factor in layer.factors().values()) for name, layer in self.layers.items()}

    @property
    def alphas(self) -> dict[str, float]:
        """Each module's alpha, as it is written."""
        return {name: layer.alpha for name, layer in self.layers.items()}

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Inside the block the layers replace the base's modules; afterwards the base is as it was."""
        try:
            for name, layer in self.layers.items():
                self._place(name, layer)
            yield
        finally:
            for name in self.layers:
                self._place(name, self._live[name])

    @contextlib.contextmanager
    def without_dropout(self) -> Iterator[None]:
        """Inside the block no dropout is applied: for samples and validation."""
        before = {layer: layer.training for layer in self.layers.values()}
        try:
            for layer in before:
                layer.eval()
            yield
        finally:
            for layer, training in before.items():
                layer.train(training)

    @contextlib.contextmanager
    def scaled(self, te: float, unet: float) -> Iterator[None]:
        """Inside the block the difference of every layer counts ``te`` times in text encoders, and ``unet`` times in
        the UNet: W x + w (layer(x) - W x), of any kind of layer."""
        weights = {name: te if is_text(name) else unet for name in self.layers}
        hooks = [
            layer.register_forward_hook(_ScaledDifference(weights[name]))
            for name, layer in self.layers.items()
            if weights[name] != 1
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def deltas(self) -> dict[str, LowRank]:
        """What each layer of two factors adds to its weight (for DoRA: to its direction); copies on the CPU."""
        deltas = {name: layer.delta() for name, layer in self.layers.items()}
        return {name: delta for name, delta in deltas.items() if delta is not None}

    def extras(self, dtype: torch.dtype) -> dict[str, Held]:
        """What a file holds beside those factors, by key: DoRA's magnitudes, and LoHa's and LoKr's factors.

        They are in ``dtype``, but magnitudes in float32, since their changes are below half precision.

        Raises:
            NonFiniteError: if a number does not fit into ``dtype``.
        """
        tensors = {}
        for name, layer in self.layers.items():
            for suffix, tensor in layer.extras().items():
                held = tensor if suffix == "dora_scale" else tensor.to(dtype)
                if not held.isfinite().all():
                    raise NonFiniteError(f"module {name} does not fit into {dtype}; write with another `dtype=`")
                tensors[f"{kohya_name(name, self._family)}.{suffix}"] = Held(held)
        return tensors

    def state(self) -> dict[str, Tensor]:
        """The factors as they are, for resuming."""
        return {
            f"{name}.{side}": factor.detach().cpu().clone()
            for name, layer in self.layers.items()
            for side, factor in layer.factors().items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set the factors to what :meth:`state` returned."""
        with torch.no_grad():
            for name, layer in self.layers.items():
                for side, factor in layer.factors().items():
                    factor.copy_(state[f"{name}.{side}"])

    def weights_changed(self) -> None:
        """Nothing: the layers compute with their factors themselves."""

    def tensors(self) -> list[Tensor]:
        """Every factor, trained or kept."""
        return [factor for layer in self.layers.values() for factor in layer.factors().values()]

    @property
    def inputs(self) -> list[dict[str, str]]:
        """The file of ``network_weights``, if there is one."""
        return [self.init_weights.input] if self.init_weights else []

    @property
    def ancestors(self) -> Mapping[str, Mapping[str, Any]]:
        """How that file was made."""
        return self.init_weights.ancestors if self.init_weights else {}

    def limit_norms(self, most: float) -> None:
        """Scale every trained difference down to the Frobenius norm ``most``; reads nothing on the host."""
        trained = [layer for name, layer in self.layers.items() if self.targets[name].trained]
        limit_norms([layer for layer in trained if isinstance(layer, Lora)], most)
        for layer in trained:
            if not isinstance(layer, Lora):
                layer.limit_norm(most)

    def _place(self, name: str, module: nn.Module) -> None:
        parent, attribute = self._parents[id(self._live[name])]
        parent._modules[attribute] = module


class _ScaledDifference:
    """A forward hook of a layer: what the layer adds to its frozen module's output, ``weight`` times."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not isinstance(layer, AdapterLayer):
            raise TypeError(f"a {type(layer).__name__} has no frozen module")
        plain: Tensor = layer.frozen(*inputs)
        return torch.lerp(plain, output, self._weight)


_KINDS: dict[str, tuple[type[AdapterLayer], type[AdapterLayer]]] = {  # for linear modules, and for convolutions
    "lora": (LoraLinear, LoraConv),
    "dropout": (LoraDropoutLinear, LoraDropoutConv),
    "dora": (DoraLinear, DoraConv),
    "loha": (LohaLinear, LohaConv),
    "lokr": (LokrLinear, LokrConv),
}


def _layer(module: nn.Module, name: str, target: Target, options: NetworkConfig, seed: int) -> AdapterLayer:
    generator, wide = seeds.generator(seed, "network", name), isinstance(module, nn.Conv2d)
    if not (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)):
        raise TrainingError(
            f"{name} of this base is a {type(module).__name__}; only linear modules and convolutions "
            "of one group can be trained"
        )
    dropout = _dropout(options, 1 if wide else -1)
    plain = "dora" if options.dora else "lora" if dropout is None else "dropout"
    kind = _KINDS[plain if options.network_type == "lora" else options.network_type][wide]
    if issubclass(kind, Lokr):
        layer: AdapterLayer = kind(
            module,
            target.rank,
            target.alpha,
            generator,
            stabilised=options.rslora,
            dropout=dropout,
            factor=options.lokr_factor,
        )
    else:
        layer = kind(module, target.rank, target.alpha, generator, stabilised=options.rslora, dropout=dropout)
    return layer if target.trained else layer.requires_grad_(False).eval()


def _dropout(options: NetworkConfig, axis: int) -> nn.Module | None:
    drops: list[nn.Module] = [nn.Dropout(options.network_dropout)] if options.network_dropout else []
    drops += [RankDropout(options.rank_dropout, axis)] if options.rank_dropout else []
    drops += [ModuleDropout(options.module_dropout)] if options.module_dropout else []
    return nn.Sequential(*drops) if drops else None


def _parents(base: Base) -> dict[int, tuple[nn.Module, str]]:
    parents: dict[int, tuple[nn.Module, str]] = {}
    for component in base.components().values():
        for parent in component.modules():
            for attribute, child in parent.named_children():
                parents[id(child)] = (parent, attribute)
    return parents
