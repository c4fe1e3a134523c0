"""Several processes, one command: the rank of this process among them.

``accelerate launch`` and torchrun start the processes, on one machine or on several, and set RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR and MASTER_PORT in their environment; anything else that sets these works as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from loratools.errors import LaunchError


@dataclass(frozen=True)
class Rank:
    """Number ``rank`` of ``world`` processes; ``local`` counts within one machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @staticmethod
    def here(environment: Mapping[str, str] | None = None) -> Rank:
        """The rank that the environment variables say.

        Raises:
            LaunchError: if RANK is not below WORLD_SIZE, or is missing where WORLD_SIZE is above 1.
        """
        values = os.environ if environment is None else environment
        if values.get("WORLD_SIZE", "1") != "1" and "RANK" not in values:
            raise LaunchError(
                f"WORLD_SIZE is {values['WORLD_SIZE']} but RANK is not set; start several processes by "
                "accelerate launch or torchrun"
            )
        try:
            rank, world = int(values.get("RANK", "0")), int(values.get("WORLD_SIZE", "1"))
            local = int(values.get("LOCAL_RANK", rank))
        except ValueError as error:
            raise LaunchError(f"RANK, WORLD_SIZE and LOCAL_RANK have to be whole numbers ({error})") from error
        if not 0 <= rank < world:
            raise LaunchError(f"RANK {rank} is not below WORLD_SIZE {world}; check how this was launched")
        return Rank(rank, world, local)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and prints messages for all."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"process {self.rank + 1} of {self.world}"
