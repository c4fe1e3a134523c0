"""sd-scripts' own trainer, in a process of its own, timed from the inside by ``sd_scripts_steps.py``."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import full_size
from benchmarks.training.bench import GIB, Options, Rows
from loratools.pocket.tokenizer import train_tokenizer

SCRIPT = Path(__file__).with_name("sd_scripts_steps.py")
TOKENIZERS = ("openai_clip-vit-large-patch14", "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k")


def part_peer(options: Options, rows: Rows) -> None:
    """sd-scripts' train_network.py on SD1.5 at 512."""
    _measure(options, rows, "train_network", options.sd15, options.size)


def part_peer_sdxl(options: Options, rows: Rows) -> None:
    """sd-scripts' sdxl_train_network.py on SDXL at 1024."""
    _measure(options, rows, "sdxl_train_network", options.sdxl, 64 if options.tiny else 1024)


def _measure(options: Options, rows: Rows, module: str, base: Path, size: int) -> None:
    """Train with sd-scripts' ``module`` at every batch size, and add a row for each."""
    for name in TOKENIZERS:
        train_tokenizer(full_size.WORDS, options.work / "tokenizers" / name, vocabulary=600)
    images = full_size.pictures(options.work / f"peer{size}" / "100_style", size, 8).parent
    for batch in options.batches:
        result = options.work / f"{module}{batch}.json"
        log = options.out / f"{module}{batch}.log"
        arguments = _arguments(options, base, images, size, batch)
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
        if code or not gaps:
            rows.add(f"{module} failed", batch=batch, code=code, log=log.read_text()[-1500:])
            continue
        steady = statistics.median(gaps[len(gaps) // 2 :])
        rows.add(
            f"sd-scripts {module}",
            batch=batch,
            s_per_step=steady,
            images_per_s=batch / steady,
            peak_gib=measured["peak"] / GIB,
            steps=len(gaps) + 1,
        )


def _arguments(options: Options, base: Path, images: Path, size: int, batch: int) -> list[str]:
    """The command line of sd-scripts for what :class:`Bench` trains."""
    return [
        f"--pretrained_model_name_or_path={base}", f"--tokenizer_cache_dir={options.work / 'tokenizers'}",
        f"--train_data_dir={images}", f"--output_dir={options.work / 'peer-out'}", "--output_name=peer",
        "--network_module=networks.lora", f"--network_dim={options.dim}", f"--network_alpha={options.dim}",
        f"--resolution={size}", f"--train_batch_size={batch}", f"--max_train_steps={options.steps}",
        "--learning_rate=1e-4", "--optimizer_type=AdamW", f"--mixed_precision={'no' if options.tiny else 'bf16'}",
        "--sdpa", "--cache_latents", "--caption_extension=.txt", "--max_data_loader_n_workers=2",
        "--persistent_data_loader_workers", "--save_model_as=safetensors", "--lr_scheduler=constant", "--seed=1",
    ]  # fmt: skip
