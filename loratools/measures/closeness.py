"""How close a picture's style is to that of reference pictures, by what the base's own UNet sees; no other model.

What the reference pictures differ by from the base's own is a direction in the space of features: from the mean of the
base's pictures to the mean of the reference ones, each feature over its deviation among both. A picture's place along
it is 0 at the base and 1 at the reference; what it shows beside the style lies across and hardly counts. Beyond 1 is as
far off as before it, so that a LoRA that overdoes the style is not closer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loratools.errors import MeasureError
from loratools.measures.estimate import Values
from loratools.measures.measure import Better, Shown

Describe = Callable[[Sequence[Shown]], Values]  # pictures -> features (n, d)
_FEWEST = 2  # pictures on each side, without which there is no deviation


@dataclass(frozen=True, eq=False)
class Closeness:
    """1 - |1 - the place along the way from the base's pictures to the reference ones|.

    Attributes:
        start: (d,) the base's mean, and ``way`` (d,) from there to the reference's, both over ``deviation`` (d,).
        apart: how far the two kinds of pictures are apart in deviations along the way: below about 1 they overlap, and
            a picture's place tells little.
    """

    describe: Describe
    start: Values
    way: Values
    deviation: Values
    apart: float
    name: str = "style"
    better: Better = "higher"

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        return 1 - np.abs(1 - self.place(pictures))

    def place(self, pictures: Sequence[Shown]) -> Values:
        """(n,): 0 as the base's own pictures are, 1 as the reference ones."""
        return _place(self.describe(pictures) / self.deviation, self.start, self.way)


def style_closeness(describe: Describe, base: Sequence[Shown], reference: Sequence[Shown]) -> Closeness:
    """The measure for reference pictures, such as those that were held out of training.

    Args:
        describe: such as :class:`loratools.measures.probe.unet_features.UNetFeatures`.
        base: the base's own pictures.
    Raises:
        MeasureError: for fewer than two pictures on a side, or pictures that do not differ.
    """
    if min(len(base), len(reference)) < _FEWEST:
        raise MeasureError(
            f"closeness needs two pictures of the base and two to be close to; there are {len(base)} and "
            f"{len(reference)}"
        )
    one, two = describe(base), describe(reference)
    within = np.sqrt((one.var(0) + two.var(0)) / 2)
    deviation = np.where(within <= 1e-6 * max(float(within.max(initial=0.0)), 1e-12), np.inf, within)
    one, two = one / deviation, two / deviation
    start, way = one.mean(0), two.mean(0) - one.mean(0)
    if not float(way @ way):
        raise MeasureError("the pictures to be close to do not differ from the base's own")
    places = _place(one, start, way), _place(two, start, way)
    spread = float(np.sqrt((places[0].var(ddof=1) + places[1].var(ddof=1)) / 2))
    return Closeness(describe, start, way, deviation, 1 / max(spread, 1e-9))


def _place(scaled: Values, start: Values, way: Values) -> Values:
    place: Values = (scaled - start) @ way / float(way @ way)
    return place
