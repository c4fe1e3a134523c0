"""The share of a style: 0 for the base, 1 for the whole LoRA, in between in order, and nothing where there is none."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from loratools.measures.measure import take
from loratools.measures.probe.ridge import Scaling
from loratools.measures.probe.style import StyleMeasure, style_measure
from tests.measures.probe.conftest import look, patterns

BASE = [look(n) for n in range(8)]
WHOLE = [look(n, stripes=1.0) for n in range(8)]
TAUGHT = [look(50 + n, stripes=1.1) for n in range(8)]


def measure_of(**more: object) -> StyleMeasure:
    seen = style_measure(patterns, TAUGHT, BASE, WHOLE, **more)  # type: ignore[arg-type]
    assert seen.measure is not None and "told apart with AUC" in seen.note and "of the way" in seen.note
    return seen.measure


def test_the_share_goes_from_the_base_to_the_whole_lora_in_order() -> None:
    measure = measure_of()
    assert (measure.name, measure.better) == ("style", "higher")
    shares = [take(measure, [look(n, stripes=w) for n in range(8)]).estimate.mean for w in (0.0, 0.3, 0.6, 1.0)]
    assert shares[0] < 0.1 and shares[-1] > 0.9 and all(a < b for a, b in pairwise(shares))
    beyond = take(measure, [look(n, stripes=2.0) for n in range(8)]).values
    assert (beyond <= 1).all() and beyond.mean() > 0.99


def test_another_change_is_not_the_style() -> None:
    measure = measure_of()
    grainy = take(measure, [look(n, stripes=1.0, grain=0.3) for n in range(8)]).estimate.mean
    grain_alone = take(measure, [look(n, grain=0.3) for n in range(8)]).estimate.mean
    assert grainy > 0.8 > 0.3 > grain_alone


def test_good_pictures_show_how_much_of_the_way_is_style() -> None:
    """Where all good ones stand at 0.7 of the way, 0.7 is the whole style; and never less than half of the way."""
    plain, marked = measure_of(), measure_of(good=[look(n, stripes=0.7) for n in range(8)])
    assert 0.5 * plain.end < marked.end < plain.end
    part = [look(20 + n, stripes=0.7) for n in range(8)]
    assert take(marked, part).estimate.mean > take(plain, part).estimate.mean
    none = measure_of(good=BASE)
    assert none.end == pytest.approx(0.5 * plain.end)


def test_no_style_is_a_sentence() -> None:
    alike = style_measure(patterns, [look(70 + n) for n in range(8)], BASE, WHOLE)
    assert alike.measure is None and "the base's own pictures show it as well" in alike.note
    few = style_measure(patterns, TAUGHT[:2], BASE, WHOLE)
    assert few.measure is None and few.note.startswith("style: 2 pictures are too few")
    weak = style_measure(patterns, TAUGHT, BASE, [look(n, stripes=0.05) for n in range(8)])
    assert weak.measure is None and weak.note.endswith("too little to be kept")


def test_a_share_is_halfway_halfway() -> None:
    measure = StyleMeasure(lambda _: np.empty(0), Scaling(np.zeros(1), np.ones(1)), np.zeros(1), np.ones(1), 0.8)
    shares = measure.of(np.array([[0.0], [0.4], [0.8], [-50.0], [50.0]]))
    assert shares == pytest.approx([0.0067, 0.5, 0.9933, 0, 1], abs=1e-4)
