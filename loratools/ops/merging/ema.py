"""Power-function averages over a run's epochs, after training: EDM2's post-hoc EMA, as far as stored epochs allow.

Karras et al. (2312.02696) average the weights of a training of length ``t`` by a power of time,
``theta_g(t) = (g + 1) / t^(g + 1) * integral_0^t s^g theta(s) ds``, and name a profile by its standard deviation over
its length, ``sigma_rel = sqrt(g + 1) / ((g + 2) sqrt(g + 3))``. A run stores ``theta`` only at its epochs ``t_1 < ... <
t_n``; here each stands for the time since the one before it, so that epoch ``k`` has the weight
``(t_k^(g + 1) - t_(k-1)^(g + 1)) / (t_n^(g + 1) - t_0^(g + 1))``, exactly the integral over that time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from loratools.errors import FileError, OptionError

SIGMA_REL = 0.1  # the wider of the two that EDM2 keeps during training
WIDEST = 1 / math.sqrt(12)  # of gamma 0, the plain mean
_GAMMA_MOST = 1e4
_ALONE = 0.999  # of the weight on the last epoch: that is the epoch, no average


def gamma_of(sigma_rel: float | None = None, gamma: float | None = None) -> float:
    """The exponent of a profile that is given by its width or by the exponent itself; of :data:`SIGMA_REL` by default.

    Raises:
        OptionError: if both are given, or one is out of range.
    """
    if sigma_rel is not None and gamma is not None:
        raise OptionError("sigma_rel and gamma say the same thing; give one of them")
    if gamma is not None:
        if not 0 <= gamma <= _GAMMA_MOST:
            raise OptionError(f"gamma {gamma:g} is out of range; it is 0 (the plain mean) or more, such as 7")
        return float(gamma)
    width = SIGMA_REL if sigma_rel is None else sigma_rel
    if not sigma_rel_of(_GAMMA_MOST) <= width <= WIDEST + 1e-9:
        raise OptionError(
            f"sigma_rel {width:g} is out of range; it is above 0 and at most {WIDEST:.3f} (the plain mean), such as 0.1"
        )
    low, high = 0.0, _GAMMA_MOST  # the width falls as the exponent rises
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sigma_rel_of(middle) > width else (low, middle)
    return (low + high) / 2


def sigma_rel_of(gamma: float) -> float:
    """EDM2's relative width of the profile of exponent ``gamma``."""
    return math.sqrt(gamma + 1) / ((gamma + 2) * math.sqrt(gamma + 3))


def ema_weights(epochs: Sequence[int], gamma: float, before: int = 0) -> list[float]:
    """The weight of each epoch; they add up to 1.

    Args:
        epochs: their numbers, rising, at least two.
        before: the epoch before the first of them, 0 if there is none.
    Raises:
        OptionError: for fewer epochs than two, or a profile so narrow that the last one has all the weight.
    """
    if len(epochs) < 2:
        raise OptionError("an average over epochs needs two of them at least; name a run, or a range such as run@4-10")
    last = epochs[-1]
    powers = [(number / last) ** (gamma + 1) for number in (before, *epochs)]
    weights = [(b - a) / (1 - powers[0]) for a, b in pairwise(powers)]
    if weights[-1] > _ALONE:
        raise OptionError(
            f"with sigma_rel {sigma_rel_of(gamma):.3g} epoch {last} alone has {100 * weights[-1]:.2f} % of the weight, "
            f"so that this is no average; take a wider one, at most {WIDEST:.3f}, or the epoch itself"
        )
    return weights


def chosen_epochs(numbers: Sequence[int], selector: str | None, run: str) -> tuple[list[int], int]:
    """The epochs of a run that are averaged, and the one before the first of them (0 if there is none).

    Args:
        numbers: the run's epochs, rising.
        selector: ``6-8``, or None for all.
    Raises:
        FileError: for a selector that is no range, or one with no epoch of the run in it.
    """
    if selector is None:
        return list(numbers), 0
    first, dash, last = selector.partition("-")
    if not dash:
        raise FileError(f"{run}@{selector} is one epoch, of which there is no average; give {run}, or a range of it")
    taken = [number for number in numbers if int(first) <= number <= int(last)]
    if not taken:
        raise FileError(f"{run} has no epoch from {first} to {last}; it has {numbers[0]} to {numbers[-1]}")
    return taken, max((number for number in numbers if number < taken[0]), default=0)
