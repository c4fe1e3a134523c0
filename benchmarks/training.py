"""Training against its bars, in one run: ``python -m benchmarks.training --out FOLDER --sd-scripts CHECKOUT``.

Every part prints its rows as it goes and adds them to ``FOLDER/PART.json``, so that a kill loses little; ``--report``
writes benchmarks/results/training.md from what is there. ``--parts`` chooses; ``--tiny`` rehearses on a CPU.

peer      sd-scripts' own train_network.py, bf16, SDPA, cached latents, AdamW, rank 32, UNet and text encoder, 512x512
ours      the same with loratools, eager and as a CUDA graph
check     50 graph steps against 50 eager ones, fp32, kernels of a fixed order (benchmarks/training_check.py)
memory    the least that SD1.5 at 512 trains in: batch 1, checkpointing, everything from the file to the last step
sdxl      SDXL at 1024: its least memory, batch 1 and 4;  peer-sdxl: sd-scripts' sdxl_train_network.py
compile   the graph over torch.compile'd modules, batch 4
ddp       one process a GPU, four images each, against one process
cpu       the pocket base against a bare diffusers + PEFT loop
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import full_size
from loratools.dataset.scan import read_dataset
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.distributed import Ranks, join, leave
from loratools.train.setup import at_base_resolution, setup_run, setup_trainable
from loratools.train.step.placement import place
from loratools.train.step.precision import pick_precision
from loratools.train.step.step import DenoisingStep
from loratools.train.trainer import Trainer, attached, make_runner

ROOT = Path(__file__).parents[1]
GPU_PARTS = ("peer", "ours", "check", "memory", "sdxl", "compile")
PARTS = (*GPU_PARTS, "peer-sdxl", "ddp", "cpu")
GIB = 2**30


class Rows:
    """A part's rows: printed and written as they come."""

    def __init__(self, out: Path, part: str) -> None:
        self._path, self._part = out / f"{part}.json", part
        self._rows: list[dict[str, Any]] = []
        out.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, **values: Any) -> None:
        """One row."""
        row = {"name": name, "device": device_name(), **values}
        print(self._part, json.dumps(row), flush=True)
        self._rows.append(row)
        self._path.write_text(json.dumps(self._rows, indent=1))


