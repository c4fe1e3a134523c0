"""Runs sd-scripts' own trainer in this process and notes when each of its optimiser steps ended.

``python benchmarks/training/sd_scripts_steps.py CHECKOUT RESULT.json MODULE ARGUMENTS...``, where MODULE is
train_network, sdxl_train_network, train_db or sdxl_train. The last two end after ``--max_train_steps`` without writing
their checkpoint.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

_WARM = 3
_WHOLE = ("train_db", "sdxl_train")  # which train all weights


def main(checkout: str, result: str, module: str, arguments: list[str]) -> None:
    """Train, then write ``{"times": seconds since the start at each step, "peak": bytes}``."""
    sys.path.insert(0, checkout)
    sys.argv = [module, *arguments]
    import torch
    import transformers

    processor = transformers.CLIPImageProcessor  # newer transformers dropped the older name that sd-scripts imports
    sys.modules["transformers"].CLIPFeatureExtractor = processor  # type: ignore[attr-defined]
    times: list[float] = []
    original = torch.optim.AdamW.step

    def step(self: Any, *given: Any, **named: Any) -> Any:
        result = original(self, *given, **named)
        times.append(time.perf_counter())
        if torch.cuda.is_available() and len(times) == _WARM:
            torch.cuda.reset_peak_memory_stats()
        return result

    if module in _WHOLE:
        _count_scheduler_steps(times, int(_argument(arguments, "--max_train_steps")))
    else:
        torch.optim.AdamW.step = step  # type: ignore[method-assign,assignment]
    script = importlib.import_module(module)
    train_util = importlib.import_module("library.train_util")
    parser = script.setup_parser()
    args = parser.parse_args()
    train_util.verify_command_line_training_args(args)
    args = train_util.read_config_from_file(args, parser)
    try:
        if module in _WHOLE:
            script.train(args)
        else:
            (script.SdxlNetworkTrainer() if module.startswith("sdxl") else script.NetworkTrainer()).train(args)
    finally:
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        Path(result).write_text(json.dumps({"times": times, "peak": peak}))


def _argument(arguments: list[str], name: str) -> str:
    return next(text.partition("=")[2] for text in arguments if text.startswith(f"{name}="))


def _count_scheduler_steps(times: list[float], steps: int) -> None:
    """Note the time of every step of the learning-rate schedule, one for each step of any optimiser, and leave after
    the last: the checkpoint of a random model is not worth its gigabytes."""
    import torch
    from accelerate.scheduler import AcceleratedScheduler

    original = AcceleratedScheduler.step

    def step(self: Any, *given: Any, **named: Any) -> None:
        original(self, *given, **named)
        times.append(time.perf_counter())
        if torch.cuda.is_available() and len(times) == _WARM:
            torch.cuda.reset_peak_memory_stats()
        if len(times) == steps:
            raise SystemExit(0)

    AcceleratedScheduler.step = step  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
