"""Seconds a step and peak memory of full trainings, ours and sd-scripts'."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import full_size
from benchmarks.training.bench import GIB, Bench, Options, Rows, fresh_memory, peak_gib
from benchmarks.training.peer import SCRIPT, TOKENIZERS
from loratools.pocket.tokenizer import train_tokenizer

ADAFACTOR = {
    "optimizer": "Adafactor",
    "optimizer_args": {"scale_parameter": False, "relative_step": False, "warmup_init": False},
}
FUSED = {"weights": "bf16", "fused_backward_pass": "on", "max_grad_norm": 0.0, **ADAFACTOR}
SD15: tuple[tuple[str, dict[str, Any]], ...] = (
    ("AdamW, fp32 weights, graph", {"graph": "on"}),
    ("AdamW, fp32 weights, eager", {}),
    (
        "AdamW, bf16 weights, in backward, graph",
        {"graph": "on", "weights": "bf16", "fused_backward_pass": "on", "max_grad_norm": 0.0},
    ),
    ("AdamW8bit, fp32 weights", {"optimizer": "AdamW8bit"}),
    ("Adafactor, bf16 weights, in backward", {**FUSED, "graph": "auto"}),
    ("Adafactor, bf16 weights, in backward, checkpointing", {**FUSED, "graph": "auto", "gradient_checkpointing": True}),
)


class FullBench(Bench):
    """A base and pictures; every measurement trains all weights of what the settings say anew."""

    def __init__(self, base: Path, options: Options, size: int, **settings: Any) -> None:
        super().__init__(base, options.work, options, size, network_type="full", preset="full", **settings)

    def trained(self, batch: int, steps: int, *, by_rule: bool = False, **settings: Any) -> Iterator[Any]:
        """The steps of fresh weights; those of the measurement before are freed first."""
        self.run = dataclasses.replace(self.run, trained=None)  # type: ignore[arg-type]
        gc.collect()
        torch.cuda.empty_cache() if torch.cuda.is_available() else None
        yield from super().trained(batch, steps, by_rule=by_rule, **settings)


def part_sd15(options: Options, rows: Rows) -> None:
    """SD1.5 at 512, UNet and text encoder."""
    bench = FullBench(options.sd15, options, options.size)
    for name, settings in SD15:
        if settings.get("optimizer") == "AdamW8bit" and importlib.util.find_spec("bitsandbytes") is None:
            continue
        for batch in (1,) if "checkpointing" in name else options.batches:
            _add(rows, bench, f"SD1.5, {name}", batch, options.steps, settings)


def part_sdxl(options: Options, rows: Rows) -> None:
    """SDXL's UNet at 1024."""
    fresh_memory()
    bench = FullBench(options.sdxl, options, 64 if options.tiny else 1024, te_lr=0.0, **FUSED)
    rows.add("SDXL: load and encode", peak_gib=peak_gib())
    settings = {**FUSED, "graph": "auto"}
    name = "SDXL UNet, Adafactor, bf16 weights, in backward"
    _add(rows, bench, f"{name}, checkpointing", 1, options.steps // 2, {**settings, "gradient_checkpointing": True})
    _add(rows, bench, name, 1, options.steps // 2, settings)


def _add(rows: Rows, bench: FullBench, name: str, batch: int, steps: int, settings: dict[str, Any]) -> None:
    try:
        rows.add(name, **bench.measure(batch, steps, **settings))
    except torch.OutOfMemoryError as error:
        rows.add(f"{name}: out of memory", batch=batch, error=str(error)[:200])


def part_peer(options: Options, rows: Rows) -> None:
    """sd-scripts' train_db.py on SD1.5 at 512."""
    for optimizer in ("AdamW", "AdamW8bit"):
        if optimizer == "AdamW8bit" and importlib.util.find_spec("bitsandbytes") is None:
            continue
        for batch in options.batches:
            _peer(options, rows, "train_db", options.sd15, options.size, batch, [f"--optimizer_type={optimizer}"])


def part_peer_sdxl(options: Options, rows: Rows) -> None:
    """sd-scripts' sdxl_train.py on SDXL at 1024: its own recipe for 24 GB."""
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
    ]
    size = 64 if options.tiny else 1024
    for name, checkpointing in ((" with checkpointing", ["--gradient_checkpointing"]), ("", [])):
        _peer(options, rows, "sdxl_train", options.sdxl, size, 1, [*more, *checkpointing], name)


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
        f"--mixed_precision={'no' if options.tiny else 'bf16'}",
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
