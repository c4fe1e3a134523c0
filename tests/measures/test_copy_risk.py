"""What counts as a copy of a training picture."""

from __future__ import annotations

import pytest
import torch

from loratools.measures.copy_risk import is_copy, usual_nearest


def test_what_is_usual_among_images_is_their_own_nearest_neighbours() -> None:
    vectors = torch.eye(4)
    vectors[3] = torch.tensor([0.8, 0.6, 0.0, 0.0])
    assert usual_nearest(vectors[:2]) is None
    assert 0.79 < (usual_nearest(vectors) or 0) <= 0.8 + 1e-6


@pytest.mark.parametrize(
    "near, before, usual, copied",
    [
        (0.99, None, None, False),  # of fewer than three training pictures nothing is known
        (0.7, None, 0.2, False),
        (0.72, None, 0.2, True),
        (0.72, None, 0.9, False),
        (0.64, 0.13, 0.2, True),  # an overfit epoch that drew a training picture's pose
        (0.63, 0.47, 0.2, False),  # two sunsets
        (0.9, 0.9, 0.2, False),
    ],
)
def test_a_copy_is_nearer_than_is_usual_and_was_brought_there(
    near: float, before: float | None, usual: float | None, copied: bool
) -> None:
    assert is_copy(near, before, usual) is copied
