"""Is nothing lost? One run killed twenty times at random moments against one that nobody stopped, byte for byte.

``python -m benchmarks.kill [--kills 20] [--seed N] [--out FOLDER] [--report]``

Both are real ``loratools train`` processes on a tiny random base, on one thread of a CPU. Most kills (SIGKILL, which no
program can handle) come up to half a second after training has begun or gone on, every fifth at any moment of the
process, its start included; a state every second step and a file every fifth make the disk busy for much of the time.
After each kill the same command goes on with ``--resume``. ``--report`` writes the table to benchmarks/results/kill.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.checkout import ROOT, own_environment
from tests.tiny import save_tiny_base

RESULTS = ROOT / "benchmarks/results/kill.md"
PICTURES, EPOCHS = 8, 15
NAME = "t"


@dataclass(frozen=True)
class Kill:
    """One kill: when, the last step in the log, and which file was half written."""

    moment: str
    step: int
    half: str


def main() -> None:
    """Run both, compare, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; a new one for every call unless given")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        text = report(compare(folder, options.kills, random.Random(seed)), seed)
    print(text)
    if options.report:
        RESULTS.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Comparison:
    """What the two runs left."""

    kills: list[Kill]
    files: int
    different: list[str]
    left: list[str]
    counts: tuple[list[int], list[int]]
    losses_equal: bool


def compare(folder: Path, kills: int, rng: random.Random) -> Comparison:
    """Run both; ``folder`` should be empty."""
    base, images = save_tiny_base(folder / "base"), draw(folder / "images")
    whole, killed = (config(base, images, folder / name) for name in ("whole", "killed"))
    begun = time.monotonic()
    if start(whole).wait() != 0:
        raise SystemExit("the run that nobody stopped failed")
    lasted = time.monotonic() - begun
    done = [kill_once(killed, number, lasted, rng) for number in range(1, kills + 1)]
    if start(killed, "--resume").wait() != 0:
        raise SystemExit("the run that was killed could not go on")
    one, two = (contents(folder / name) for name in ("whole", "killed"))
    logs = [lines(folder / name) for name in ("whole", "killed")]
    left = [path.name for path in (folder / "killed").rglob("*") if path.suffix == ".part"]
    steps = tuple([int(line["step"]) for line in log if line["kind"] == "step"] for log in logs)
    losses = [[line["loss"] for line in log if line["kind"] in ("step", "epoch")] for log in logs]
    different = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
    return Comparison(done, len(one), different, left, (steps[0], steps[1]), losses[0] == losses[1])


def kill_once(settings: Path, number: int, lasted: float, rng: random.Random) -> Kill:
    """Go on with the run, and kill it at a random moment."""
    folder = settings.with_suffix("")
    log = folder / f"{NAME}.jsonl"
    before = log.stat().st_ino if log.exists() else 0
    process = start(settings, "--resume")
    if number % 5 == 0:
        delay = rng.uniform(0, lasted / 2)
        moment = f"{delay:.2f} s after the process began"
    else:
        while (log.stat().st_ino if log.exists() else 0) == before and process.poll() is None:
            time.sleep(0.002)
        delay = rng.uniform(0, 0.5)
        moment = f"{delay:.3f} s after training went on"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise SystemExit(f"kill {number} came too late, at {moment}; the run had ended with {process.returncode}")
    steps = [line["step"] for line in lines(folder) if line["kind"] == "step"]
    half = sorted(path.name.strip(".").rsplit(".", 2)[0] for path in folder.rglob("*.part"))
    return Kill(moment, int(steps[-1]) if steps else 0, ", ".join(half) or "-")


def start(settings: Path, *more: str) -> subprocess.Popen[bytes]:
    """``loratools train`` as a process of its own."""
    environment = own_environment(OMP_NUM_THREADS="1", SOURCE_DATE_EPOCH="1700000000")
    command = [sys.executable, "-m", "loratools", "train", str(settings), *more]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def config(base: Path, images: Path, out: Path) -> Path:
    """``out``.yaml: every draw that training has, an average, and a busy disk."""
    settings = {
        "base": str(base), "images": str(images), "out": str(out), "name": NAME, "device": "cpu", "epochs": EPOCHS,
        "dim": 4, "alpha": 2, "flip": True, "shuffle_tags": True, "caption_dropout": 0.1, "noise_offset": 0.1,
        "network_dropout": 0.1, "ema": 0.99, "save_state_every_steps": 2, "save_every_steps": 5,
    }  # fmt: skip
    path = out.with_suffix(".yaml")
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def draw(folder: Path) -> Path:
    """Random pictures with captions."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(PICTURES):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"1girl, smile, red hair, tag{number}", encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def lines(folder: Path) -> list[dict[str, Any]]:
    path, records = folder / f"{NAME}.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break  # cut short by the kill
    return records


def report(comparison: Comparison, seed: int) -> str:
    """The note, in Markdown."""
    total, kills = PICTURES * EPOCHS, comparison.kills
    counted = all(steps == list(range(1, total + 1)) for steps in comparison.counts)
    busy = sum(kill.half != "-" for kill in kills)
    same = "every one with the same bytes"
    if comparison.different:
        same = f"different: {', '.join(comparison.different)}"
    return "\n".join(
        [
            "# Killed twenty times" if len(kills) == 20 else f"# Killed {len(kills)} times",
            "",
            f"Written by `python -m benchmarks.kill --kills {len(kills)} --seed {seed} --report` (torch "
            f"{torch.__version__}, one thread, {platform.machine()}); the seed repeats the moments as far as a clock "
            "can.",
            "",
            f"A run of {total} steps, {EPOCHS} epochs, with flips, drop-out of captions and factors, shuffled tags and "
            f"an average of the weights, killed {len(kills)} times by SIGKILL ({busy} of them while a file was half "
            "written) and gone on with `--resume` each time, against the same run that nobody stopped:",
            "",
            "| | |",
            "|---|---|",
            f"| LoRA files ({EPOCHS} of epochs, {comparison.files - EPOCHS} of steps) | {comparison.files}, {same} |",
            f"| steps in the log | {f'1 to {total}, each once, in both' if counted else 'NOT the same'} |",
            "| losses of all steps and epochs | "
            f"{'equal, every digit' if comparison.losses_equal else 'NOT the same'} |",
            f"| temporary files that are left | {', '.join(comparison.left) or 'none'} |",
            "",
            "| kill | moment | last step in the log | half written |",
            "|---|---|---|---|",
            *(f"| {number} | {kill.moment} | {kill.step} | {kill.half} |" for number, kill in enumerate(kills, 1)),
            "",
        ]
    )


if __name__ == "__main__":
    main()
