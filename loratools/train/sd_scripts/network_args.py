"""sd-scripts' options of the network, ``network_args`` among them, as our settings.

Its lists by block have 25 numbers for SD1 and SD2 and 23 for SDXL; here they become numbers by block name.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from loratools.errors import did_you_mean
from loratools.ops.merging.merge_string import TermSpec

_PLAIN = (
    "conv_alpha",
    "rank_dropout",
    "module_dropout",
    "loraplus_lr_ratio",
    "loraplus_unet_lr_ratio",
    "loraplus_text_encoder_lr_ratio",
)
_LISTS = ("block_dims", "block_alphas", "conv_block_dims", "conv_block_alphas")
_RATES = ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold")
ARGUMENTS = ("conv_dim", *_PLAIN, *_LISTS, *_RATES)
OPTIONS = ("network_args", "base_weights", "base_weights_multiplier")

_Parts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]  # the blocks down, in the middle, up
_SD1: _Parts = tuple(f"IN{n:02d}" for n in range(12)), ("M00",), tuple(f"OUT{n:02d}" for n in range(12))
_SDXL: _Parts = tuple(f"IN{n:02d}" for n in range(9)), ("M00",) * 3, tuple(f"OUT{n:02d}" for n in range(9))
_NONE = ("",)  # SDXL's first and last numbers stand for embeddings and the output, which have no branches
# length of a list by block -> the block of each number
_ORDERS = {
    25: tuple(itertools.chain(*_SD1)),
    23: (*_NONE, *itertools.chain(*_SDXL), *_NONE),
}


def network_settings(options: Mapping[str, Any], wrong: list[str]) -> dict[str, Any]:
    """The settings that ``network_args`` and ``base_weights`` stand for.

    Args:
        wrong: gets a sentence for each argument that is unknown, is no number, or cannot be said here; the settings
            are then of no use.
    """
    given = arguments(options.get("network_args") or [], ARGUMENTS, "networks.lora", wrong)
    settings: dict[str, Any] = {name: number(name, given[name], wrong) for name in _PLAIN if name in given}
    if "conv_dim" in given:
        settings = {"conv_dim": int(number("conv_dim", given["conv_dim"], wrong)), "conv_alpha": 1.0, **settings}
    for name in _LISTS:
        if name in given:
            settings[name] = _by_block(name, _numbers(name, given[name], wrong), "conv_dim" in given, wrong)
    if rates := _rates(given, wrong):
        settings["block_lr"] = rates
    return settings | adapters(options, wrong)


def adapters(options: Mapping[str, Any], wrong: list[str]) -> dict[str, Any]:
    """``base_adapters`` of the files that ``base_weights`` names; ``wrong`` gets what is wrong with them."""
    terms = _terms(options, wrong)
    return {"base_adapters": terms} if terms else {}


def arguments(given: Any, known: Sequence[str], module: str, wrong: list[str]) -> dict[str, str]:
    """``network_args`` by name; ``wrong`` gets a sentence for each that ``module`` does not take here."""
    named = {}
    for text in [given] if isinstance(given, str) else given:
        name, equals, value = str(text).partition("=")
        name = name.strip()
        if not equals:
            wrong.append(f"'{text}' in network_args is no NAME=VALUE")
        elif name not in known:
            hint = did_you_mean(name, known)
            wrong.append(f"network_args has '{name}', which {module} here does not take{hint}")
        else:
            named[name] = value.strip()
    return named


def _by_block(name: str, numbers: Sequence[float], conv: bool, wrong: list[str]) -> dict[str, float]:
    order = _ORDERS.get(len(numbers))
    if order is None:
        wrong.append(f"{name} has {len(numbers)} numbers; it takes 25 for SD1 and SD2, 23 for SDXL")
        return {}
    return _named(name, list(zip(order, numbers, strict=True)), conv, wrong)


def _named(name: str, pairs: Sequence[tuple[str, float]], conv: bool, wrong: list[str]) -> dict[str, float]:
    """Numbers by block name; SDXL's three of the middle are one here, the attention's, unless all are trained."""
    middle = [number for block, number in pairs if block == "M00"]
    if len(set(middle)) > 1 and conv:
        wrong.append(f"{name} has {middle} for the middle block, which is one here; give one number")
    by_block = {block: number for block, number in pairs if block}
    return by_block | {"M00": middle[len(middle) // 2]} if middle else by_block


def _rates(arguments: Mapping[str, str], wrong: list[str]) -> dict[str, float]:
    """``block_lr`` of the three lists, where a list that is left out is 1 for all of its blocks."""
    given = {name: arguments[name] for name in _RATES[:3] if name in arguments}
    if not given:
        return {}
    least = number(_RATES[3], arguments.get(_RATES[3], "0"), wrong)
    lists = {name: _numbers(name, text, wrong) for name, text in given.items() if not text[:1].isalpha()}
    known = {len(numbers) for name, numbers in lists.items() if name != "mid_lr_weight"}
    known |= {arguments[name].count(",") // 2 for name in _LISTS if name in arguments}
    if 12 in known:
        parts = _SD1
    elif known & {9, 11}:
        parts = _SDXL
    else:
        wrong.append(
            f"{' and '.join(given)} do not tell whether they are for SD1 or SDXL; write out 12 "
            "numbers of down_lr_weight for SD1 and SD2, or 9 for SDXL"
        )
        return {}
    pairs: list[tuple[str, float]] = []
    for name, blocks in zip(_RATES, parts, strict=False):
        numbers = lists.get(name) or _curve(given.get(name, "ones"), len(blocks), wrong)
        if len(numbers) != len(blocks):
            wrong.append(f"{name} has {len(numbers)} numbers; {len(blocks)} are needed")
        pairs += [(block, number if number > least else 0.0) for block, number in zip(blocks, numbers, strict=False)]
    return _named("mid_lr_weight", pairs, "conv_dim" in arguments, wrong)


def _curve(text: str, count: int, wrong: list[str]) -> list[float]:
    """sd-scripts' named curves, such as ``sine+.25``: from the first block to the last."""
    name, _, lift = text.partition("+")
    rising = [place / max(count - 1, 1) for place in range(count)]
    curves = {
        "ones": [1.0] * count,
        "zeros": [0.0] * count,
        "linear": rising,
        "reverse_linear": rising[::-1],
        "sine": [math.sin(math.pi / 2 * x) for x in rising],
        "cosine": [math.sin(math.pi / 2 * x) for x in rising[::-1]],
    }
    if name.strip() not in curves:
        wrong.append(f"there is no curve '{name}' of rates{did_you_mean(name, curves)}")
    return [value + (number(text, lift, wrong) if lift else 0.0) for value in curves.get(name.strip(), curves["ones"])]


def _terms(options: Mapping[str, Any], wrong: list[str]) -> list[str]:
    paths, weights = (_listed(options.get(name)) for name in ("base_weights", "base_weights_multiplier"))
    if len(weights) > len(paths):
        wrong.append("base_weights_multiplier has more numbers than base_weights has files")
        return []
    weights += [1.0] * (len(paths) - len(weights))
    return [TermSpec(str(path), float(weight)).text() for path, weight in zip(paths, weights, strict=True)]


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list) else [value]


def _numbers(name: str, text: str, wrong: list[str]) -> list[float]:
    return [number(name, part, wrong) for part in text.split(",")]


def number(name: str, text: str, wrong: list[str]) -> float:
    """The number that an argument holds; 1, and a sentence in ``wrong``, if it holds none."""
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    wrong.append(f"'{text}' in {name} of network_args is no number")
    return 1.0
