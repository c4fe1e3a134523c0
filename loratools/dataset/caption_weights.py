"""Weights of words in captions: ``(word:1.2)``, ``(word)`` for 1.1, ``[word]`` for 1 / 1.1, and ``\\(`` for a bracket.

As sd-scripts' ``weighted_captions`` reads them. The weights multiply the words' hidden states, and no mean is restored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_MORE, _LESS = 1.1, 1 / 1.1
_PART = re.compile(r"\\(?P<literal>[()\[\]\\]?)|:(?P<weight>[+-]?[.\d]+)\)|[()\[\]]|:|[^\\()\[\]:]+")


def weighted(caption: str) -> list[tuple[str, float]]:
    """The caption's pieces with their weights, neighbours of equal weight together.

    Brackets nest and multiply; an unclosed bracket reaches to the end, and a closing one without its opening is text.
    """
    pieces: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, factor: float) -> None:
        start = opened[bracket].pop()
        pieces[start:] = [(text, weight * factor) for text, weight in pieces[start:]]

    for match in _PART.finditer(caption):
        part, number = match[0], _number(match["weight"])
        if part in opened:
            opened[part].append(len(pieces))
        elif number is not None and opened["("]:
            close("(", number)
        elif part == ")" and opened["("]:
            close("(", _MORE)
        elif part == "]" and opened["["]:
            close("[", _LESS)
        else:
            pieces.append((match["literal"] if part.startswith("\\") else part, 1.0))
    for bracket, factor in (("(", _MORE), ("[", _LESS)):
        while opened[bracket]:
            close(bracket, factor)
    return _merged(pieces)


def tokenize_weighted(tokenizer: Any, captions: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """Token ids (b, length) with begin, end and padding, and the weight of each (b, length); 1 where none is given."""
    rows = [_row(tokenizer, caption, length) for caption in captions]
    return torch.tensor([ids for ids, _ in rows]), torch.tensor([weights for _, weights in rows])


def token_weights(tokenizer: Any, caption: str) -> tuple[list[int], list[float]]:
    """All token ids of a caption without begin and end, and the weight of each."""
    ids: list[int] = []
    weights: list[float] = []
    for text, weight in weighted(caption):
        piece = tokenizer(text, verbose=False).input_ids[1:-1]  # silent: what is too long is cut here
        ids += piece
        weights += [weight] * len(piece)
    return ids, weights


def _row(tokenizer: Any, caption: str, length: int) -> tuple[list[int], list[float]]:
    ids, weights = token_weights(tokenizer, caption)
    ids, weights = ids[: length - 2], weights[: length - 2]
    padding = [tokenizer.pad_token_id] * (length - 2 - len(ids))
    padded = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *padding]
    return padded, [1.0, *weights, *[1.0] * (length - 1 - len(weights))]


def _merged(pieces: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    merged: list[tuple[str, float]] = []
    for text, weight in pieces:
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + text, weight)
        else:
            merged.append((text, weight))
    return merged or [("", 1.0)]


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None  # such as 1.2.3, which is text
