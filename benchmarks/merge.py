"""Merging against its bars: time as ratios measured in one run, and memory; run as ``python -m benchmarks.merge``.

Prints a table and writes it to ``benchmarks/results/merge.md``. ``--sd-scripts PATH`` (a checkout of kohya's
sd-scripts that runs here) adds the row against its ``svd_merge_lora``, which takes minutes; ``--skip`` leaves slow rows
out. Times are medians; the machine should be otherwise idle, and ratios say more than seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from loratools.adapter.algebra.rank import Exact, Fixed, RankRule
from loratools.adapter.architectures.names import lora_targets
from loratools.adapter.files.file import read
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from tests.loras import SD15, Sizes, lora_tensors

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/merge.md"
_CHUNK = 1 << 20
_SD15_MODULES, _SDXL_MODULES = 264, 986

# What runs in a process of its own, so that its peak of anonymous memory is its own.
_MEASURED = """
import json, sys, threading, time

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

bare = peak = anonymous()
done = threading.Event()

def watch():
    global peak
    while not done.wait(0.01):
        peak = max(peak, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
try:
    from loratools.adapter.files.file import read
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.ops.merging.merge import merge_files
    from loratools.ops.merging.terms import Term

    start = time.perf_counter()
    first, second, out, rank = sys.argv[1:]
    terms = [Term(read(first), 1.0, label="A"), Term(read(second), -0.5, label="B")]
    report = merge_files(terms, out, rule=parse_rank(rank), force=True)
    seconds = time.perf_counter() - start
finally:
    done.set()
    watcher.join()
print(json.dumps({"seconds": seconds, "peak": (peak - bare) * 1024, "modules": report.modules}))
"""

_PEER = """
import time
from networks import svd_merge_lora
args = svd_merge_lora.setup_parser().parse_args()
start = time.perf_counter()
svd_merge_lora.merge(args)
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Row:
    """One line of the table; ``held`` is None for what has no bar."""

    what: str
    value: str
    bar: str
    held: bool | None


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--sd-scripts", type=Path, help="a checkout of sd-scripts, for its svd_merge_lora")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--skip", nargs="*", default=[], choices=["dense", "sdxl", "cli"])
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in _parts(Path(folder), asked):
            rows += part
            print(_table(part), flush=True)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(f"# Merging\n\n{_machine()}\n\n{_table(rows)}\n", encoding="utf-8")


def _parts(folder: Path, asked: argparse.Namespace) -> Iterator[list[Row]]:
    yield sd15(folder, asked.repeats, dense="dense" not in asked.skip, peer=asked.sd_scripts)
    if "sdxl" not in asked.skip:
        yield sdxl(folder)
    if "cli" not in asked.skip:
        yield command_line(folder, asked.repeats)


def sd15(folder: Path, repeats: int, *, dense: bool, peer: Path | None) -> list[Row]:
    """Two rank-32 SD1.5 LoRAs: against a copy that hashes and syncs, thin SVDs, and sd-scripts."""
    first, second = (folder / f"sd15-{name}.safetensors" for name in "AB")
    for seed, path in enumerate((first, second)):
        save_file(lora_tensors(rank=32, alpha=16.0, sizes=SD15, seed=seed), path)
    out = folder / "merged.safetensors"
    copy, exact, small = _interleaved(
        [
            lambda: copied(first, second, folder / "copy.bin"),
            lambda: merged(first, second, out, Exact()),
            lambda: merged(first, second, out, Fixed(32)),
        ],
        repeats,
    )
    rows = [
        Row("SD1.5, rank 32 + 32: a copy that hashes input and output and syncs", f"{copy:.3f} s", "", None),
        _at_most("exact merge and save", exact, f"{exact:.3f} s, {exact / copy:.2f} x the copy", exact / copy, 3.0),
        _at_most("merge and compress to 32", small, f"{small:.2f} s", small, 3.0),
    ]
    if dense:
        thin = _seconds(lambda: thin_svds(first, second))
        ratio = thin / small
        rows.append(
            Row("thin fp32 SVD of every dense delta", f"{thin:.1f} s, {ratio:.0f} x ours", ">= 20 x", ratio >= 20)
        )
    if peer is not None:
        theirs, inside = _timed(lambda: sd_scripts(peer.resolve(), first, second, folder / "peer.safetensors"))
        ours, within = _timed(lambda: in_own_process(first, second, out, "32")["seconds"])
        ratio = inside / within
        rows.append(
            Row(
                "sd-scripts svd_merge_lora to 32, from two files to one",
                f"{inside:.1f} s to {within:.2f} s, {ratio:.0f} x ours",
                ">= 50 x",
                ratio >= 50,
            )
        )
        rows.append(
            Row(
                "the same with the start of each one's process, in which torch's import is most of ours",
                f"{theirs:.1f} s to {ours:.2f} s, {theirs / ours:.0f} x ours",
                "",
                None,
            )
        )
    else:
        rows.append(Row("sd-scripts svd_merge_lora", "not measured: needs --sd-scripts PATH", ">= 50 x", None))
    return rows


