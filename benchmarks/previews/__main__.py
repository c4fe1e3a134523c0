"""Previews against their bars; run as ``python -m benchmarks.previews``.

On a GPU: a random model of SD 1.5's full size, random LoRAs of rank 32, 512x512, 20 steps of DPM++ 2M, CFG 7, fp16.
Random weights cost what trained ones do. ``--parts`` chooses parts (``--list`` names them), figures are kept as JSON in
``--keep`` as they come, and ``--report`` writes ``benchmarks/results/previews.md`` from all that is kept. ``--tiny``
runs every part on a CPU with tiny models, to see that it runs. ``--parts cpu`` measures the pocket base on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.previews.again import again
from benchmarks.previews.bench import FULL, TINY, Bench, Figure, Figures, machine
from benchmarks.previews.compute import compute, compute_xl, decoding_xl, restart, start
from benchmarks.previews.device import compiled, edit, layout, memory, patching, unet
from benchmarks.previews.grids import cpu, diffusers, four, grid, merge
from benchmarks.previews.modes import modes, modes_xl
from benchmarks.previews.precision import caps, samplers
from benchmarks.previews.report import report
from benchmarks.previews.search import search, search_cpu, search_shared, search_ways, search_xl, work_search
from benchmarks.previews.shard import shard, work_shard
from benchmarks.previews.sheet import sheet
from loratools.launch import Rank

PARTS: Mapping[str, Callable[[Bench], Figures]] = {
    "memory": memory,
    "unet": unet,
    "patching": patching,
    "grid": grid,
    "four": four,
    "edit": edit,
    "merge": merge,
    "diffusers": diffusers,
    "layout": layout,
    "compiled": compiled,
    "shard": shard,
    "cpu": cpu,
    "compute": compute,
    "compute-xl": compute_xl,
    "decoding-xl": decoding_xl,
    "restart": restart,
    "start": start,
    "modes": modes,
    "modes-xl": modes_xl,
    "caps": caps,
    "samplers": samplers,
    "search": search,
    "search-ways": search_ways,
    "search-xl": search_xl,
    "search-cpu": search_cpu,
    "search-shared": search_shared,
    "sheet": sheet,
    "again": again,
}
WORKERS: Mapping[str, Callable[[Bench, Path], None]] = {"shard": work_shard, "search": work_search}
USUAL = ("memory", "unet", "patching", "diffusers", "grid", "four", "edit", "merge")


def run_part(name: str, bench: Bench, keep: Path | None) -> bool:
    """Run one part, print its figures as they come and keep them; an error ends the part, not the run."""
    start, figures = time.perf_counter(), []
    print(f"== {name}", flush=True)
    done = True
    try:
        for figure in PARTS[name](bench):
            figures.append(figure)
            print(figure.text(), flush=True)
            _keep(keep, name, bench, figures, time.perf_counter() - start)
    except Exception as error:  # the other parts' time on the machine is not to be lost
        import traceback

        traceback.print_exc()
        figures.append(Figure(f"{name} failed: {type(error).__name__}", math.nan))
        done = False
    spent = time.perf_counter() - start
    print(f"   {spent:.1f} s", flush=True)
    _keep(keep, name, bench, figures, spent)
    bench.clear()
    return done


def _keep(keep: Path | None, name: str, bench: Bench, figures: list[Figure], seconds: float) -> None:
    """Write what a part has measured so far: a run that is ended early keeps it."""
    if keep is None or not figures:
        return
    keep.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine(bench.device), "seconds": seconds, "figures": [asdict(each) for each in figures]}
    (keep / f"{name}.json").write_text(json.dumps(record, indent=1))
    (keep / "seconds.json").write_text(json.dumps(bench.seconds))


def main() -> None:
    """Parse, run the parts that are asked for, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(USUAL), help="comma-separated; all for every one")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="tiny models on a CPU: does it run")
    parser.add_argument("--keep", type=Path, help="folder for figures as JSON")
    parser.add_argument("--work", type=Path, help="folder for pictures and LoRA files; temporary by default")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker-job", choices=list(WORKERS), default="shard", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{name:<10} {(part.__doc__ or '').splitlines()[0]}" for name, part in PARTS.items()))
        return
    scale = TINY if args.tiny else FULL
    cuda = torch.cuda.is_available() and not args.tiny
    device = torch.device(f"cuda:{Rank.here().local % torch.cuda.device_count()}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
    with contextlib.ExitStack() as stack:
        work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(scale, device, work)
        if args.worker:
            WORKERS[args.worker_job](bench, args.worker)
            return
        if args.keep and (args.keep / "seconds.json").is_file():
            bench.seconds = json.loads((args.keep / "seconds.json").read_text())
        names = list(PARTS) if args.parts == "all" else [name for name in args.parts.split(",") if name]
        print(machine(device), flush=True)
        failed = [name for name in names if not run_part(name, bench, args.keep)]
    if args.report and args.keep:
        report(args.keep, PARTS)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
