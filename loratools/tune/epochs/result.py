"""A verdict over a run's epochs: the decision and all that it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loratools.adapter.files.epoch_files import Epoch
from loratools.train.output.recorded_verdict import verdict_path
from loratools.tune.epochs.decide import Decision, Evidence
from loratools.tune.epochs.evaluation_set import EvaluationSet
from loratools.tune.epochs.figures import Figure
from loratools.tune.epochs.logged import VoteRanking
from loratools.tune.epochs.measured import MeasuredEpochs
from loratools.tune.epochs.pictures import DrawnEpochs


@dataclass(frozen=True)
class RunFiles:
    """The files of a run that a verdict is about, and the names of what it leaves beside them."""

    epochs: tuple[Epoch, ...]

    @property
    def verdict(self) -> Path:
        """``NAME.verdict.json``"""
        return verdict_path(self.epochs)

    @property
    def name(self) -> str:
        """Of the run."""
        return self.verdict.name.removesuffix(".verdict.json")

    @property
    def pictures(self) -> Path:
        """The folder ``NAME-verdict``."""
        return self.verdict.with_name(f"{self.name}-verdict")


@dataclass(frozen=True, eq=False)
class EpochVerdict:
    """A decision with all its evidence, in the order of ``files.epochs``.

    Attributes:
        digests: of the epochs' files.
        base: name and digest.
        evidence: what the decision was made of.
    """

    files: RunFiles
    digests: tuple[str, ...]
    base: tuple[str, str]
    material: EvaluationSet
    seeds: tuple[int, ...]
    weight: float
    drawn: DrawnEpochs
    measured: MeasuredEpochs
    losses: Figure | None
    votes: VoteRanking | None
    evidence: Evidence
    decision: Decision

    @property
    def path(self) -> Path:
        """Where it is written."""
        return self.files.verdict

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure that there is, in the order in which they are shown."""
        return (*self.measured.figures, *((self.losses,) if self.losses is not None else ()))
