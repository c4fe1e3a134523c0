"""Runs a config in processes that end by SIGKILL, one after another: ``python -m tests.train.killed CONFIG KILLS``.

KILLS is a JSON list of those of :mod:`tests.killing`; seconds are counted since the log was opened. Each run goes on
where the one before was; the last one is left alone. Prints the signals as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401  (now, and not in every run)
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

from loratools.train.config.read import read_config
from loratools.train.trainer import train
from tests.killing import Kill, forked


def main(config: Path, kills: list[Kill]) -> None:
    torch.set_num_threads(1)
    print(json.dumps([_run(config, kill, resume=number > 0) for number, kill in enumerate([*kills, None])]))


def _run(config: Path, kill: Kill | None, *, resume: bool) -> int:
    settings = read_config(config, {"resume": resume})[0]
    log = settings.out / f"{settings.name}.jsonl"
    before = log.stat().st_ino if log.exists() else 0
    return forked(
        lambda: train(settings, progress=False), kill, lambda: (log.stat().st_ino if log.exists() else 0) != before
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
