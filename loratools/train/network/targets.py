"""Which modules of a base are trained, and at which rank, alpha and share of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from loratools.adapter.architectures.names import is_text, lora_targets
from loratools.blocks.elements import is_rule
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import full_scheme
from loratools.blocks.tokens import split_items
from loratools.blocks.vector import BlockVector
from loratools.errors import TrainingError
from loratools.train.config.network import NetworkConfig
from loratools.train.network.init_weights import Start

BY_BLOCK = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas", "block_lr")


@dataclass(frozen=True)
class Planned:
    """One module's branch. ``rate`` is a factor on the learning rate; a branch that is not ``trained`` is only kept."""

    rank: int
    alpha: float
    rate: float = 1.0
    trained: bool = True


def planned(
    family: str,
    live: Mapping[str, nn.Module],
    rank: int,
    alpha: float | None,
    options: NetworkConfig,
    components: Iterable[str],
    start: Start | None,
) -> dict[str, Planned]:
    """The branches of a network by canonical module name, text encoders first.

    Args:
        live: the base's modules by canonical name.
        rank, alpha: where ``options`` has nothing else to say; alpha None is each module's rank.
        components: the parts that are trained, such as ``unet``.
        start: the file that the network starts from; its modules of other parts are kept as they are.
    Raises:
        TrainingError: for a rank that is no whole number, or a start with modules that this network has not.
        BlockError: for an unknown block.
    """
    sizes, wanted = _Sizes(family, rank, alpha, options), set(components)
    known = lora_targets(family, live, conv=True)
    taken = start if options.dim_from_weights else None
    names = known if taken else lora_targets(family, live, conv=options.trains_convolutions)
    found: dict[str, Planned] = {}
    for name in names:
        own, scale = (taken.rank(name), taken.alpha(name)) if taken else sizes.at(name, live[name])
        rate = sizes.rate(name)
        if own and rate and name.partition(".")[0] in wanted:
            found[name] = Planned(own, scale, rate)
    if start is not None:
        found = {**_kept(start, known), **found}
    return dict(sorted(found.items(), key=lambda item: (not is_text(item[0]), item[0])))


def _kept(start: Start, known: Iterable[str]) -> dict[str, Planned]:
    """The start's modules as they are, for those that this run does not train: nothing of the file is lost."""
    if strange := sorted(set(start.names) - set(known)):
        raise TrainingError(
            f"network_weights {start.path} has {len(strange)} modules that cannot be trained here, such as "
            f"{strange[0]}; start from a LoRA of this base's family"
        )
    return {name: Planned(start.rank(name), start.alpha(name), trained=False) for name in start.names}


class _Sizes:
    """Rank, alpha and rate by module, from settings by kind and by block."""

    def __init__(self, family: str, rank: int, alpha: float | None, options: NetworkConfig) -> None:
        self._rank, self._alpha, self._options = rank, alpha, options
        self._scheme = full_scheme(family)
        given = {name: getattr(options, name) for name in BY_BLOCK}
        found = {name: block_vector(name, text, family) for name, text in given.items() if text is not None}
        self._dims, self._alphas, self._conv_dims, self._conv_alphas, self._rates = map(found.get, BY_BLOCK)

    def at(self, name: str, module: nn.Module) -> tuple[int, float]:
        """Rank and alpha of one module; a rank of 0 leaves it out."""
        wide = isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
        dims, alphas = (self._conv_dims, self._conv_alphas) if wide else (self._dims, self._alphas)
        usual, alpha = (self._options.conv_dim or 0, self._options.conv_alpha) if wide else (self._rank, self._alpha)
        told = self._value(dims, name)
        rank = usual if told is None else int(told)
        scale = self._value(alphas, name)
        return rank, float(scale if scale is not None else alpha if alpha is not None else rank)

    def rate(self, name: str) -> float:
        """The factor on a module's learning rate."""
        told = self._value(self._rates, name)
        return 1.0 if told is None else told

    def _value(self, vector: BlockVector | None, name: str) -> float | None:
        block = self._scheme.block_of(name) if vector is not None else None
        return None if vector is None or block is None else vector.at(block, name)


def block_vector(setting: str, text: str, family: str | None) -> BlockVector:
    """What one of :data:`BY_BLOCK` says; blocks that it does not name have no say where it is of rules alone.

    Raises:
        BlockError: for an unknown block or preset, or a count of numbers that the family (None: any) does not have.
        TrainingError: for a rank that is no whole number, or a rate or alpha below 0.
    """
    vector = parse_vector(text, load_presets() if setting == "block_lr" else {}, family)
    only_rules = all(is_rule(item.partition("=")[0]) for item in split_items(text))
    vector = replace(vector, weights={}) if only_rules else vector
    for value in (*vector.weights.values(), *(rule.weight for rule in vector.rules)):
        _check(value, setting)
    return vector


def _check(value: float, setting: str) -> None:
    if setting.endswith("dims") and (value != int(value) or not 0 <= value <= 4096):
        raise TrainingError(f"{setting} has {value:g}, which is no rank; use whole numbers from 0 (untrained) to 4096")
    if value < 0:
        raise TrainingError(f"{setting} has {value:g}, which cannot be negative; use 0 or more")
