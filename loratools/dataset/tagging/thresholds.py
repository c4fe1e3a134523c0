"""Thresholds: how probable a tag has to be to be written. What is right is a property of the model, not of the tagger's
users: 0.35 is strict for one model of the WD family and loose for another.

``balanced`` is where precision equals recall on the model's own validation set, as its card says; ``precise`` and
``many`` are one unit of log-odds above and below, which is about e times fewer or more odds for a doubtful tag.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from loratools.dataset.tagging.labels import Family
from loratools.errors import OptionError

Named = Literal["precise", "balanced", "many", "mcut"]
_SHIFT: Final = {"precise": 1.0, "balanced": 0.0, "many": -1.0}
_BALANCED: Final = {  # by a word of the model's name: precision = recall, from SmilingWolf's cards
    "wd-v1-4-swinv2-tagger-v2": 0.3771,
    "wd-swinv2-tagger-v3": 0.2653,
    "wd-eva02-large-tagger-v3": 0.5296,
}
_OF_FAMILY: Final[dict[Family, float]] = {"cl": 0.55, "deepdanbooru": 0.5}  # what their users take
_CHARACTERS: Final[dict[Family, float]] = {"wd": 0.85, "cl": 0.6, "deepdanbooru": 0.5}
MCUT_LEAST: Final = {"character": 0.15, "copyright": 0.15}  # what MCut does not go below
_SMALLEST: Final = 0.05  # probabilities below are not kept
_WORDS: Final = "precise, balanced, many, mcut or a number from 0.05 to 1"


@dataclass(frozen=True)
class Threshold:
    """``value``, or MCut for every picture where it is None."""

    value: float | None

    def text(self) -> str:
        """For a person."""
        return "MCut" if self.value is None else f"{self.value:.4g}"


def balanced(name: str, family: Family) -> float | None:
    """The threshold of the model called ``name`` at which precision equals recall; None where nobody says."""
    known = next((value for word, value in _BALANCED.items() if word in name.lower()), None)
    return _OF_FAMILY.get(family) if known is None else known


def read_threshold(text: str | None, name: str, family: Family) -> Threshold:
    """What a user's word or number means for a model; left out, it is ``balanced``, or MCut for a model of which nobody
    says what that would be.

    Raises:
        OptionError: for a word that is none, a number out of range, or a word that needs a table's number.
    """
    own = balanced(name, family)
    if text is None:
        return Threshold(own)
    word = text.strip().lower()
    if word == "mcut":
        return Threshold(None)
    if word in _SHIFT:
        if own is None:
            known = ", ".join(_BALANCED)
            raise OptionError(
                f"what is {word} for {name} is not known; write a number, or mcut. Known are {known}: a file of one of "
                "these is known by its folder's name"
            )
        return Threshold(_shifted(own, _SHIFT[word]))
    return Threshold(number(word, "threshold"))


def character_threshold(text: str | None, family: Family) -> Threshold:
    """The threshold of names of characters and series; 0.85 for the WD family unless a user says otherwise."""
    if text is None:
        return Threshold(_CHARACTERS[family])
    return Threshold(None if text.strip().lower() == "mcut" else number(text, "character_threshold"))


def number(text: str, option: str) -> float:
    """A probability as a user wrote it.

    Raises:
        OptionError: if it is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise OptionError(f"`{option}={text}` is no threshold; write {_WORDS}") from None
    if not _SMALLEST <= value <= 1:
        raise OptionError(f"`{option}={text}` is out of range; write {_WORDS}")
    return value


def mcut(probabilities: Sequence[float], least: float = 0.0) -> float:
    """The middle of the widest gap between neighbours of the sorted probabilities (Largeron et al., 2012), at least
    ``least``; 1 where there are not two of them."""
    ordered = sorted(probabilities, reverse=True)
    gaps = [(high - low, -place) for place, (high, low) in enumerate(pairwise(ordered))]
    if not gaps:
        return 1.0
    place = -max(gaps)[1]
    return max((ordered[place] + ordered[place + 1]) / 2, least)


def _shifted(probability: float, by: float) -> float:
    return 1 / (1 + math.exp(-(math.log(probability / (1 - probability)) + by))) if by else probability
