"""Runs ``loratools run`` in two processes that are started as a launcher would, several times over.

``python -m tests.recipe.launch.launched RUNS``: RUNS is a JSON list of ``{"args": [...], "world": 2, "dies": {...}}``.
The processes are forked, so that what is imported here need not be imported in each. ``dies`` names a ``rank``, and
when that ends by SIGKILL: ``while_writing`` the ``nth`` file of such a name (see :mod:`tests.killing`), or in the
training's ``step``. Prints, for each run, for each process: its exit status (minus a signal's number), and what it
said.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401  (now, and not in every run)
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

from loratools.cli import cli
from loratools.train.loop import TrainingLoop
from tests.killing import started

PATIENCE = 90.0  # seconds after which a run hangs


def main(runs: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    print(json.dumps([_launched(run["args"], run.get("world", 2), run.get("dies", {})) for run in runs]))


def _launched(arguments: list[str], world: int, dies: dict[str, Any]) -> list[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        said = [Path(scratch) / str(rank) for rank in range(world)]
        children = []
        for rank in range(world):
            own = dies if dies.get("rank") == rank else {}
            kill = own if "while_writing" in own else None
            children.append(
                started(lambda rank=rank, own=own: _run(rank, world, port, arguments, own, said[rank]), kill)  # type: ignore[misc]
            )
        statuses = _ended(children)
        return [{"status": status, "said": path.read_text()} for status, path in zip(statuses, said, strict=True)]


def _run(rank: int, world: int, port: int, arguments: list[str], dies: dict[str, Any], said: Path) -> None:
    out = os.open(said, os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if "step" in dies:
        _die_in_step(dies["step"])
    try:
        cli.main(arguments)
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(int(end.code or 0))


def _die_in_step(number: int) -> None:
    original = TrainingLoop._count

    def count(self: TrainingLoop, *given: Any) -> Any:
        record = original(self, *given)
        if record.step == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    TrainingLoop._count = count  # type: ignore[method-assign]


def _ended(children: list[int]) -> list[int | None]:
    """The status of each; None for one that hangs, and is killed."""
    statuses: dict[int, int | None] = {}
    deadline = time.monotonic() + PATIENCE
    while len(statuses) < len(children):
        for child in children:
            if child not in statuses and (ended := os.waitpid(child, os.WNOHANG))[0]:
                statuses[child] = os.waitstatus_to_exitcode(ended[1])
        if time.monotonic() > deadline:
            for child in set(children) - set(statuses):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                statuses[child] = None
        time.sleep(0.02)
    return [statuses[child] for child in children]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
