"""What launchers tell a process of itself."""

from __future__ import annotations

import pytest

from loratools.errors import LaunchError
from loratools.launch.rank import Rank


def test_ranks_are_read_from_the_launcher() -> None:
    assert Rank.here({}) == Rank(0, 1, 0) and Rank.here({}).main
    assert Rank.here({"RANK": "1", "WORLD_SIZE": "2"}) == Rank(1, 2, 1)
    assert str(Rank(1, 2)) == "process 2 of 2"
    with pytest.raises(LaunchError, match="RANK 2 is not below WORLD_SIZE 2"):
        Rank.here({"RANK": "2", "WORLD_SIZE": "2"})
    with pytest.raises(LaunchError, match="WORLD_SIZE is 2 but RANK is not set; start several processes by accelerate"):
        Rank.here({"WORLD_SIZE": "2"})
    with pytest.raises(LaunchError, match="whole numbers"):
        Rank.here({"RANK": "one"})
