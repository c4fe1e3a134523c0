"""Several processes, one command: which of them this one is.

``accelerate launch`` and torchrun start the processes, on one machine or on several, and tell each its number in the
environment; so may anything else that sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from loratools.errors import LaunchError

# what is the same in all processes of a launch, and often another in the next one
_SHARED = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "WORLD_SIZE")


@dataclass(frozen=True)
class Rank:
    """Number ``rank`` of ``world`` processes; ``local`` counts within one machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @staticmethod
    def here(environment: Mapping[str, str] | None = None) -> Rank:
        """From what launchers set.

        Raises:
            LaunchError: if that is no rank below its world size, or there are several processes without one.
        """
        told = os.environ if environment is None else environment
        if told.get("WORLD_SIZE", "1") != "1" and "RANK" not in told:
            raise LaunchError(
                f"WORLD_SIZE is {told['WORLD_SIZE']} but RANK is not set; start several processes by "
                "accelerate launch or torchrun"
            )
        try:
            found = Rank(
                *(
                    int(told.get(key, default))
                    for key, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", told.get("RANK", "0")))
                )
            )
        except ValueError as error:
            raise LaunchError(f"RANK, WORLD_SIZE and LOCAL_RANK have to be whole numbers ({error})") from error
        if not 0 <= found.rank < found.world:
            raise LaunchError(f"RANK {found.rank} is not below WORLD_SIZE {found.world}; check how this was launched")
        return found

    @property
    def main(self) -> bool:
        """Whether this is the process that writes what is written once, and speaks."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"process {self.rank + 1} of {self.world}"


def launch_name(environment: Mapping[str, str] | None = None) -> str:
    """The same in all processes of a launch; another launch may have it too, since launchers have usual ports."""
    told = os.environ if environment is None else environment
    return " ".join(f"{key}={told.get(key, '')}" for key in _SHARED)
