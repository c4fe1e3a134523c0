"""The painter on a GPU: graphs are replayed on held stacks, and memory that is capped makes smaller pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from loratools.studio.live.painter import Painter, Stopped
from loratools.studio.live.painter_options import PainterOptions
from tests.studio.live.conftest import Wishes
from tests.studio.live.test_painter import pixels

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture
def painter() -> Iterator[Painter]:
    made = Painter(PainterOptions("cuda"), print)
    yield made
    made.close()


def nothing(done: int, steps: int) -> None:
    """Called after each step."""


def test_a_picture_is_the_same_whatever_was_drawn_before_it(painter: Painter, wishes: Wishes) -> None:
    for quality, most in (("drag", 12), ("rest", 2)):
        own = "drag" if quality == "drag" else "rest"
        first = pixels(painter.draw(wishes(own, {"OUT05": 1.5}), nothing))
        for value in (0.1, -1.0):
            other = pixels(painter.draw(wishes(own, {"OUT05": value, "BASE": 0.3}), nothing))
            assert np.abs(other - first).mean() > 0.5
        again = pixels(painter.draw(wishes(own, {"OUT05": 1.5}), nothing))
        assert np.abs(again - first).max() <= most


def test_a_stopped_picture_leaves_the_next_one_whole(painter: Painter, wishes: Wishes) -> None:
    first = pixels(painter.draw(wishes("rest"), nothing))

    def stop(done: int, steps: int) -> None:
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        painter.draw(wishes("rest", {"MID": 3.0}), stop)
    assert np.abs(pixels(painter.draw(wishes("rest"), nothing)) - first).max() <= 2