def sdxl(folder: Path) -> list[Row]:
    """Two rank-128 SDXL LoRAs: peak anonymous memory over the bare interpreter's, and time with compression."""
    first, second = (folder / f"sdxl-{name}.safetensors" for name in "AB")
    for seed, path in enumerate((first, second)):
        save_file(_sdxl_tensors(seed), path)
    rows = []
    for rank, bar in (("exact", None), ("128", 60.0), ("size=800MiB", 60.0)):
        spent = in_own_process(first, second, folder / "merged.safetensors", rank)
        assert spent["modules"] == _SDXL_MODULES
        what = f"SDXL, rank 128 + 128, --rank {rank}"
        rows.append(
            Row(
                f"{what}: time",
                f"{spent['seconds']:.1f} s",
                f"<= {bar:.0f} s" if bar else "",
                spent["seconds"] <= bar if bar else None,
            )
        )
        rows.append(
            Row(
                f"{what}: peak RssAnon over the bare interpreter's",
                f"{spent['peak'] / 1e9:.2f} GB",
                "<= 1.5 GB",
                spent["peak"] <= 1.5e9,
            )
        )
    return rows


def command_line(folder: Path, repeats: int) -> list[Row]:
    """How long the command line takes to answer."""
    file = str(folder / "sd15-A.safetensors")
    rows = []
    for words, bar in ((["--help"], 0.3), (["inspect", "--brief", file], 0.6), (["inspect", file], 3.5)):
        command = [sys.executable, "-m", "loratools", *words]
        what = f"loratools {' '.join(word for word in words if word != file)}"
        if subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode != 0:
            rows.append(Row(what, "not there yet", f"<= {bar} s", None))
            continue

        def run(command: list[str] = command) -> None:
            subprocess.run(command, cwd=ROOT, capture_output=True, check=True)

        seconds = statistics.median(_seconds(run) for _ in range(repeats))
        rows.append(_at_most(what, seconds, f"{seconds:.2f} s", seconds, bar))
    return rows


def copied(first: Path, second: Path, out: Path) -> None:
    """Copy both files into one, hashing what is read and what was written, and sync it."""
    digest, again = hashlib.sha256(), hashlib.sha256()
    with open(out, "wb") as to:
        for path in (first, second):
            with open(path, "rb") as stream:
                while piece := stream.read(_CHUNK):
                    digest.update(piece)
                    to.write(piece)
        to.flush()
        os.fsync(to.fileno())
    with open(out, "rb") as stream:
        while piece := stream.read(_CHUNK):
            again.update(piece)


def merged(first: Path, second: Path, out: Path, rule: RankRule) -> None:
    """A merge from files to file, as the command does it."""
    terms = [Term(read(first), 1.0, label="A"), Term(read(second), -0.5, label="B")]
    merge_files(terms, out, rule=rule, force=True)


def thin_svds(first: Path, second: Path) -> None:
    """What a compression costs that multiplies every delta out: a thin fp32 SVD each, with all of torch's threads."""
    one, other = read(first), read(second)
    with _threads(len(os.sched_getaffinity(0))):
        for name in one:
            whole = one[name].dense(torch.float32) - 0.5 * other[name].dense(torch.float32)
            torch.linalg.svd(whole.flatten(1), full_matrices=False)


def sd_scripts(checkout: Path, first: Path, second: Path, out: Path) -> float:
    """The peer's own script in a process of its own; the seconds that its merge took there, without its start."""
    words = ["--models", first, second, "--ratios", "1", "-0.5", "--new_rank", "32", "--save_to", out,
             "--precision", "float", "--save_precision", "fp16"]  # fmt: skip
    threads = {
        "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        "PYTHONPATH": os.pathsep.join([str(checkout), str(checkout / "networks")]),
    }
    command = [sys.executable, "-c", _PEER, *map(str, words)]
    done = subprocess.run(
        command, cwd=checkout, check=True, env={**os.environ, **threads}, capture_output=True, text=True
    )
    return float(done.stdout.splitlines()[-1])


def in_own_process(first: Path, second: Path, out: Path, rank: str) -> dict[str, float]:
    """A merge in a process of its own: its seconds, its peak anonymous bytes over a bare interpreter's, its modules."""
    words = [sys.executable, "-c", _MEASURED, str(first), str(second), str(out), rank]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _sdxl_tensors(seed: int) -> dict[str, torch.Tensor]:
    wide = [name for name in lora_targets("sdxl") if name.startswith("text_encoder_2.")]
    rest = [name for name in lora_targets("sdxl") if name not in set(wide)]
    channels = (320, 640, 1280)
    options: dict[str, Any] = {"rank": 128, "alpha": 64.0, "seed": seed}
    return {
        **lora_tensors("sdxl", names=wide, sizes=Sizes(channels, 1280, 2048), **options),
        **lora_tensors("sdxl", names=rest, sizes=Sizes(channels, 768, 2048), **options),
    }


def _interleaved(works: list[Callable[[], None]], repeats: int) -> list[float]:
    """Medians of several works, taken in turns so that a busy moment does not fall on one of them."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(repeats + 1):
        for work, own in zip(works, times, strict=True):
            seconds = _seconds(work)
            if turn:  # the first turn warms caches
                own.append(seconds)
    return [statistics.median(own) for own in times]


def _timed(work: Callable[[], float]) -> tuple[float, float]:
    """The seconds that ``work`` took, and those that it reports."""
    start = time.perf_counter()
    inside = work()
    return time.perf_counter() - start, inside


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _at_most(what: str, seconds: float, value: str, measured: float, bar: float) -> Row:
    unit = " s" if measured == seconds else " x"
    return Row(what, value, f"<= {bar:g}{unit}", measured <= bar)


def _table(rows: list[Row]) -> str:
    lines = ["| what | measured | bar | held |", "|---|---|---|---|"]
    marks = {True: "yes", False: "**no**", None: ""}
    return "\n".join([*lines, *(f"| {row.what} | {row.value} | {row.bar} | {marks[row.held]} |" for row in rows)])


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{model}, {cores} cores; Python {platform.python_version()}, torch {torch.__version__}."


if __name__ == "__main__":
    main()
