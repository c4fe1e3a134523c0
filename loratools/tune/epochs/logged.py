"""What a run has of its epochs without any picture being drawn: validation losses by image, and people's votes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loratools.adapter.files.epoch_files import Epoch, labelled_epoch
from loratools.errors import FileError
from loratools.measures.estimate import Estimate, Values
from loratools.measures.votes.votes_file import Votes, read_votes
from loratools.train.output.read_log import read_log
from loratools.tune.epochs.figures import Figure

LOSS = "validation loss"
_ELO = 400 / math.log(10)  # of one unit of a Bradley-Terry log strength
_NEWTON = 50  # steps at most; five or so suffice


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


@dataclass(frozen=True, eq=False)
class VoteRanking:
    """People's votes for epochs: Bradley-Terry ratings on Elo's scale, those that the page shows.

    Attributes:
        games: choices between two epochs: their indices, and the first one's points, 1, 0.5 or 0.
        strengths: (epochs,) log strengths; one that nobody judged is average, 0.
    """

    games: tuple[tuple[int, int, float], ...]
    strengths: Values
    name: str = "votes"

    @staticmethod
    def of(games: Sequence[tuple[int, int, float]], epochs: int) -> VoteRanking:
        """The ranking that ``games`` make likeliest."""
        return VoteRanking(tuple(games), _fitted(games, np.eye(epochs)))

    def score(self, epoch: int) -> float:
        return _ELO * float(self.strengths[epoch])

    def own(self, epoch: int) -> Estimate:
        """The epoch's rating; its error is by the curvature of the likelihood."""
        information = _information(self.games, np.eye(len(self.strengths)), self.strengths)
        return Estimate(self.score(epoch), _ELO * math.sqrt(np.linalg.inv(information)[epoch, epoch]), len(self.games))

    def lead(self, one: int, two: int) -> Estimate:
        """The difference of two ratings. Its error is the one that gives their likelihood ratio as its z: the curvature
        would say next to nothing of an epoch that won every time (Hauck and Donner 1977)."""
        lead = self.score(one) - self.score(two)
        merged = np.eye(len(self.strengths))
        merged[two] = merged[one]  # one strength for both
        alike = merged @ _fitted(self.games, merged)
        ratio = 2 * (_likelihood(self.games, self.strengths) - _likelihood(self.games, alike))
        return Estimate(lead, abs(lead) / math.sqrt(ratio) if ratio > 1e-9 else math.inf, len(self.games))


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
    return VoteRanking.of(games, len(run))


def _epoch(label: str, name: str, numbers: Mapping[int, int]) -> int | None:
    number = labelled_epoch(label, name)
    return None if number is None else numbers.get(number)


def _games(votes: Votes, places: Mapping[str, int | None]) -> list[tuple[int, int, float]]:
    games = []
    for pair in votes.pairs:
        left, right = places.get(pair.left), places.get(pair.right)
        if left is not None and right is not None and left != right:
            games.append((left, right, pair.points))
    return games or _starred(votes, places)


def _starred(votes: Votes, places: Mapping[str, int | None]) -> list[tuple[int, int, float]]:
    """Each pair of epochs that have stars as one choice, by the mean of their stars."""
    stars: dict[int, list[int]] = {}
    for key, value in votes.stars.items():
        if (index := places.get(key)) is not None:
            stars.setdefault(index, []).append(value)
    means = {index: sum(own) / len(own) for index, own in sorted(stars.items())}
    return [
        (one, two, 0.5 if means[one] == means[two] else float(means[one] > means[two]))
        for one, two in itertools.combinations(means, 2)
    ]


def _rows(games: Sequence[tuple[int, int, float]], count: int) -> tuple[Values, Values]:
    """Bradley-Terry as a logistic regression without an offset: what was compared (rows, count), and its points.

    Each candidate also ties once with an average one, so that an unbeaten one stays finite.
    """
    compared = np.zeros((len(games) + count, count))
    for row, (one, two, _) in enumerate(games):
        compared[row, one], compared[row, two] = 1.0, -1.0
    compared[len(games) :] = np.eye(count)
    return compared, np.array([*(points for *_, points in games), *[0.5] * count])


def _likelihood(games: Sequence[tuple[int, int, float]], strengths: Values) -> float:
    compared, points = _rows(games, len(strengths))
    margin = compared @ strengths
    return float((points * margin - np.logaddexp(0, margin)).sum())


def _information(games: Sequence[tuple[int, int, float]], design: Values, strengths: Values) -> Values:
    """(parameters, parameters): the curvature of the likelihood at ``strengths``."""
    rows = _rows(games, len(strengths))[0]
    won = 1 / (1 + np.exp(-(rows @ strengths)))
    own = rows @ design
    information: Values = (own * (won * (1 - won))[:, None]).T @ own
    return information


def _fitted(games: Sequence[tuple[int, int, float]], design: Values) -> Values:
    """The likeliest parameters, of which ``design`` (epochs, parameters) makes strengths, by Newton's method; a
    parameter that makes none stays 0."""
    rows, points = _rows(games, len(design))
    own = rows @ design
    used = design.any(axis=0)
    parameters = np.zeros(design.shape[1])
    for _ in range(_NEWTON):
        strengths = design @ parameters
        slope = own.T @ (points - 1 / (1 + np.exp(-(rows @ strengths))))
        information = _information(games, design, strengths)
        step = np.zeros_like(parameters)
        step[used] = np.linalg.solve(information[np.ix_(used, used)], slope[used])
        parameters = parameters + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-10:
            break
    return parameters
