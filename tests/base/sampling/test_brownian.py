from __future__ import annotations

import pytest
import torch

from loratools.base.sampling.brownian import BrownianPath, BrownianTree
from loratools.base.sampling.noise import noise_stream, step_noise

LEVELS = [14.6, 9.7003, 1.1, 0.03]


def draw(seed: int) -> torch.Tensor:
    return noise_stream("webui-cpu", seed)((4,))


@pytest.mark.parametrize(
    ("seed", "ways"),
    [
        (
            11,
            [
                [-2.205287, 0.61458, -0.973261, 1.018003],
                [-0.44584, -3.694941, -2.237181, 3.787623],
                [0.362772, 0.243359, 0.840426, 0.350998],
            ],
        ),
        (
            2**33 + 5,
            [
                [2.449357, 0.83407, 3.781345, 4.291089],
                [3.332604, -1.197208, 1.697485, 5.859396],
                [-0.393312, 1.213721, 0.636301, -0.710694],
            ],
        ),
    ],
)
def test_the_tree_is_torchsdes(seed: int, ways: list[list[float]]) -> None:
    """``-torchsde.BrownianTree(0.03, torch.zeros(4), 14.6, entropy=seed)(b, a)``, torchsde 0.2.6 on a CPU."""
    tree = BrownianTree(seed, LEVELS[-1], LEVELS[0], draw)
    for now, after, wanted in zip(LEVELS, LEVELS[1:], ways, strict=False):
        assert (tree(now, after) * (now - after) ** 0.5).tolist() == pytest.approx(wanted, abs=3e-6)


def test_a_tree_is_a_function_of_its_seed_whatever_is_asked() -> None:
    one, other = (BrownianTree(7, 0.03, 14.6, draw) for _ in range(2))
    other(10.0, 3.0)
    assert torch.equal(one(2.0, 1.0), other(2.0, 1.0))
    assert not torch.equal(one(1.0, 0.5), BrownianTree(8, 0.03, 14.6, draw)(1.0, 0.5))


@pytest.mark.parametrize("kind", ["own", "webui-gpu"])
def test_ways_that_overlap_agree_and_have_unit_deviation(kind: str) -> None:
    way = step_noise(kind, [3, 4], (4, 64, 64), (0.03, 14.6))
    first, whole = way(9.0, 5.0), way(9.0, 2.0)
    rest = whole * 7**0.5 - first * 4**0.5
    for made in (first, whole, rest / 3**0.5):
        assert made.shape == (2, 4, 64, 64)
        assert abs(made.mean()) < 0.03 and abs(made.std() - 1) < 0.02
    assert abs((first * rest).mean()) < 0.05 and abs((first[0] * first[1]).mean()) < 0.03
    after = way(5.0, 2.0)
    torch.testing.assert_close(after * 3**0.5, rest, rtol=1e-3, atol=1e-4)


def test_draws_stand_where_the_first_noise_left_off() -> None:
    for kind in ("own", "webui-cpu", "webui-gpu"):
        numbers = noise_stream(kind, 5)
        skipped = numbers((1, 4, 8, 8))
        way = step_noise(kind, [5], (4, 8, 8), None)
        wanted = [numbers((1, 4, 8, 8)) for _ in range(2)]
        made = [way(3.0, 2.0), way(2.0, 1.0)]
        assert all(torch.equal(a, b) for a, b in zip(made, wanted, strict=True))
        assert not torch.equal(made[0], skipped)


def test_our_path_forgets_what_lies_behind() -> None:
    path = BrownianPath(lambda: torch.randn(4))
    for now in range(50, 1, -1):
        path(float(now), float(now - 1))
    assert len(path._values) == 2
