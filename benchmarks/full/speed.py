"""Seconds a step and peak memory of full trainings, ours and sd-scripts'."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import full_size
from benchmarks.training.bench import GIB, Bench, Options, Rows, fresh_memory, peak_gib
from benchmarks.training.peer import SCRIPT, TOKENIZERS
from loratools.pocket.tokenizer import train_tokenizer
from loratools.train.optim.trainable import Trainable

ADAFACTOR = {
    "optimizer": "Adafactor",
    "optimizer_args": {"scale_parameter": False, "relative_step": False, "warmup_init": False},
}
PEAK = "Adafactor, bf16 weights, in backward, graph"
FUSED = {"weights": "bf16", "fused_backward_pass": "on", "max_grad_norm": 0.0, **ADAFACTOR}
SD15: tuple[tuple[str, dict[str, Any]], ...] = (
    ("AdamW, fp32 weights, graph", {"graph": "on"}),
    (f"{PEAK}, checkpointing", {**FUSED, "graph": "on", "gradient_checkpointing": True}),
    ("AdamW8bit, fp32 weights, graph of both passes", {"graph": "on", "optimizer": "AdamW8bit"}),
    (PEAK, {**FUSED, "graph": "on"}),
    ("AdamW, fp32 weights, eager", {}),
    (
        "AdamW, bf16 weights, in backward, graph",
        {"graph": "on", "weights": "bf16", "fused_backward_pass": "on", "max_grad_norm": 0.0},
    ),
)


class FullBench(Bench):
    """A base and pictures; every measurement trains all weights of what the settings say anew."""

    def __init__(self, base: Path, options: Options, size: int, **settings: Any) -> None:
        super().__init__(base, options.work, options, size, network_type="full", preset="full", **settings)

    def trained(self, batch: int, steps: int, *, by_rule: bool = False, **settings: Any) -> Iterator[Any]:
        """The steps of fresh weights; those of the measurement before are freed first."""
        self.run = dataclasses.replace(self.run, trained=None)  # type: ignore[arg-type]
        fresh_memory()  # the peak is this measurement's, not the one's before
        yield from super().trained(batch, steps, by_rule=by_rule, **settings)


def part_sd15(options: Options, rows: Rows) -> None:
    """SD1.5 at 512, UNet and text encoder."""
    bench = FullBench(options.sd15, options, options.size)
    speed = copy_speed()
    for name, settings in SD15:
        if settings.get("optimizer") == "AdamW8bit" and importlib.util.find_spec("bitsandbytes") is None:
            continue
        for batch in (1,) if "checkpointing" in name else options.batches:
            _add(rows, bench, f"SD1.5, {name}", batch, options.steps, settings, speed)


def part_sdxl(options: Options, rows: Rows) -> None:
    """SDXL's UNet at 1024."""
    fresh_memory()
    bench = FullBench(options.sdxl, options, 64 if options.tiny else 1024, te_lr=0.0, **FUSED)
    rows.add("SDXL: load and encode", peak_gib=peak_gib())
    speed = copy_speed()
    for name, settings in (
        ("graph, checkpointing", {"graph": "on", "gradient_checkpointing": True}),
        ("graph", {"graph": "on"}),
        ("eager, checkpointing", {"gradient_checkpointing": True}),
    ):
        _add(
            rows,
            bench,
            f"SDXL UNet, Adafactor, bf16 weights, in backward, {name}",
            1,
            options.steps // 2,
            {**FUSED, **settings},
            speed,
        )


def _add(
    rows: Rows, bench: FullBench, name: str, batch: int, steps: int, settings: dict[str, Any], speed: float
) -> None:
    try:
        measured = bench.measure(batch, steps, **settings)
    except torch.OutOfMemoryError as error:
        rows.add(f"{name}: out of memory", batch=batch, error=str(error)[:200])
    except Exception as error:  # the rows that follow are not to be lost
        traceback.print_exc()
        rows.add(f"{name}: failed", batch=batch, error=f"{type(error).__name__}: {error}"[:400])
    else:
        moved = moved_bytes(bench.run.trained)
        rows.add(name, **measured, moved_gb=moved / 1e9, floor_s=moved / speed)


