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
from loratools.train.network.init_weights import InitWeights

BY_BLOCK = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas", "block_lr")


@dataclass(frozen=True)
class Target:
    """One module to train. ``rate`` is a factor on the learning rate; without ``trained`` its layer is only kept."""

    rank: int
    alpha: float
    rate: float = 1.0
    trained: bool = True


def find_targets(
    family: str,
    live: Mapping[str, nn.Module],
    rank: int,
    alpha: float | None,
    options: NetworkConfig,
    components: Iterable[str],
    init_weights: InitWeights | None,
) -> dict[str, Target]:
    """The modules to train by canonical name, text encoders first.

    Args:
        live: the base's modules by canonical name.
        rank, alpha: where ``options`` has nothing else; alpha None means each module's rank.
        components: the parts that are trained, such as ``unet``.
        init_weights: the file that the network starts from; its modules of other parts are kept as they are.
    Raises:
        TrainingError: for a rank that is no whole number, or if ``init_weights`` has modules that this network has not.
        BlockError: for an unknown block.
    """
    sizes, wanted = _Sizes(family, rank, alpha, options), set(components)
    known = lora_targets(family, live, conv=True)
    sizes_from = init_weights if options.dim_from_weights else None
    names = known if sizes_from else lora_targets(family, live, conv=options.trains_convolutions)
    targets: dict[str, Target] = {}
    for name in names:
        if sizes_from:
            own_rank, own_alpha = sizes_from.rank(name), sizes_from.alpha(name)
        else:
            own_rank, own_alpha = sizes.at(name, live[name])
        rate = sizes.rate(name)
        if own_rank and rate and name.partition(".")[0] in wanted:
            targets[name] = Target(own_rank, own_alpha, rate)
    if init_weights is not None:
        targets = {**_kept(init_weights, known), **targets}
    return dict(sorted(targets.items(), key=lambda item: (not is_text(item[0]), item[0])))


def _kept(init_weights: InitWeights, known: Iterable[str]) -> dict[str, Target]:
    """The file's modules as they are, for those that this run does not train, so that nothing is lost."""
    if strange := sorted(set(init_weights.names) - set(known)):
        raise TrainingError(
            f"network_weights {init_weights.path} has {len(strange)} modules that cannot be trained here, such as "
            f"{strange[0]}; start from a LoRA of this base's family"
        )
    return {
        name: Target(init_weights.rank(name), init_weights.alpha(name), trained=False) for name in init_weights.names
    }


class _Sizes:
    """Rank, alpha and rate by module, from settings by kind and by block."""

    def __init__(self, family: str, rank: int, alpha: float | None, options: NetworkConfig) -> None:
        self._rank, self._alpha, self._options = rank, alpha, options
        self._scheme = full_scheme(family)
        given = {name: getattr(options, name) for name in BY_BLOCK}
        vectors = {name: block_vector(name, text, family) for name, text in given.items() if text is not None}
        self._dims, self._alphas, self._conv_dims, self._conv_alphas, self._rates = map(vectors.get, BY_BLOCK)

    def at(self, name: str, module: nn.Module) -> tuple[int, float]:
        """Rank and alpha of one module; a rank of 0 leaves it out."""
        wide = isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
        dims, alphas = (self._conv_dims, self._conv_alphas) if wide else (self._dims, self._alphas)
        usual, alpha = (self._options.conv_dim or 0, self._options.conv_alpha) if wide else (self._rank, self._alpha)
        own_rank, own_alpha = self._value(dims, name), self._value(alphas, name)
        rank = usual if own_rank is None else int(own_rank)
        return rank, float(own_alpha if own_alpha is not None else alpha if alpha is not None else rank)

    def rate(self, name: str) -> float:
        """The factor on a module's learning rate."""
        rate = self._value(self._rates, name)
        return 1.0 if rate is None else rate

    def _value(self, vector: BlockVector | None, name: str) -> float | None:
        block = self._scheme.block_of(name) if vector is not None else None
        return None if vector is None or block is None else vector.at(block, name)


def block_vector(setting: str, text: str, family: str | None) -> BlockVector:
    """The vector that one of :data:`BY_BLOCK` holds; a vector of rules alone sets nothing for blocks without a rule.

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
