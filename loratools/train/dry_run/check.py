"""Mistakes in a run's settings that need no base to be loaded: optimiser, block vectors, samples, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from loratools.base.sampling.samplers import find_sampler
from loratools.errors import FileError, LoratoolsError, UnavailableError
from loratools.train.callbacks.sample_prompts import check_prompts
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import FILES_OF_FOLDER
from loratools.train.config.paths import subsets_by_place
from loratools.train.network.block_rates import sd_scripts_rates
from loratools.train.network.targets import BY_BLOCK, block_vector
from loratools.train.optim.optimizers import check_arguments, check_rates, optimizer_class
from loratools.yamlio import Place


def mistakes(config: TrainConfig, family: str | None) -> Iterator[tuple[Place, LoratoolsError]]:
    """Every mistake that would end the run, and the place of its setting; what this machine lacks is one too, and an
    :class:`UnavailableError`.

    Args:
        family: the base's, or None where it is not known yet.
    """
    lacking = set[str]()
    for place, check in _checks(config, family):
        try:
            check()
        except UnavailableError as error:
            if str(error) not in lacking:  # several checks need the package of the optimiser
                yield place, error
            lacking.add(str(error))
        except LoratoolsError as error:
            yield place, error


def _checks(config: TrainConfig, family: str | None) -> Iterator[tuple[Place, Callable[[], object]]]:
    yield ("optimizer",), partial(optimizer_class, config.optimizer)
    yield ("optimizer_args",), partial(check_arguments, config)
    yield ("optimizer",), partial(check_rates, config, [rate for rate in reversed(config.learned_rates()) if rate])
    for setting in BY_BLOCK:
        text = getattr(config, setting)
        if text is not None and not (config.is_full and sd_scripts_rates(text)):  # which the family alone decides
            yield (setting,), partial(block_vector, setting, text, family)
    if config.sample_sampler is not None:
        yield ("sample_sampler",), partial(find_sampler, config.sample_sampler)
    if config.sample_prompts:
        yield ("sample_prompts",), partial(check_prompts, config.sample_prompts, config.name)
    for place, subset in subsets_by_place(config):
        for key in FILES_OF_FOLDER:
            if (path := getattr(subset, key)) is not None:
                yield (*place, key), partial(_check_exists, path)


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise FileError(f"there is no '{path}'; name what lies on this machine")
