"""What a grid is made of: axes read from text, and cells with a key of everything that determines their picture."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version

from loratools.base.infotext import number
from loratools.base.sampling.noise_kinds import OWN, check_kind
from loratools.base.sampling.samplers import find_sampler
from loratools.errors import GridError
from loratools.preview.request.numbers import parse_integers, parse_numbers

RENDERER = 4  # raised when the same settings begin to give another picture
_SIZE = re.compile(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*")


@dataclass(frozen=True)
class Settings:
    """How every cell of a grid is sampled; ``size`` is (height, width) in pixels, ``noise`` a kind of
    :mod:`loratools.base.sampling.noise`."""

    steps: int
    cfg: float
    sampler: str
    size: tuple[int, int]
    negative: str = ""
    clip_skip: int = 1
    noise: str = OWN

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise GridError(f"{self.steps} sampler steps make no picture; use 1 or more")
        object.__setattr__(self, "sampler", find_sampler(self.sampler).name)
        check_kind(self.noise)


@dataclass(frozen=True)
class Cell:
    """One picture: a row's content (a digest, empty for the base alone), its weight, the prompt and the seed.

    ``embeddings`` are the digests of those that its prompts name.
    """

    row: str
    weight: float
    prompt: str
    seed: int
    embeddings: tuple[str, ...] = ()

    def key(self, settings: Settings, base: str, compute: str) -> str:
        """sha256 over all that determines the picture; ``compute`` names the dtype and the kind of device."""
        content = {"renderer": RENDERER, "base": base, "compute": compute, **asdict(settings), **asdict(self)}
        content |= _versions()
        if self.weight == 0:
            content["row"] = ""
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@cache
def _versions() -> dict[str, str]:
    """Of the libraries that compute pictures; another one may round otherwise."""
    return {name: version(name).partition("+")[0] for name in ("torch", "diffusers", "transformers")}


def parse_weights(text: str) -> tuple[float, ...]:
    """``0:1:0.25`` (the end is included, and never passed), ``0-1 (+0.25)``, ``0,0.5,1``, or several of them mixed.

    Raises:
        GridError: if it is not that, or gives more than a thousand weights.
    """
    return parse_numbers(text, "weights")


def with_base_first(weights: Iterable[float]) -> tuple[float, ...]:
    """The weights without repetition, with 0 (the base itself) in front.

    Raises:
        GridError: if one is not finite.
    """
    rest = []
    for weight in weights:
        if not abs(weight) < float("inf"):
            raise GridError(f"a weight of {weight} makes no picture; use finite numbers")
        rest.append(float(weight))
    return (0.0, *dict.fromkeys(weight for weight in rest if weight != 0))


def parse_seeds(text: str) -> tuple[int, ...]:
    """``1,2`` or ``1-4`` or ``1-9 (+2)`` or several of them.

    Raises:
        GridError: if it is not that, or no generator takes one of them.
    """
    return check_seeds(parse_integers(text, "seeds"))


def parse_size(text: str) -> tuple[int, int]:
    """``512x768`` (width x height, as the WebUI writes it) as (height, width); ``512`` is a square.

    Raises:
        GridError: if it is not that.
    """
    if text.strip().isdigit():
        text = f"{text}x{text}"
    found = _SIZE.fullmatch(text)
    if not found:
        raise GridError(f"'{text}' is not a size; write WIDTHxHEIGHT such as 512x768")
    return int(found[2]), int(found[1])


def check_seeds(seeds: Sequence[int]) -> tuple[int, ...]:
    """The seeds without repetition.

    Raises:
        GridError: if there are none, or one is outside what torch's generators take.
    """
    if not seeds:
        raise GridError("there is no seed; give at least one")
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise GridError(f"{seed} is not a seed; use whole numbers from 0 to 2**63 - 1")
    return tuple(dict.fromkeys(seeds))


def folder_names(labels: Sequence[str]) -> list[str]:
    """One folder name for each label, safe on every system and different even where case does not count."""
    names: list[str] = []
    taken = {"base"}
    for label in labels:
        stem = re.sub(r"[^\w.+@=-]+", "_", label).strip("._ ")[:80] or "row"
        stem = f"{stem}_" if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", stem.split(".")[0]) else stem
        name, copy = stem, 2
        while name.casefold() in taken:
            name, copy = f"{stem}-{copy}", copy + 1
        taken.add(name.casefold())
        names.append(name)
    return names


def cell_path(folder: str, weight: float, prompt: int, seed: int) -> str:
    """Where a picture lies below the grid's folder; ``prompt`` counts from 1."""
    return f"cells/{folder}/{number(weight)}/prompt{prompt}_{seed}.png"
