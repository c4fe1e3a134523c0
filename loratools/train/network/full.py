"""Training all weights of a base: its UNet, its text encoders, or both (full fine-tuning, DreamBooth)."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from loratools.base.model import Base
from loratools.base.text_model import canonical
from loratools.errors import TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.network.block_rates import BlockRates
from loratools.train.network.master import Master, Masters
from loratools.train.network.start_weights import StartWeights
from loratools.train.network.trained_weights import TrainedParameter, TrainedWeights


class FullWeights(TrainedWeights):
    """All weights of the components that have a learning rate, by canonical parameter name, text encoders first.

    A parameter that a step cannot reach (layers of a text encoder behind the one that is read) and one of a block whose
    rate is 0 stay as they are.

    Args:
        base: on the device, in the type that is computed in.
        exact: the base's weights in float32, see :func:`exact_weights`; not used with ``weights: bf16``.
    Raises:
        TrainingError: if nothing is left to train.
        BlockError: for a block that the base's family has not.

    Attributes:
        masters: the weights, by canonical parameter name.
        start: the weights that training begins with.
    """

    def __init__(self, base: Base, config: TrainConfig, exact: Mapping[str, Tensor]) -> None:
        self.family = base.family
        self._factors = trained_factors(base, config)
        live = dict(named_parameters(base))
        kept = dict.fromkeys(live) if config.weights == "bf16" else exact
        masters = {name: Master(live[name], kept[name]) for name in self._factors}
        if not masters:
            raise TrainingError(
                f"no weight of {base.name} has a learning rate above 0; raise unet_lr, te_lr or block_lr"
            )
        self.start = StartWeights(config.base, narrow=config.weights == "bf16", offline=config.offline)
        self.masters = Masters(masters)
        self._mean: Callable[[Tensor], Tensor] | None = None

    def parameters(self, config: TrainConfig) -> Iterator[TrainedParameter]:
        for name, master in self.masters.items():
            yield TrainedParameter(master.leaf, name.partition(".")[0], self._factors[name])

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that are trained, by canonical name."""
        return tuple(self.masters)

    @property
    def sizes(self) -> dict[str, int]:
        sizes: Counter[str] = Counter()
        for name, master in self.masters.items():
            sizes[name.rpartition(".")[0]] += master.live.numel()
        return dict(sizes)

    def held(self, parameter: nn.Parameter) -> Tensor:
        return self.masters.of(parameter).held

    def weights_changed(self) -> None:
        self.masters.weights_changed()

    def attached(self) -> contextlib.AbstractContextManager[None]:
        return self.masters.attached()

    def without_dropout(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()  # there is none

    @contextlib.contextmanager
    def scaled(self, te: float, unet: float) -> Iterator[None]:
        shares = {name: unet if name.startswith("unet.") else te for name in self.masters}
        changed = {name: self.masters[name].live for name, share in shares.items() if share != 1}
        kept = {name: live.detach().clone() for name, live in changed.items()}
        try:
            with torch.no_grad():
                for name, live in changed.items():
                    start = self.start[name].reshape(live.shape).to(live.device)
                    live.copy_(torch.lerp(start, live.float(), shares[name]))
            yield
        finally:
            with torch.no_grad():
                for name, live in changed.items():
                    live.copy_(kept[name])

    @contextlib.contextmanager
    def averaged(self, mean: Callable[[Tensor], Tensor]) -> Iterator[None]:
        self._mean = mean
        try:
            yield
        finally:
            self._mean = None

    def difference(self, name: str) -> Tensor:
        """What training has made of a parameter, less what it began with; float32, on the CPU.

        Of an average it is the average's own: rounded to bfloat16 all that is below half of a last place would be lost.
        """
        held = self.masters[name].held
        weight = (held if self._mean is None else self._mean(held)).detach().float().cpu()
        return weight - self.start[name].reshape(weight.shape)

    def state(self) -> dict[str, Tensor]:
        return {name: master.held.detach().cpu().clone() for name, master in self.masters.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, master in self.masters.items():
            master.held.copy_(state[name])
        self.weights_changed()

    def tensors(self) -> list[Tensor]:
        return [master.held for master in self.masters.values()]


def trained_factors(base: Base, config: TrainConfig) -> dict[str, float]:
    """The parameters that are trained, text encoders first, each with the factor on its learning rate.

    Raises:
        BlockError: for a block that the base's family has not.
    """
    rates, unread, learned = (
        BlockRates(base.family, config.block_lr),
        unread_parameters(base, config.clip_skip),
        learned_components(config),
    )
    names = [name for name, _ in named_parameters(base) if name.partition(".")[0] in learned and name not in unread]
    factors = {name: rates.factor(name) for name in sorted(names, key=lambda name: name.startswith("unet."))}
    return {name: factor for name, factor in factors.items() if factor}


def named_parameters(base: Base) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter of the UNet and the text encoders by its canonical name."""
    for component, model in base.components().items():
        for name, parameter in model.named_parameters():
            yield f"{component}.{canonical(name) if component.startswith('text_encoder') else name}", parameter


def exact_weights(base: Base) -> dict[str, Tensor]:
    """The base's weights as they are before they are cast to what is computed in; copies nothing.

    What is kept of them afterwards is what :class:`FullWeights` makes masters of.
    """
    return {name: parameter.data for name, parameter in named_parameters(base)}


def learned_components(config: TrainConfig) -> set[str]:
    """``unet``, ``text_encoder`` and ``text_encoder_2``, as far as they have a learning rate above 0."""
    return {component for component, rate in config.component_rates().items() if rate > 0}


def unread_parameters(base: Base, clip_skip: int) -> set[str]:
    """The text encoders' parameters that no prediction depends on, since hidden states before them are read.

    SDXL reads the second-to-last states of both encoders, without the last norm, and the second one's projection, which
    depends on all layers. SD1 and SD2 read the ``clip_skip``-th last ones, with the last norm.
    """
    skipped = max(clip_skip, 2) - 1 if base.family == "sdxl" else clip_skip - 1
    encoder = base.text_encoders[0]  # of a second one, SDXL's, everything is read
    layers = encoder.config.num_hidden_layers
    stems = [f"text_encoder.text_model.encoder.layers.{layer}." for layer in range(layers - skipped, layers)]
    if base.family == "sdxl":
        stems.append("text_encoder.text_model.final_layer_norm.")
    return {name for name, _ in named_parameters(base) if name.startswith(tuple(stems))}
