"""Runs sd-scripts' own trainer in this process and notes when each of its optimiser steps ended.

``python benchmarks/training/sd_scripts_steps.py CHECKOUT RESULT.json train_network|sdxl_train_network ARGUMENTS...``
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

_WARM = 3


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

    torch.optim.AdamW.step = step  # type: ignore[method-assign,assignment]
    script = importlib.import_module(module)
    train_util = importlib.import_module("library.train_util")
    parser = script.setup_parser()
    args = parser.parse_args()
    train_util.verify_command_line_training_args(args)
    args = train_util.read_config_from_file(args, parser)
    trainer = script.SdxlNetworkTrainer() if module.startswith("sdxl") else script.NetworkTrainer()
    try:
        trainer.train(args)
    finally:
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        Path(result).write_text(json.dumps({"times": times, "peak": peak}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
