"""What a measure is, and the one place where its values are taken and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from loratools.errors import LoratoolsError, MeasureError
from loratools.measures.estimate import Estimate, Values, estimate

if TYPE_CHECKING:
    from PIL.Image import Image

Better = Literal["lower", "higher"]
_CONSTANT_FROM = 8  # pictures; fewer may well have one value by chance, such as no defect in any


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture to be measured: ``pixels`` are uint8 (height, width, 3); ``prompt`` and ``seed`` made it."""

    pixels: npt.NDArray[np.uint8]
    prompt: str
    seed: int

    @property
    def image(self) -> Image:
        """The picture for Pillow."""
        from PIL import Image

        return Image.fromarray(self.pixels, "RGB")


class Measure(Protocol):
    """One figure a picture; ``better`` says which way is good."""

    @property
    def name(self) -> str:
        """As a table's column is headed: ``hands``, ``style``, ``marks``."""
        ...

    @property
    def better(self) -> Better:
        """Whether lower or higher values are better."""
        ...

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        """(n,) in float64, in the order of ``pictures``; NaN where it cannot tell."""
        ...


@dataclass(frozen=True, eq=False)
class Measured:
    """What a measure said of pictures: ``values`` (n,), and the prompt and seed of each."""

    name: str
    better: Better
    values: Values
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def estimate(self) -> Estimate:
        """The mean over the pictures that it could tell of; see :func:`.estimate.estimate`."""
        return estimate(self.values, self.prompts, self.seeds)


def take(measure: Measure, pictures: Sequence[Shown]) -> Measured:
    """The values of ``measure`` for ``pictures``, checked.

    Raises:
        MeasureError: if the measure fails, gives another number of values than there are pictures, values that are no
            numbers, or infinite ones, or cannot tell of any picture.
    """
    values = _values(measure, pictures)
    if np.isinf(values).any():
        raise MeasureError(f"the measure '{measure.name}' gave an infinite value; give NaN where it cannot tell")
    if len(values) and np.isnan(values).all():
        raise MeasureError(
            f"the measure '{measure.name}' could tell of none of {len(values)} pictures (NaN for each); nothing can be "
            "searched or compared by it"
        )
    prompts, seeds = tuple(each.prompt for each in pictures), tuple(each.seed for each in pictures)
    return Measured(measure.name, measure.better, values, prompts, seeds)


def check_it_varies(measured: Measured) -> None:
    """Raise unless a measure tells pictures apart that differ: call it with pictures of many different vectors.

    Raises:
        MeasureError: if eight pictures or more have one value.
    """
    values = measured.values[~np.isnan(measured.values)]
    if len(values) >= _CONSTANT_FROM and np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())):
        raise MeasureError(
            f"the measure '{measured.name}' gave {values[0]:g} for each of {len(values)} different pictures, so no "
            "search can be led by it; name another measure or symptom"
        )


def _values(measure: Measure, pictures: Sequence[Shown]) -> Values:
    """As the measure gave them, in float64."""
    try:
        given = measure(pictures)
    except LoratoolsError:
        raise
    except (Exception, SystemExit) as error:  # a user's own function may raise anything, or want to end the program
        reason = str(error).strip().splitlines()
        said = f"{type(error).__name__}{f': {reason[0]}' if reason else ''}"
        raise MeasureError(f"the measure '{measure.name}' failed ({said}); mend it, or leave it out") from error
    try:
        values: Values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise MeasureError(
            f"the measure '{measure.name}' gave values that are no numbers ({error}); give a number for each picture, "
            "or NaN"
        ) from error
    if values.shape != (len(pictures),):
        shape = f"{values.size} values" if values.ndim == 1 else f"an array of shape {values.shape}"
        raise MeasureError(f"the measure '{measure.name}' gave {shape} for {len(pictures)} pictures; give one for each")
    return values
