"""Training against its bars, in one run: ``python -m benchmarks.training --out FOLDER --sd-scripts CHECKOUT``.

Every part prints its rows as it goes and adds them to ``FOLDER/PART.json``, so that a kill loses little; ``--report``
writes benchmarks/results/training.md from what is there. ``--parts`` chooses; ``--tiny`` rehearses on a CPU.

peer      sd-scripts' own train_network.py, bf16, SDPA, cached latents, AdamW, rank 32, UNet and text encoder, 512x512
ours      the same with loratools, eager and as a CUDA graph
check     50 graph steps against 50 eager ones, fp32, kernels of a fixed order (benchmarks/training/check.py)
memory    the least that SD1.5 at 512 trains in: batch 1, checkpointing, everything from the file to the last step
sdxl      SDXL at 1024: its least memory, batch 1 and 4;  peer-sdxl: sd-scripts' sdxl_train_network.py
compile   the graph over torch.compile'd modules, batch 4
ddp       one process a GPU, four images each, against one process
cpu       the pocket base against a bare diffusers + PEFT loop
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import full_size
from benchmarks.training import parts, peer
from benchmarks.training.bench import ROOT, Options, Rows
from benchmarks.training.report import write

PARTS: Mapping[str, Callable[[Options, Rows], None]] = {
    "peer": peer.part_peer,
    "ours": parts.part_ours,
    "check": parts.part_check,
    "memory": parts.part_memory,
    "sdxl": parts.part_sdxl,
    "compile": parts.part_compile,
    "peer-sdxl": peer.part_peer_sdxl,
    "ddp": parts.part_ddp,
    "cpu": parts.part_cpu,
}
GPU_PARTS = ("peer", "ours", "check", "memory", "sdxl", "compile")


def make_bases(options: Options, names: Sequence[str]) -> None:
    """Save the random bases that the parts ``names`` train on, where they are not there yet."""
    begun = time.perf_counter()
    if not (options.sd15 / "model_index.json").exists():
        (full_size.tiny if options.tiny else full_size.sd15)(options.sd15)
    if any("sdxl" in name for name in names) and not (options.sdxl / "model_index.json").exists():
        (full_size.tiny_sdxl if options.tiny else full_size.sdxl)(options.sdxl)
    print(f"bases ready after {time.perf_counter() - begun:.1f} s", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(GPU_PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/training", help="folder of the JSON")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "loratools-training")
    parser.add_argument("--sd-scripts", default="", help="a checkout of kohya-ss/sd-scripts")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--check-steps", type=int, default=50)
    parser.add_argument("--cpu-steps", type=int, default=16)
    parser.add_argument("--batches", type=_numbers, default=(1, 4))
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--peer-timeout", type=int, default=180)
    parser.add_argument("--tiny", action="store_true", help="a tiny base on the CPU")
    parser.add_argument("--check-worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ddp-worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--report", action="store_true", help="write results/training.md from the JSON and stop")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    """Run the parts that were asked for; one that fails does not stop the next."""
    args = _parser().parse_args()
    options = Options(
        out=args.out,
        work=args.work,
        sd_scripts=str(Path(args.sd_scripts).resolve()),  # it is also where the peer's process starts
        steps=args.steps,
        check_steps=args.check_steps,
        cpu_steps=args.cpu_steps,
        batches=args.batches,
        dim=args.dim,
        processes=args.processes,
        peer_timeout=args.peer_timeout,
        tiny=args.tiny,
        device="cpu" if args.tiny else "auto",
    )
    names = args.parts.split(",")
    if args.report:
        write(options.out, ROOT / "benchmarks/results/training.md")
    elif args.ddp_worker:
        make_bases(options, names)
        parts.ddp_worker(options, args.ddp_worker)
    elif args.check_worker:
        make_bases(options, names)
        parts.check_worker(options, args.check_worker)
    else:
        make_bases(options, names)
        for name in names:
            run_part(name, options)


def run_part(name: str, options: Options) -> None:
    """Run one part and say how long it took; an error is printed and ends the part, not the run."""
    begun = time.perf_counter()
    try:
        PARTS[name](options, Rows(options.out, name))
    except Exception as error:  # the other parts' time on the machine is not to be lost
        traceback.print_exc()
        print(f"{name} FAILED: {error}", flush=True)
    print(f"{name} took {time.perf_counter() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