def moved_bytes(trained: Trainable) -> int:
    """What a step has to move at the least, in bytes: no activation is counted.

    The weights that are computed with are read in the forward and in the backward pass, a gradient of their type is
    written and read, what the optimiser moves and its state are read and written, and so is the copy to compute with.
    """
    masters = trained.network.masters.values()  # type: ignore[attr-defined]
    live = sum(master.live.numel() * master.live.element_size() for master in masters)
    held = sum(master.held.numel() * master.held.element_size() for master in masters)
    copied = sum(master.live.nbytes for master in masters if master.held is not master.live)
    states = [value for state in trained.optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    return int(4 * live + 2 * held + copied + 2 * sum(value.nbytes for value in states))


def copy_speed() -> float:
    """Bytes a second that a copy within the device's memory reads and writes."""
    if not torch.cuda.is_available():
        return float("nan")
    source = torch.zeros(2**30, dtype=torch.uint8, device="cuda")
    into = torch.empty_like(source)
    for _ in range(3):
        into.copy_(source)
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(10):
        into.copy_(source)
    torch.cuda.synchronize()
    return 20 * source.nbytes / (time.perf_counter() - begun)


def part_peer(options: Options, rows: Rows) -> None:
    """sd-scripts' train_db.py on SD1.5 at 512."""
    for optimizer in ("AdamW", "AdamW8bit"):
        if optimizer == "AdamW8bit" and importlib.util.find_spec("bitsandbytes") is None:
            continue
        for batch in options.batches:
            _peer(options, rows, "train_db", options.sd15, options.size, batch, [f"--optimizer_type={optimizer}"])


def part_peer_sdxl(options: Options, rows: Rows) -> None:
    """sd-scripts' sdxl_train.py on SDXL at 1024: its own recipe for 24 GB."""
    _peer_sdxl(options, rows, " with checkpointing", ["--gradient_checkpointing"])


def part_peer_sdxl_plain(options: Options, rows: Rows) -> None:
    """The same without checkpointing."""
    _peer_sdxl(options, rows, "", [])


def _peer_sdxl(options: Options, rows: Rows, name: str, checkpointing: list[str]) -> None:
    more = [
        "--optimizer_type=Adafactor",
        "--optimizer_args",
        "scale_parameter=False",
        "relative_step=False",
        "warmup_init=False",
        "--fused_backward_pass",
        "--full_bf16",
        "--max_grad_norm=0",
        "--no_half_vae",
        *checkpointing,
    ]
    _peer(options, rows, "sdxl_train", options.sdxl, 64 if options.tiny else 1024, 1, more, name)


def _peer(
    options: Options, rows: Rows, module: str, base: Path, size: int, batch: int, more: list[str], name: str = ""
) -> None:
    for tokenizer in TOKENIZERS:
        train_tokenizer(full_size.WORDS, options.work / "tokenizers" / tokenizer, vocabulary=600)
    images = full_size.pictures(options.work / f"peer{size}" / "100_style", size, 8).parent
    result, log = options.work / f"{module}{batch}.json", options.out / f"{module}{batch}{name.strip()[:4]}.log"
    result.unlink(missing_ok=True)
    steps = options.steps // (2 if "sdxl" in module else 1)
    arguments = [
        f"--pretrained_model_name_or_path={base}",
        f"--tokenizer_cache_dir={options.work / 'tokenizers'}",
        f"--train_data_dir={images}",
        f"--output_dir={options.work / 'peer-out'}",
        "--output_name=peer",
        f"--resolution={size}",
        f"--train_batch_size={batch}",
        f"--max_train_steps={steps}",
        "--learning_rate=1e-6",
        f"--mixed_precision={'no' if options.tiny and 'sdxl' not in module else 'bf16'}",
        "--sdpa",
        "--cache_latents",
        "--seed=1",
        "--caption_extension=.txt",
        "--max_data_loader_n_workers=2",
        "--persistent_data_loader_workers",
        "--save_model_as=safetensors",
        "--lr_scheduler=constant",
        *more,
    ]
    with log.open("w") as stream:
        code = subprocess.run(
            [sys.executable, SCRIPT, options.sd_scripts, result, module, *arguments],
            cwd=options.sd_scripts,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=options.peer_timeout,
        ).returncode
    measured: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {"times": [], "peak": 0}
    gaps = [late - early for early, late in zip(measured["times"], measured["times"][1:], strict=False)]
    title = f"sd-scripts {module}, {more[0].partition('=')[2]}{name}"
    if not gaps:
        rows.add(f"{title} failed", batch=batch, code=code, log=log.read_text()[-1500:])
        return
    steady = statistics.median(gaps[len(gaps) // 2 :])
    rows.add(
        title,
        batch=batch,
        s_per_step=steady,
        images_per_s=batch / steady,
        peak_gib=measured["peak"] / GIB,
        steps=len(gaps) + 1,
    )
