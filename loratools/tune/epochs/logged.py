"""What a run has of its epochs without any picture being drawn: validation losses by image, and people's votes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loratools.adapter.files.epoch_files import Epoch, labelled_epoch
from loratools.errors import FileError
from loratools.measures.estimate import Estimate
from loratools.preview.record.votes import Votes, read_votes, standings
from loratools.train.output.read_log import read_log
from loratools.tune.epochs.figures import Figure

LOSS = "validation loss"
_ELO = 400 / math.log(10)  # of one unit of a Bradley-Terry log strength


@dataclass(frozen=True)
class ValidationLosses:
    """The run's validation loss, if its log has one for every epoch.

    Attributes:
        figure: by image, so that epochs are compared image by image; None where the log lacks it.
        held_out: whether the images were not trained on.
    """

    figure: Figure | None
    held_out: bool = False


def validation_losses(run: Sequence[Epoch]) -> ValidationLosses:
    """Read them from the log beside the epochs; each epoch's is that of its last step, the base's that of step 0."""
    ends: dict[int, int] = {}
    by_step: dict[int, dict[str, float]] = {}
    held_out = False
    for record in read_log(run[0].path):
        step = record.get("step")
        if record.get("kind") == "epoch" and isinstance(step, int):
            ends[int(record["epoch"])] = step
        elif record.get("kind") == "validation" and isinstance(step, int) and isinstance(record.get("images"), dict):
            by_step[step] = _numbers(record["images"])
            held_out = bool(record.get("held_out", True))
    rows = [by_step.get(ends.get(epoch.number, -1), {}) for epoch in run]
    names = [name for name in rows[0] if all(name in row for row in rows)]
    if not names:
        return ValidationLosses(None)
    untrained = by_step.get(0, {})
    base = np.array([untrained[name] for name in names]) if all(name in untrained for name in names) else None
    values = np.array([[row[name] for name in names] for row in rows])
    labels: tuple[Hashable, ...] = tuple(names)
    return ValidationLosses(Figure(LOSS, "lower", values, base, labels, ("",) * len(names)), held_out)


def _numbers(images: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(loss) for name, loss in images.items() if isinstance(loss, int | float) and math.isfinite(loss)}


@dataclass(frozen=True)
class VoteRanking:
    """People's votes for epochs: Bradley-Terry ratings on Elo's scale, with the errors that so few choices leave.

    Attributes:
        ratings: (epochs,); an epoch that nobody judged has the average, 0.
        covariance: (epochs, epochs) of the ratings, from the information in the pairs and in one tie each with an
            average candidate.
        pairs: how many choices there are in all.
    """

    ratings: tuple[float, ...]
    covariance: np.ndarray
    pairs: int
    name: str = "votes"

    def score(self, epoch: int) -> float:
        return self.ratings[epoch]

    def own(self, epoch: int) -> Estimate:
        """The epoch's rating."""
        return Estimate(self.ratings[epoch], math.sqrt(self.covariance[epoch, epoch]), self.pairs)

    def lead(self, one: int, two: int) -> Estimate:
        own = self.covariance
        variance = own[one, one] + own[two, two] - 2 * own[one, two]
        return Estimate(self.ratings[one] - self.ratings[two], math.sqrt(max(variance, 0.0)), self.pairs)


def vote_ranking(path: Path, name: str, run: Sequence[Epoch]) -> VoteRanking:
    """The votes that a grid's page exported, as a ranking of the epochs of the run ``name``.

    Pairs of one epoch with itself, and rows that are no epoch of the run, do not count. Where there are stars alone,
    each pair of epochs that have them counts as one choice.

    Raises:
        FileError, FormatError: if it cannot be read, or has no vote between epochs of the run.
    """
    votes = read_votes(path)
    numbers = {epoch.number: index for index, epoch in enumerate(run)}
    places = {key: _epoch(place.get("adapter", ""), name, numbers) for key, place in votes.places.items()}
    games = _games(votes, places)
    if not games:
        raise FileError(f"{path} holds no choice between two epochs of {name}; judge pairs in grid.html, and press E")
    ratings = [0.0] * len(run)
    for standing in standings(_renamed(votes, places, games), ["adapter"]):
        ratings[int(standing.at[0])] = standing.rating
    return VoteRanking(tuple(ratings), _covariance(ratings, games), len(games))


def _epoch(label: str, name: str, numbers: Mapping[int, int]) -> int | None:
    number = labelled_epoch(label, name)
    return None if number is None else numbers.get(number)


def _games(votes: Votes, places: Mapping[str, int | None]) -> list[tuple[int, int, float]]:
    """Choices between two epochs: their indices, and the first one's points."""
    games = []
    for pair in votes.pairs:
        left, right = places.get(pair.left), places.get(pair.right)
        if left is not None and right is not None and left != right:
            games.append((left, right, pair.points))
    if games:
        return games
    stars = [(index, value) for key, value in votes.stars.items() if (index := places.get(key)) is not None]
    means = {index: np.mean([value for own, value in stars if own == index]) for index, _ in stars}
    return [
        (one, two, 0.5 if means[one] == means[two] else float(means[one] > means[two]))
        for one in means
        for two in means
        if one < two
    ]


def _renamed(votes: Votes, places: Mapping[str, int | None], games: Sequence[tuple[int, int, float]]) -> Votes:
    """The games alone, with an epoch's index for its label."""
    from loratools.preview.record.votes import Pair

    pairs = tuple(Pair(str(one), str(two), points) for one, two, points in games)
    indices = dict.fromkeys(str(index) for one, two, _ in games for index in (one, two))
    return Votes({index: {"adapter": index} for index in indices}, {}, pairs)


def _covariance(ratings: Sequence[float], games: Sequence[tuple[int, int, float]]) -> np.ndarray:
    """Of ratings on Elo's scale: the inverse of the Fisher information."""
    strengths = np.asarray(ratings) / _ELO
    information = np.zeros((len(ratings), len(ratings)))
    for one, two, _ in games:
        won = 1 / (1 + math.exp(strengths[two] - strengths[one]))
        weight = won * (1 - won)
        information[one, one] += weight
        information[two, two] += weight
        information[one, two] -= weight
        information[two, one] -= weight
    for index, strength in enumerate(strengths):
        won = 1 / (1 + math.exp(-strength))
        information[index, index] += won * (1 - won)  # the tie with an average one
    covariance: np.ndarray = np.linalg.inv(information) * _ELO**2
    return covariance
