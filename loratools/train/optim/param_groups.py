"""The optimiser's parameter groups: one for every learning rate that the trained weights have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import nn

from loratools.errors import TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.network.trained_weights import TrainedWeights


def parameter_groups(network: TrainedWeights, config: TrainConfig) -> list[dict[str, Any]]:
    """Groups with their ``params``, ``lr`` and ``base_lr``, text encoders first.

    ``part`` is ``unet`` or ``text_encoder``. A group's ``name`` is its part, for the group at the part's own rate (or
    the first one, where none is), and the part with the factor on its rate for the others, such as ``unet x 16``.

    Raises:
        TrainingError: if only text encoders are trained and are to stay as they are from some step on.
    """
    unet_lr, te_lr = config.learned_rates()
    groups = []
    for part, rate in (("text_encoder", te_lr), ("unet", unet_lr)):
        by_factor: dict[float, list[nn.Parameter]] = defaultdict(list)
        for factor, parameter in _factors(network, config, part, rate) if rate else ():
            by_factor[factor].append(parameter)
        plain = 1.0 if 1.0 in by_factor else next(iter(by_factor), 1.0)
        for factor, parameters in by_factor.items():
            name = part if factor == plain else f"{part} x {factor:g}"
            groups.append(
                {"params": parameters, "lr": rate * factor, "base_lr": rate * factor, "name": name, "part": part}
            )
    if config.stop_text_encoder_training is not None and not any(group["part"] == "unet" for group in groups):
        raise TrainingError(
            "the text encoder alone is trained, and stop_text_encoder_training would leave nothing to train after it; "
            "leave that out, or train the UNet too (unet_lr, block_lr)"
        )
    return groups


def _factors(
    network: TrainedWeights, config: TrainConfig, part: str, rate: float
) -> Iterator[tuple[float, nn.Parameter]]:
    """Every trained parameter of a part, with the factor on the part's rate: its own, times its text encoder's."""
    rates = config.component_rates()
    for trained in network.parameters(config):
        if trained.component.startswith(part):
            own = rates[trained.component]
            yield trained.factor * (1.0 if own == rate else own / rate), trained.parameter
