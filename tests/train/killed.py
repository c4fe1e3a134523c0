"""Runs a config in processes that end by SIGKILL, one after another: ``python -m tests.train.killed CONFIG KILLS``.

KILLS is a JSON list of ``{"after": seconds}`` (since the log was opened) and ``{"while_writing": pattern, "nth": n}``:
half of the n-th file with such a name is on the disk then. Each run goes on where the one before was; the last one is
left alone. All are forked from here, which has imported everything and has no thread. Prints the signals as JSON.
"""

from __future__ import annotations

import fnmatch
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401  (now, and not in every run)
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

from loratools import files
from loratools.train.loop import train
from loratools.train.read_config import read_config


def main(config: Path, kills: list[dict[str, Any]]) -> None:
    torch.set_num_threads(1)
    print(json.dumps([_forked(config, kill, resume=number > 0) for number, kill in enumerate([*kills, None])]))


def _forked(config: Path, kill: dict[str, Any] | None, *, resume: bool) -> int:
    settings = read_config(config, {"resume": resume})
    log = settings.out / f"{settings.name}.jsonl"
    before = log.stat().st_ino if log.exists() else 0
    child = os.fork()
    if child == 0:
        if kill is not None and "while_writing" in kill:
            _die_while_writing(kill["while_writing"], kill["nth"])
        train(settings, progress=False)
        os._exit(0)
    if kill is not None and "after" in kill:
        deadline = time.monotonic() + 60
        while (log.stat().st_ino if log.exists() else 0) == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(kill["after"])
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _die_while_writing(pattern: str, nth: int) -> None:
    original, left = files._sync, nth

    def sync(path: Path) -> None:
        nonlocal left
        if fnmatch.fnmatch(path.name, pattern):
            left -= 1
            if left == 0:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        original(path)

    files._sync = sync


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
