"""Closeness along the way from the base's pictures to the reference ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from loratools.errors import MeasureError
from loratools.measures.closeness import style_closeness
from loratools.measures.measure import Shown

WAY = np.zeros(40)
WAY[:5] = 4.0


def shown(features: np.ndarray) -> list[Shown]:
    """Pictures whose pixels are the features, which :func:`describe` reads back."""
    return [Shown(np.asarray(row, dtype=np.float64), "", n) for n, row in enumerate(features)]  # type: ignore[arg-type]


def describe(pictures: Sequence[Shown]) -> np.ndarray:
    return np.stack([picture.pixels for picture in pictures]).astype(np.float64)


def drawn(part: float, count: int = 24, seed: int = 0) -> list[Shown]:
    rng = np.random.default_rng(seed)
    return shown(rng.normal(size=(count, len(WAY))) + part * WAY)


def test_the_base_is_at_0_the_reference_at_1_and_beyond_is_as_far_as_before() -> None:
    measure = style_closeness(describe, drawn(0, seed=1), drawn(1, seed=2))
    places = [measure.place(drawn(part, 200, 3)).mean() for part in (0, 0.5, 1, 1.5)]
    assert places == pytest.approx([0, 0.5, 1, 1.5], abs=0.1)
    close = [measure(drawn(part, 200, 3)).mean() for part in (0, 0.5, 1, 1.5)]
    assert close[2] > close[1] > close[0] and close[3] == pytest.approx(close[1], abs=0.1)
    assert measure.better == "higher" and measure.apart > 3


def test_what_lies_across_hardly_counts() -> None:
    measure = style_closeness(describe, drawn(0, seed=1), drawn(1, seed=2))
    across = np.zeros(40)
    across[20] = 10.0
    plain, other = drawn(1, 100, 3), drawn(1, 100, 3)
    moved = shown(describe(other) + across)
    assert abs(measure.place(moved).mean() - measure.place(plain).mean()) < 0.2


def test_a_feature_that_never_changes_counts_for_nothing() -> None:
    base, reference = describe(drawn(0)), describe(drawn(1))
    base[:, 7], reference[:, 7] = 3.0, 3.0
    assert np.isfinite(style_closeness(describe, shown(base), shown(reference))(shown(reference))).all()


def test_too_few_pictures_or_the_same_ones_say_nothing() -> None:
    with pytest.raises(MeasureError, match="there are 1 and 24"):
        style_closeness(describe, drawn(0, 1), drawn(1))
    with pytest.raises(MeasureError, match="do not differ"):
        style_closeness(describe, drawn(0), drawn(0))