class Bench:
    """A base and pictures, loaded once; every measurement trains a fresh network on them."""

    def __init__(
        self,
        base: Path,
        work: Path,
        args: argparse.Namespace,
        size: int,
        ranks: Ranks = Ranks(),  # noqa: B008
        *,
        count: int = 8,
        **different: Any,
    ) -> None:
        self.steps, self.count = args.steps, count
        images = full_size.pictures(work / f"pictures{size}x{count}", size, count)
        settings = {
            "base": str(base), "images": str(images), "out": str(work / "out"), "name": "bench", "dim": args.dim,
            "alpha": args.dim, "epochs": 1, "resolution": size, "learning_rate": 1e-4, "lr_scheduler": "constant",
            "mixed_precision": "bf16", "device": args.device, "log_every": 5, "noise_offset": 0.0, **different,
        }  # fmt: skip
        self.config = make_config(settings, "benchmark")
        self.run = setup_run(self.config, ranks)
        self.store = Trainer(self.run).latents()

    def trained(self, batch: int, steps: int, *, by_rule: bool = False, **settings: Any) -> Iterator[Any]:
        """The steps of a fresh network, whose run is then at ``self.run``; ``by_rule`` has cuDNN time nothing."""
        run, config = self.run, self._config(batch, steps, settings)
        dataset = at_base_resolution(read_dataset(config, config.resolution or (512, 512)), config, run.base)
        trained = setup_trainable(config, run.base, run.precision)
        self.run = run = replace(run, config=config, dataset=dataset, trained=trained)
        with attached(run):
            torch.backends.cudnn.benchmark &= not by_rule
            step = DenoisingStep(run.base, trained.network, run.schedule, config, run.precision)
            yield from make_runner(run, self.store, step).epoch(1, 0)

    def _config(self, batch: int, steps: int, settings: Mapping[str, Any]) -> TrainConfig:
        wanted = {"batch_size": batch, "repeats": -(-batch * steps // self.count), "graph": "off", **settings}
        return self.config.model_copy(update=wanted)

    def measure(self, batch: int, steps: int | None = None, **settings: Any) -> dict[str, Any]:
        """Seconds a step once it runs evenly, what the beginning cost on top, and the peak of allocated memory."""
        _fresh_memory()
        steps, begun = steps or self.steps, time.perf_counter()
        done = list(self.trained(batch, steps, **settings))
        total = time.perf_counter() - begun
        later = [record.seconds for record in done[len(done) // 2 :]]
        steady = statistics.median(later)
        peak = torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0
        return {
            "batch": batch,
            "s_per_step": steady,
            "images_per_s": batch / steady,
            "peak_gib": peak,
            "start_s": total - steady * len(done),
            "steps": len(done),
            "loss": done[-1].loss,
        }


def part_peer(args: argparse.Namespace, rows: Rows, module: str = "train_network") -> None:
    """sd-scripts' own trainer."""
    size, base = (1024, args.sdxl) if module.startswith("sdxl") else (512, args.sd15)
    if args.tiny:
        size = 64
    tokenizers = args.work / "tokenizers"
    for name in ("openai_clip-vit-large-patch14", "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k"):
        full_size.train_tokenizer(full_size.WORDS, tokenizers / name, vocabulary=600)
    images = full_size.pictures(args.work / f"peer{size}" / "100_style", size, 8).parent
    for batch in args.batches:
        result = args.work / f"{module}{batch}.json"
        arguments = [
            f"--pretrained_model_name_or_path={base}", f"--tokenizer_cache_dir={tokenizers}",
            f"--train_data_dir={images}", f"--output_dir={args.work / 'peer-out'}", "--output_name=peer",
            "--network_module=networks.lora", f"--network_dim={args.dim}", f"--network_alpha={args.dim}",
            f"--resolution={size}", f"--train_batch_size={batch}", f"--max_train_steps={args.steps}",
            "--learning_rate=1e-4", "--optimizer_type=AdamW", f"--mixed_precision={'no' if args.tiny else 'bf16'}",
            "--sdpa", "--cache_latents", "--caption_extension=.txt", "--max_data_loader_n_workers=2",
            "--persistent_data_loader_workers", "--save_model_as=safetensors", "--lr_scheduler=constant", "--seed=1",
        ]  # fmt: skip
        script = ROOT / "benchmarks/sd_scripts_steps.py"
        log = args.out / f"{module}{batch}.log"
        with log.open("w") as stream:
            code = subprocess.run(
                [sys.executable, script, args.sd_scripts, result, module, *arguments],
                cwd=args.sd_scripts,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=args.peer_timeout,
            ).returncode
        found = json.loads(result.read_text()) if result.exists() else {"times": [], "peak": 0}
        gaps = [late - early for early, late in zip(found["times"], found["times"][1:], strict=False)]
        if code or not gaps:
            rows.add(f"{module} failed", batch=batch, code=code, log=log.read_text()[-1500:])
            continue
        steady = statistics.median(gaps[len(gaps) // 2 :])
        rows.add(
            f"sd-scripts {module}",
            batch=batch,
            s_per_step=steady,
            images_per_s=batch / steady,
            peak_gib=found["peak"] / GIB,
            steps=len(gaps) + 1,
        )


def part_peer_sdxl(args: argparse.Namespace, rows: Rows) -> None:
    """sd-scripts' SDXL trainer."""
    part_peer(args, rows, "sdxl_train_network")


def part_ours(args: argparse.Namespace, rows: Rows) -> None:
    """SD1.5 at 512, eager and as a graph."""
    bench = Bench(args.sd15, args.work, args, args.size)
    for batch in args.batches:
        rows.add("ours, graph", **bench.measure(batch, graph="on"))
        rows.add("ours, eager", **bench.measure(batch, args.steps // 2))
    rows.add(
        "ours, graph, gradient accumulation 2", **bench.measure(args.batches[0], graph="on", gradient_accumulation=2)
    )


def part_check(args: argparse.Namespace, rows: Rows) -> None:
    """In a process of its own: cuBLAS' workspace has to be set before anything has used it."""
    result = args.work / "check.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.training", "--check-worker", str(result), "--work", str(args.work),
               "--check-steps", str(args.check_steps), "--dim", str(args.dim), *(["--tiny"] * args.tiny)]  # fmt: skip
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=180).returncode
    for row in json.loads(result.read_text()) if result.exists() else []:
        rows.add(**row)
    if code:
        rows.add("failed", code=code)


def check_worker(args: argparse.Namespace) -> None:
    """The process of :func:`part_check`."""
    from benchmarks.training_check import compared, deterministic

    size = 64 if args.tiny else 256
    with deterministic():
        bench = Bench(args.sd15, args.work, args, size, count=10, mixed_precision="no", log_every=1)
        found = []
        for row in compared(bench, args.check_steps):
            found.append(row)
            args.check_worker.write_text(json.dumps(found))


def part_memory(args: argparse.Namespace, rows: Rows) -> None:
    """Peak over everything: loading, encoding the images, training."""
    _fresh_memory()
    bench = Bench(args.sd15, args.work, args, args.size)
    rows.add("SD1.5: load and encode", peak_gib=_peak())
    for mode in ("off", "on"):
        rows.add(f"SD1.5, checkpointing, graph {mode}", **bench.measure(1, graph=mode, gradient_checkpointing=True))
    rows.add("SD1.5, no checkpointing, graph on", **bench.measure(1, graph="on"))


def part_sdxl(args: argparse.Namespace, rows: Rows) -> None:
    """SDXL at 1024."""
    size = 64 if args.tiny else 1024
    _fresh_memory()
    bench = Bench(args.sdxl, args.work, args, size)
    rows.add("SDXL: load and encode", peak_gib=_peak())
    least = {"graph": "on", "gradient_checkpointing": True, "te_lr": 0.0}
    eight = (
        [
            (
                "SDXL, small card: checkpointing, UNet only, AdamW8bit, graph off",
                1,
                {**least, "graph": "off", "optimizer": "AdamW8bit"},
            )
        ]
        if _installed("bitsandbytes")
        else []
    )
    for name, batch, settings in (
        ("SDXL, small card: checkpointing, UNet only, graph", 1, least),
        *eight,
        ("SDXL, checkpointing, graph", 1, {"graph": "on", "gradient_checkpointing": True}),
        ("SDXL, graph", 1, {"graph": "on"}),
        ("SDXL, eager", 1, {}),
        ("SDXL, graph", 4, {"graph": "on"}),
        ("SDXL, eager", 4, {}),
    ):
        try:
            rows.add(name, **bench.measure(batch, args.steps // 2, **settings))
        except torch.OutOfMemoryError as error:
            rows.add(f"{name}: out of memory", batch=batch, error=str(error)[:200])


def part_compile(args: argparse.Namespace, rows: Rows) -> None:
    """The graph over compiled modules."""
    bench = Bench(args.sd15, args.work, args, args.size)
    for batch in args.batches[-1:]:
        rows.add("ours, compile and graph", **bench.measure(batch, graph="on", compile=True))


def part_ddp(args: argparse.Namespace, rows: Rows) -> None:
    """One process a GPU, four images each, against one."""
    for processes in (1, args.processes):
        result = args.work / f"ddp{processes}.json"
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "-m",
                   "benchmarks.training", "--ddp-worker", str(result), "--work", str(args.work),
                   "--steps", str(args.steps), "--dim", str(args.dim), *(["--tiny"] if args.tiny else [])]  # fmt: skip
        code = subprocess.run(command, cwd=ROOT, check=False, timeout=240).returncode
        if code:
            rows.add(f"{processes} processes failed", code=code)
        else:
            rows.add(f"{processes} processes, four images each", **json.loads(result.read_text()))


def ddp_worker(args: argparse.Namespace) -> None:
    """One of the processes of :func:`part_ddp`."""
    ranks, device = join("cpu" if args.tiny else "auto")
    args.device = device
    bench = Bench(args.sd15, args.work / f"rank{ranks.rank}", args, args.size, ranks)
    found = bench.measure(4 * ranks.world, graph="on")
    if ranks.main:
        args.ddp_worker.write_text(json.dumps(found))
    leave(ranks)


def part_cpu(args: argparse.Namespace, rows: Rows) -> None:
    """The pocket base: ours against the loop that one would write with diffusers and PEFT."""
    from benchmarks.plain_loop import seconds_per_step
    from loratools.pocket import weights_folder

    args.device, args.steps = "cpu", args.cpu_steps
    bench = Bench(weights_folder(), args.work, args, 128)
    bench.config = bench.config.model_copy(update={"mixed_precision": "no"})
    bench.run = replace(bench.run, precision=pick_precision(bench.config, torch.device("cpu")))
    place(bench.run.base, bench.run.precision)
    for batch in (1, 4):
        pairs = [
            (
                bench.measure(batch)["s_per_step"],
                seconds_per_step(weights_folder(), args.work / "pictures128x8", batch, args.dim, args.steps),
            )
            for _ in range(3)
        ]
        ours, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
        rows.add("pocket base on a CPU", batch=batch, s_per_step=ours, plain_s_per_step=plain, ratio=plain / ours)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _fresh_memory() -> None:
    gc.collect()  # a base of an earlier part, kept by a cycle, would count
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float:
    return torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


def _bases(args: argparse.Namespace, parts: list[str]) -> None:
    args.sd15, args.sdxl = args.work / "sd15", args.work / "sdxl"
    begun = time.perf_counter()
    if not args.sd15.exists():
        full_size.tiny(args.sd15) if args.tiny else full_size.sd15(args.sd15)
    if any("sdxl" in part for part in parts) and not args.sdxl.exists():
        full_size.tiny_sdxl(args.sdxl) if args.tiny else full_size.sdxl(args.sdxl)
    print(f"bases ready after {time.perf_counter() - begun:.1f} s", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(GPU_PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/training", help="folder of the JSON")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "loratools-training")
    parser.add_argument("--sd-scripts", default="", help="a checkout of kohya-ss/sd-scripts")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--check-steps", type=int, default=50)
    parser.add_argument("--cpu-steps", type=int, default=16)
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 4])
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--peer-timeout", type=int, default=180)
    parser.add_argument("--tiny", action="store_true", help="a tiny base on the CPU")
    parser.add_argument("--check-worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ddp-worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--report", action="store_true", help="write results/training.md from the JSON and stop")
    args = parser.parse_args()
    args.sd_scripts = str(Path(args.sd_scripts).resolve())  # it is also where the peer's process starts
    args.device, args.size = ("cpu", 64) if args.tiny else ("auto", 512)
    return args


def main() -> None:
    """Run the parts that were asked for; one that fails does not stop the next."""
    args = _arguments()
    if args.report:
        from benchmarks.training_report import write

        write(args.out, ROOT / "benchmarks/results/training.md")
        return
    parts = args.parts.split(",")
    _bases(args, parts)
    if args.ddp_worker or args.check_worker:
        ddp_worker(args) if args.ddp_worker else check_worker(args)
        return
    for part in parts:
        begun = time.perf_counter()
        try:
            globals()[f"part_{part.replace('-', '_')}"](args, Rows(args.out, part))
        except Exception as error:
            import traceback

            traceback.print_exc()
            print(f"{part} FAILED: {error}", flush=True)
        print(f"{part} took {time.perf_counter() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
