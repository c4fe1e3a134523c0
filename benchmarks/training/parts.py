"""The parts of the training benchmark that run loratools; each adds its rows as they are measured."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.bench import ROOT, Bench, Options, Rows, fresh_memory, peak_gib
from benchmarks.training.check import compared, deterministic
from benchmarks.training.plain_loop import seconds_per_step
from loratools.pocket import weights_folder
from loratools.train.distributed import join, leave
from loratools.train.step.placement import cast_and_move
from loratools.train.step.precision import pick_precision

SMALLEST: dict[str, Any] = {"graph": "on", "gradient_checkpointing": True, "te_lr": 0.0}
SDXL: tuple[tuple[str, int, dict[str, Any]], ...] = (  # row, batch, settings
    ("SDXL, small card: checkpointing, UNet only, graph", 1, SMALLEST),
    (
        "SDXL, small card: checkpointing, UNet only, AdamW8bit, graph off",
        1,
        {**SMALLEST, "graph": "off", "optimizer": "AdamW8bit"},
    ),
    ("SDXL, checkpointing, graph", 1, {"graph": "on", "gradient_checkpointing": True}),
    ("SDXL, graph", 1, {"graph": "on"}),
    ("SDXL, eager", 1, {}),
    ("SDXL, graph", 4, {"graph": "on"}),
    ("SDXL, eager", 4, {}),
)


def part_ours(options: Options, rows: Rows) -> None:
    """SD1.5 at 512, eager and as a graph."""
    bench = Bench(options.sd15, options.work, options, options.size)
    for batch in options.batches:
        rows.add("ours, graph", **bench.measure(batch, graph="on"))
        rows.add("ours, eager", **bench.measure(batch, options.steps // 2))
    rows.add(
        "ours, graph, gradient accumulation 2", **bench.measure(options.batches[0], graph="on", gradient_accumulation=2)
    )


def part_check(options: Options, rows: Rows) -> None:
    """In a process of its own: cuBLAS' workspace has to be set before anything has used it."""
    result = options.work / "check.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, *_worker(options, "--check-worker", result), "--check-steps", str(options.check_steps)]
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=180).returncode
    for row in json.loads(result.read_text()) if result.exists() else []:
        rows.add(**row)
    if code:
        rows.add("failed", code=code)


def check_worker(options: Options, result: Path) -> None:
    """The process of :func:`part_check`; its rows go to ``result``."""
    with deterministic():
        size = 64 if options.tiny else 256
        bench = Bench(options.sd15, options.work, options, size, count=10, mixed_precision="no", log_every=1)
        rows = []
        for row in compared(bench, options.check_steps):
            rows.append(row)
            result.write_text(json.dumps(rows))


def part_memory(options: Options, rows: Rows) -> None:
    """Peak over everything: loading, encoding the images, training."""
    fresh_memory()
    bench = Bench(options.sd15, options.work, options, options.size)
    rows.add("SD1.5: load and encode", peak_gib=peak_gib())
    for mode in ("off", "on"):
        rows.add(f"SD1.5, checkpointing, graph {mode}", **bench.measure(1, graph=mode, gradient_checkpointing=True))
    rows.add("SD1.5, no checkpointing, graph on", **bench.measure(1, graph="on"))


def part_sdxl(options: Options, rows: Rows) -> None:
    """SDXL at 1024."""
    size = 64 if options.tiny else 1024
    fresh_memory()
    bench = Bench(options.sdxl, options.work, options, size)
    rows.add("SDXL: load and encode", peak_gib=peak_gib())
    for name, batch, settings in SDXL:
        if settings.get("optimizer") == "AdamW8bit" and importlib.util.find_spec("bitsandbytes") is None:
            continue
        try:
            rows.add(name, **bench.measure(batch, options.steps // 2, **settings))
        except torch.OutOfMemoryError as error:
            rows.add(f"{name}: out of memory", batch=batch, error=str(error)[:200])


def part_compile(options: Options, rows: Rows) -> None:
    """The graph over compiled modules."""
    bench = Bench(options.sd15, options.work, options, options.size)
    for batch in options.batches[-1:]:
        rows.add("ours, compile and graph", **bench.measure(batch, graph="on", compile=True))


def part_ddp(options: Options, rows: Rows) -> None:
    """One process a GPU, four images each, against one."""
    for processes in (1, options.processes):
        result = options.work / f"ddp{processes}.json"
        launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        command = [*launcher, *_worker(options, "--ddp-worker", result), "--steps", str(options.steps)]
        code = subprocess.run(command, cwd=ROOT, check=False, timeout=240).returncode
        if code:
            rows.add(f"{processes} processes failed", code=code)
        else:
            rows.add(f"{processes} processes, four images each", **json.loads(result.read_text()))


def ddp_worker(options: Options, result: Path) -> None:
    """One of the processes of :func:`part_ddp`; the first writes its row to ``result``."""
    ranks, device = join("cpu" if options.tiny else "auto")
    own = dataclasses.replace(options, device=device)
    bench = Bench(own.sd15, own.work / f"rank{ranks.rank}", own, own.size, ranks)
    row = bench.measure(4 * ranks.world, graph="on")
    if ranks.main:
        result.write_text(json.dumps(row))
    leave(ranks)


def _worker(options: Options, role: str, result: Path) -> list[str]:
    """The interpreter's arguments for a process of this benchmark that writes to ``result``."""
    tiny = ["--tiny"] if options.tiny else []
    own = ["-m", "benchmarks.training", role, str(result), "--work", str(options.work), "--dim", str(options.dim)]
    return [*own, *tiny]


def part_cpu(options: Options, rows: Rows) -> None:
    """The pocket base: ours against the loop that one would write with diffusers and PEFT."""
    options = dataclasses.replace(options, device="cpu", steps=options.cpu_steps)
    bench = Bench(weights_folder(), options.work, options, 128)
    bench.config = bench.config.model_copy(update={"mixed_precision": "no"})
    bench.run = dataclasses.replace(bench.run, precision=pick_precision(bench.config, torch.device("cpu")))
    cast_and_move(bench.run.base, bench.run.precision)
    pictures = options.work / "pictures128x8"
    for batch in (1, 4):
        pairs = [
            (
                bench.measure(batch)["s_per_step"],
                seconds_per_step(weights_folder(), pictures, batch, options.dim, options.steps),
            )
            for _ in range(3)
        ]
        ours, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
        rows.add("pocket base on a CPU", batch=batch, s_per_step=ours, plain_s_per_step=plain, ratio=plain / ours)
