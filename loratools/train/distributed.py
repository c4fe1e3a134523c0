"""Several processes, one run: each takes its rows of every batch, and gradients are summed in one flat buffer.

``accelerate launch -m loratools train ...`` (or torchrun) starts the processes and names them in the environment.
The batch size is the whole step's, whatever the number of processes, so a run's result does not depend on it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from loratools.errors import PeerError, TrainingError
from loratools.launch import Rank


class Ranks(Rank):
    """This process among those of one training; the main one is the one that writes."""

    def rows(self, count: int) -> tuple[int, int]:
        """First and last (exclusive) of this process' rows of a batch of ``count``; shares differ by one at most."""
        return count * self.rank // self.world, count * (self.rank + 1) // self.world

    def sum(self, flat: Tensor) -> None:
        """Sum ``flat`` over all processes, in place.

        Raises:
            PeerError: if another process is gone.
        """
        if self.world == 1:
            return
        try:
            torch.distributed.all_reduce(flat)
        except RuntimeError as error:
            raise PeerError(
                f"another process of this run stopped ({str(error).splitlines()[0]}); its own message says why"
            ) from error

    def any(self, here: bool) -> bool:
        """Whether ``here`` is true in any process; all must call it at the same point. Waits for the device."""
        if self.world == 1:
            return here
        flag = torch.full((1,), float(here), device=_device(self))
        self.sum(flag)
        return bool(flag.item() > 0)

    def wait(self) -> None:
        """Return when every process has called it."""
        if self.world > 1:
            self.sum(torch.zeros(1, device=_device(self)))


def join(device: str, environment: Mapping[str, str] = os.environ) -> tuple[Ranks, str]:
    """Join the processes that a launcher started; returns this process' rank and the device that it should use.

    A process may join and :func:`leave` several times, if all do.

    Raises:
        LaunchError: if the launcher left the environment incomplete.
        TrainingError: if there are fewer GPUs than processes.
    """
    ranks, where = _rank_and_device(device, environment)
    if ranks.world > 1 and not torch.distributed.is_initialized():
        if where.startswith("cuda"):
            torch.cuda.set_device(torch.device(where))
        _join_group("nccl" if where.startswith("cuda") else "gloo")
    return ranks, where


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """:func:`join`, and :func:`leave` at the end of the block.

    Raises:
        LaunchError, TrainingError: as :func:`join`.
    """
    ranks, where = join(device)
    try:
        yield ranks, where
    finally:
        leave(ranks)


def check_device(device: str, environment: Mapping[str, str] = os.environ) -> None:
    """Raise what :func:`join` would, without waiting for the other processes."""
    _rank_and_device(device, environment)


def leave(ranks: Ranks) -> None:
    """Leave the group again."""
    if ranks.world > 1 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _rank_and_device(device: str, environment: Mapping[str, str]) -> tuple[Ranks, str]:
    here = Rank.here(environment)
    ranks = Ranks(here.rank, here.world, here.local)
    return ranks, device if ranks.world == 1 else _own_device(device, ranks)


def _join_group(backend: str) -> None:
    """Create a process group over the one store that the processes share.

    The store still holds the keys of earlier groups, so each group has a prefix of its own. A new store for each group,
    as torch would make one, could connect to an earlier group's store that is just being closed.
    """
    store, rank, world = _rendezvous()
    number = store.add(f"groups of {rank}", 1)
    own = PrefixStore(f"group {number}", store)
    torch.distributed.init_process_group(backend, store=own, rank=rank, world_size=world)


@cache
def _rendezvous() -> tuple[Any, int, int]:
    """The store at MASTER_ADDR and MASTER_PORT, this process' rank and the world size; one store for the process."""
    store_rank_world: tuple[Any, int, int] = next(rendezvous("env://"))  # type: ignore[no-untyped-call]
    return store_rank_world


def _own_device(device: str, ranks: Ranks) -> str:
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if device not in ("auto", "cuda"):
        raise TrainingError(f"`device={device}` names one device for {ranks.world} processes; leave it at auto")
    if ranks.local >= torch.cuda.device_count():
        raise TrainingError(
            f"process {ranks.local + 1} of this machine has no GPU of its own, there are {torch.cuda.device_count()}; "
            "launch one process a GPU"
        )
    return f"cuda:{ranks.local}"


def _device(ranks: Ranks) -> torch.device:
    gloo = torch.distributed.get_backend() == "gloo"
    return torch.device("cpu") if gloo else torch.device("cuda", ranks.local)
