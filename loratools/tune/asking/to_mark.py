"""Which pictures a person is shown for marking: of every prompt as many, broken and sound ones likely among them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from loratools.tune.asking.kept_draws import picture_key
from loratools.tune.history import Generation
from loratools.tune.problem.prompts import Shot


@dataclass(frozen=True)
class Candidate:
    """A picture that was drawn: its generation's kind, its vector, and its shot."""

    kind: str
    point: tuple[float, ...]
    shot: Shot


def to_mark(
    generations: Sequence[Generation], shots: Sequence[Shot], count: int, seed: int, known: Collection[str] = ()
) -> list[Candidate]:
    """About ``count`` pictures, prompt by prompt, but none whose key is ``known``.

    Kinds of generations take turns, and so do a prompt's seeds: the whole LoRA's are likely to be broken, weak
    strengths' to be sound, those of the search's last vectors to be what has to be told apart now.
    """
    random = np.random.default_rng([seed, len(generations)])
    prompts = list(dict.fromkeys(shot.prompt for shot in shots))
    every = [own for own in _candidates(generations, shots) if picture_key(own.point, own.shot, False) not in known]
    each = max(1, count // len(prompts))
    chosen: list[Candidate] = []
    for prompt in prompts:
        kinds: dict[str, list[Candidate]] = {}
        for candidate in every:
            if candidate.shot.prompt == prompt:
                kinds.setdefault(candidate.kind, []).append(candidate)
        shuffled = [[own[n] for n in random.permutation(len(own))] for own in kinds.values()]
        turns = [candidate for turn in zip_longest(*shuffled) for candidate in turn if candidate is not None]
        own = turns[:each]
        chosen += [own[n] for n in random.permutation(len(own))]  # no place in a row says what a picture is
    return chosen


def _candidates(generations: Sequence[Generation], shots: Sequence[Shot]) -> Iterator[Candidate]:
    seen: set[tuple[tuple[float, ...], Shot]] = set()
    for generation in generations:
        for point in generation.points:
            for number in generation.shots:
                if (point, shots[number]) not in seen:
                    seen.add((point, shots[number]))
                    yield Candidate(generation.kind, point, shots[number])
