"""The report's columns: the same held-out shots under the base alone, the LoRA, and what could repair it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loratools.errors import MeasureError
from loratools.measures.estimate import Estimate, estimate, paired_difference
from loratools.tune.arrays import Array
from loratools.tune.problem.prompts import Shot

BASE, BEFORE, GUIDE, STRENGTH, TUNED = "base", "before", "guide", "strength", "tuned"


@dataclass(frozen=True)
class Column:
    """One column: its name, its label for a person, the vector (None: the base alone), and each picture's values."""

    name: str
    label: str
    point: Array | None
    values: Mapping[str, Sequence[float]]
    pictures: tuple[Path, ...]


@dataclass(frozen=True)
class HeldOut:
    """All columns on the shots that the search never saw."""

    shots: tuple[Shot, ...]
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """The column called ``name``."""
        return next(column for column in self.columns if column.name == name)

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return any(column.name == name for column in self.columns)

    def estimates(self, name: str) -> dict[str, Estimate]:
        """Measure -> its mean and standard error in a column."""
        values = self.column(name).values
        return {measure: estimate(own, self._prompts, self._seeds) for measure, own in values.items()}

    def difference(self, after: str, before: str, measure: str) -> Estimate:
        """A measure's mean difference between two columns, picture by picture."""
        one, two = self.column(after).values[measure], self.column(before).values[measure]
        return paired_difference(one, two, self._prompts, self._seeds)

    def of_values(self, after: npt.ArrayLike, before: npt.ArrayLike) -> Estimate:
        """The mean difference of other figures of the same shots."""
        return paired_difference(after, before, self._prompts, self._seeds)

    def json(self, name: str) -> dict[str, Any]:
        """A column's figures as JSON values."""
        return {measure: estimate_json(own) for measure, own in self.estimates(name).items()}

    @property
    def _prompts(self) -> list[str]:
        return [shot.prompt for shot in self.shots]

    @property
    def _seeds(self) -> list[int]:
        return [shot.seed for shot in self.shots]


def check_comparable(held: HeldOut, names: Sequence[str]) -> None:
    """Raise MeasureError for a measure that tells of no picture under each of two columns."""
    for one, other in itertools.combinations(names, 2):
        for measure, values in held.column(one).values.items():
            if np.isnan(np.asarray(values) - np.asarray(held.column(other).values[measure])).all():
                labels = f"'{held.column(one).label}' and '{held.column(other).label}'"
                raise MeasureError(
                    f"the measure '{measure}' could tell of none of the {len(held.shots)} pictures of the report under "
                    f"both {labels} (NaN for one of each pair), so that nothing can be compared by it; mend it, or "
                    "leave it out"
                )


def estimate_json(own: Estimate) -> dict[str, Any]:
    """A mean as JSON values; a standard error that nothing tells is null."""
    error = None if own.standard_error != own.standard_error else round(own.standard_error, 5)
    return {"mean": round(own.mean, 5), "standard_error": error, "n": own.n}
