"""What looking at a run costs, and that it changes nothing: ``python -m benchmarks.looking --out FOLDER``.

One run that only trains and one that measures a validation loss after every epoch and draws two samples, on a random
SD1.5 (``--tiny``: on a tiny base, also on a CPU), each in a process of its own. Prints how far the step losses and the
last files are apart, seconds an epoch of steps, of validation and of samples, and the peak of allocated memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import full_size
from loratools.adapter.files.file import read
from loratools.train.callbacks import samples, validation
from loratools.train.config.read import make_config
from loratools.train.trainer import train

LOOKING: dict[str, Any] = {
    "validate_every_epochs": 1,
    "sample_prompts": ["1girl, red hair, smile --s 20", "blue eyes, hat --s 20 --d 2"],
}


def one(args: argparse.Namespace) -> None:
    """One run; a line of JSON with what it took."""
    size = 64 if args.tiny else 512
    settings = {
        "base": str(args.out / "base"),
        "images": str(full_size.pictures(args.out / "images", size, 16)),
        "out": str(args.out / args.one),
        "name": "t",
        "epochs": 3,
        "repeats": args.repeats,
        "batch_size": 4,
        "dim": 32,
        "validation_split": 0.25,
        "validate_every_epochs": 0,
        "dtype": "fp32",
        "force": True,
        "network_dropout": 0.1,
        "graph": args.graph,
        **(LOOKING if args.one == "looking" else {}),
    }
    spent = {"validation": 0.0, "samples": 0.0}
    clocked(validation.ValidationCallback, "_record", spent, "validation")
    clocked(samples.SampleCallback, "_draw", spent, "samples")
    run = train(make_config(settings, "benchmark"), progress=False)
    peak = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    lines = [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
    steps = [line["loss"] for line in lines if line["kind"] == "step"]
    epochs = [line["seconds"] for line in lines if line["kind"] == "epoch"]
    print(
        json.dumps(
            {"losses": steps, "file": str(run.epochs[-1]), "last_epoch_s": epochs[-1], "peak_gib": peak, **spent}
        )
    )


def clocked(owner: type, name: str, spent: dict[str, float], what: str) -> None:
    """Let ``owner.name`` count its seconds, to the end of what it gives the device to do."""
    method = getattr(owner, name)

    def timed(self: Any, *given: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        result = method(self, *given, **named)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent[what] += time.perf_counter() - begun
        return result

    setattr(owner, name, timed)


def main() -> None:
    """Run with and without looking, and print what it cost and how far the results are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--graph", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--repeats", type=int, default=10, help="12 images x repeats / 4 steps an epoch")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--one", choices=["plain", "looking"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        one(args)
        return
    if not (args.out / "base").exists():
        (full_size.tiny if args.tiny else full_size.sd15)(args.out / "base")
    runs = {}
    for kind in ("plain", "looking"):
        command = [sys.executable, "-m", "benchmarks.looking", *sys.argv[1:], "--one", kind]
        runs[kind] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print("\n".join(table(runs["plain"], runs["looking"])))


def table(plain: dict[str, Any], looking: dict[str, Any]) -> list[str]:
    """The rows of benchmarks/results/looking.md."""
    apart = max(abs(a - b) / a for a, b in zip(plain["losses"], looking["losses"], strict=True))
    one, two = read(Path(plain["file"])), read(Path(looking["file"]))
    square = sum(float((one[name].dense() - two[name].dense()).norm()) ** 2 for name in one)
    norm = sum(one[name].norm() ** 2 for name in one)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return [
        f"| {device}, {len(plain['losses'])} steps of 4 | only training | looking |",
        "|---|---|---|",
        f"| seconds of the last epoch's steps | {plain['last_epoch_s']:.2f} | {looking['last_epoch_s']:.2f} |",
        f"| peak of allocated memory, GiB | {plain['peak_gib']:.2f} | {looking['peak_gib']:.2f} |",
        f"| a validation loss (4 images, 5 timesteps), seconds | - | {looking['validation'] / 4:.2f} |",
        f"| two samples of 20 steps and the sheet, seconds | - | {looking['samples'] / 3:.2f} |",
        f"| greatest relative difference of a step's loss | - | {apart:.1e} |",
        f"| relative difference of the last file | - | {(square / norm) ** 0.5:.1e} |",
    ]


if __name__ == "__main__":
    main()
