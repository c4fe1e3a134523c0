"""A recipe with two trainings and a grid by one process and by several, end to end, and eight GPUs on paper.

    python -m benchmarks.scaling --out FOLDER --tune         # measures on two GPUs, in nine minutes on two H200s
    python -m benchmarks.scaling --out FOLDER --tune --tiny  # a tiny base, two processes on a CPU, to rehearse
    python -m benchmarks.scaling --report FOLDER             # writes benchmarks/results/scaling.md from that

The base is random and of SD1.5's size, trainings have eight epochs, where the guides' have ten, so that both ways fit
ten minutes. Both run the same recipe by ``loratools run`` in an empty work folder, from the start of the first process
to the end of the last, on a machine that has read the base and the packages once, and each compiles Triton's kernels
for itself, so that the first way does not pay for both. ``FOLDER/scaling.json`` has the seconds of both and of every
step, and what part of each step several processes can share: of a training its epochs, of a grid its pictures. It is
written after each way; what has not ended after ``--limit`` seconds in all is stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import full_size, results_page
from benchmarks.checkout import ROOT, own_environment
from loratools.files import write_text

RESULTS = ROOT / "benchmarks/results/scaling.md"
RECIPE = """\
version: 1
base: {base}
steps:
  one: {{train: {{images: images, epochs: {epochs}, repeats: {repeats}, batch_size: {batch}, dim: {dim}}}}}
  two: {{train: {{images: images, epochs: {epochs}, repeats: {repeats}, batch_size: {batch}, dim: {dim}, seed: 2}}}}
  final: {{merge: "one:1, two:-0.5"}}
  sheet:
    grid: {{rows: ["one@1", "two@1", final], weights: "{weights}", prompts: [{prompts}], seeds: 1-{seeds},
           steps: {steps}}}
"""
TUNE = """\
  tuned:
    tune: {{lora: "two@1:1:ALL", symptom: hands, measure: "python=benchmarks.scaling:bright", seeds: [1], quick: true,
           prompts: ["1girl, red hair", "1girl, smile", "1girl, hat", "blue eyes, ink style"], steps: {steps}}}
"""
PROMPTS = '"1girl, red hair, smile", "blue eyes, cowboy shot"'
# seconds a step on an H200 at batch 1 and 4, as a CUDA graph (benchmarks/results/training.md): of four rows that four
# GPUs share each has one
BATCH_1, BATCH_4 = 0.033, 0.0542


@dataclass(frozen=True)
class Scale:
    """How much there is to do."""

    epochs: int = 8
    repeats: int = 40  # of 24 pictures: 240 steps an epoch at batch 4
    batch: int = 4
    dim: int = 32
    weights: str = "0.25:1:0.25"
    seeds: int = 10  # 260 pictures: about as long as the tune beside it
    steps: int = 20


TINY = Scale(epochs=2, repeats=1, batch=2, dim=4, weights="0.5,1", seeds=4, steps=2)


@dataclass(frozen=True)
class StepTime:
    """One step of a run: seconds in all, and those between its first and last epoch or picture, which can be shared."""

    kind: str
    seconds: float
    shared: float


@dataclass(frozen=True)
class RunTime:
    """One run: seconds from the start of the first process to its end, and its steps."""

    processes: int
    seconds: float
    steps: Mapping[str, StepTime]


@dataclass(frozen=True)
class Parts:
    """What the estimate is made of, in seconds.

    Attributes:
        trainings: how many there are, which do not need each other; ``batch`` pictures a step.
        start: reading the recipe, starting the first process, merges and the report.
        process: what starting a process of its own adds to a step.
        ready: what a grid adds in processes that have run a step before, or were started while others computed.
        train, grid: of one such step what one process does alone, and what several can share.
    """

    trainings: int
    batch: int
    start: float
    process: float
    ready: float
    train: tuple[float, float]
    grid: tuple[float, float]


# before a run on two GPUs: steps as in benchmarks/results/training.md (start 7.9 s, and reading the base), pictures as
# in previews.md (101 cells in 18.9 s), and guesses of what starting a process takes
PAPER = Parts(2, 4, 8.0, 8.0, 3.0, (11.0, 1200 * BATCH_4), (6.0, 312 * 17 / 101))


def predicted(parts: Parts, count: int) -> float:
    """Seconds of the whole recipe on ``count`` GPUs: starts, one-process parts, and shared parts over the GPUs."""
    alone, shared = parts.train
    grid_alone, grid_shared = parts.grid
    if count == 1:
        return parts.start + parts.trainings * (alone + shared) + grid_alone + grid_shared
    rounds = -(-parts.trainings // count)
    each = max(1, min(parts.batch, count // parts.trainings))
    train = rounds * (parts.process + alone + shared * of_step(parts.batch, each))
    return parts.start + train + parts.ready + grid_alone + grid_shared / count


def of_step(batch: int, processes: int) -> float:
    """The time of a training step whose batch several processes share, relative to one process: linear in its rows."""
    row = (BATCH_4 - BATCH_1) / 3
    return (BATCH_1 + row * (batch / processes - 1)) / (BATCH_1 + row * (batch - 1))


def parts_of(one: RunTime, several: RunTime, batch: int) -> Parts:
    """The parts of the estimate, from a run by one process and one by several; it is one without a tune."""
    trainings = [name for name, step in one.steps.items() if step.kind == "train"]
    grid = next(name for name, step in one.steps.items() if step.kind == "grid")

    def mean(run: RunTime) -> tuple[float, float]:
        own = [run.steps[name] for name in trainings]
        return statistics.mean(s.seconds - s.shared for s in own), statistics.mean(s.shared for s in own)

    train, sheet = mean(one), one.steps[grid]
    alone, launched = sheet.seconds - sheet.shared, several.steps[grid]
    slower = launched.seconds - alone - launched.shared  # beside a tune it has fewer processes than there are
    models = sum(step.seconds for step in one.steps.values() if step.kind in ("train", "grid", "tune"))
    return Parts(
        len(trainings),
        batch,
        max(0.0, one.seconds - models),
        max(0.0, sum(mean(several)) - sum(train)),
        max(0.0, slower),
        train,
        (alone, sheet.shared),
    )


def measure(work: Path, recipe: Path, processes: int, device: str, limit: float) -> RunTime:
    """Run the recipe in an empty folder.

    Raises:
        subprocess.TimeoutExpired: after ``limit`` seconds, when all processes have ended.
    """
    folder, kernels = work / f"by-{processes}", work / f"kernels-{processes}"
    for own in (folder, kernels):
        shutil.rmtree(own, ignore_errors=True)
    command = [sys.executable, "-m", "loratools", "run", recipe.name, "-o", str(folder), "--device", device]
    environment = own_environment(TRITON_CACHE_DIR=str(kernels))
    begun = time.perf_counter()
    # when it is killed, the processes that it has started end by themselves within seconds
    subprocess.run(
        [*command, "--processes", str(processes)], cwd=recipe.parent, env=environment, check=True, timeout=limit
    )
    seconds = time.perf_counter() - begun
    print(f"{processes} process{'es' if processes > 1 else ''}: {seconds:.1f} s", flush=True)
    return RunTime(processes, seconds, dict(_steps(folder)))


def _steps(folder: Path) -> Iterator[tuple[str, StepTime]]:
    for step in json.loads((folder / "run.json").read_text(encoding="utf-8"))["steps"]:
        out, kind = folder / step["step"], str(step["kind"])
        made = sorted(path.stat().st_mtime for path in _made(out, kind))
        span = made[-1] - made[0] if len(made) > 1 else 0.0
        # what came before the first one took as long as each that followed
        yield step["step"], StepTime(kind, step["seconds"], span * len(made) / max(1, len(made) - 1))


def _made(out: Path, kind: str) -> list[Path]:
    """The files by whose times the shared part of a step is told."""
    pattern = {"train": "*.safetensors", "grid": "cells/**/*.png"}.get(kind)
    return list(out.glob(pattern)) if pattern else []


def run(out: Path, work: Path, scale: Scale, processes: int, limit: float, *, tiny: bool, tune: bool) -> None:
    """Measure both ways, and write ``scaling.json`` after each.

    Args:
        limit: seconds after which this ends, whatever is measured by then.
    """
    begun = time.monotonic()
    import torch

    from loratools.base.base_path import base_digest

    work.mkdir(parents=True, exist_ok=True)
    if not (work / "base/model_index.json").is_file():
        (full_size.tiny if tiny else full_size.sd15)(work / "base")
    full_size.pictures(work / "images", 64 if tiny else 512, 4 if tiny else 24)
    text = (RECIPE + (TUNE if tune else "")).format(base="base", prompts=PROMPTS, **asdict(scale))
    write_text(work / "scaling.yaml", text)
    _import_once()  # takes seconds, and the digest of a file that has just changed is not kept
    base_digest(work / "base")  # read once, for both ways alike
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    facts: dict[str, Any] = {"device": gpu, "tiny": tiny, "scale": asdict(scale), "recipe": text, "runs": []}
    print(f"ready after {time.monotonic() - begun:.1f} s", flush=True)
    for count in (1, processes):
        left = limit - (time.monotonic() - begun)
        try:
            timed = measure(work, work / "scaling.yaml", count, "cpu" if tiny else "auto", left)
        except subprocess.TimeoutExpired:
            sys.exit(f"{limit:.0f} s are over, and {count} processes were not done; give fewer --epochs or --seeds")
        facts["runs"].append(asdict(timed))
        write_text(out / "scaling.json", json.dumps(facts, indent=1))
    one, several = runs_of(facts)
    print(f"{one.seconds / several.seconds:.2f} x one process", flush=True)


def _import_once() -> None:
    """Compile the packages that a step imports, and have them in the system's cache of files."""
    command = [sys.executable, "-c", "from loratools.recipe.run.launched import warm_up; warm_up()"]
    subprocess.run(command, env=own_environment(), check=True)


def bright(images: Sequence[Any], prompts: Sequence[str], seeds: Sequence[int]) -> list[float]:
    """The tune's measure: light pixels of each picture, since a random base draws nothing that a judge could read."""
    return [float(sum(image.convert("L").histogram()[128:])) for image in images]


def runs_of(facts: Mapping[str, Any]) -> list[RunTime]:
    """The runs of ``scaling.json``."""
    return [
        RunTime(run["processes"], run["seconds"], {name: StepTime(**values) for name, values in run["steps"].items()})
        for run in facts["runs"]
    ]


def report(facts: Mapping[str, Any] | None) -> str:
    """The page: figures that were measured, and the estimate for more GPUs."""
    lines = ["# One recipe on several GPUs", ""]
    if facts is not None and len(facts["runs"]) < 2:
        facts = None  # the second way was not done in time
    if facts is None or facts["tiny"]:
        lines += ["Two GPUs: **to be measured** (`python -m benchmarks.scaling --out FOLDER` on two of them).", ""]
        if facts is not None:
            lines += ["A rehearsal on a CPU, whose two processes share its cores, so nothing is to be gained:", ""]
    lines += _measured(facts) if facts is not None else []
    full = facts is not None and not facts["tiny"]
    parts = PAPER
    if full and facts is not None:
        one, several = runs_of(facts)
        parts = parts_of(one, several, facts["scale"]["batch"])
    return "\n".join([*lines, *_paper(parts, full)]) + "\n"


def _measured(facts: Mapping[str, Any]) -> list[str]:
    one, several = runs_of(facts)
    names = list(one.steps)
    lines = [
        f"`python -m benchmarks.scaling{' --tiny' if facts['tiny'] else ''}`, {facts['device']}. Seconds from the",
        "start of the first process to its end; a step's own from its start to its record.",
        "",
        f"| | all | {' | '.join(names)} |",
        "|---|---:" + "|---:" * len(names) + "|",
    ]
    for run in (one, several):
        own = " | ".join(f"{run.steps[name].seconds:.1f}" for name in names)
        lines.append(f"| {run.processes} process{'es' if run.processes > 1 else ''} | {run.seconds:.1f} | {own} |")
    bar = "" if facts["tiny"] else " (the bar: 1.7)"
    return [*lines, "", f"**{one.seconds / several.seconds:.2f} x** one process{bar}.", ""]


def _paper(parts: Parts, measured: bool) -> list[str]:
    """The estimate, and where it stops."""
    whole = predicted(parts, 1)
    lines = [
        "## Eight GPUs on paper",
        "",
        "Without the tune. Seconds = starts + what one process does alone + what several share, over the GPUs; "
        + ("from the parts measured above." if measured else "**to be measured**. Until then from parts"),
        *([] if measured else ["that were measured one by one (training.md, previews.md), and guessed starts."]),
        "",
        f"Parts: start {parts.start:.1f} s; a process {parts.process:.1f} s; a grid in processes that are there "
        f"{parts.ready:.1f} s;",
        f"a training {parts.train[0]:.1f} s alone and {parts.train[1]:.1f} s shared; the grid {parts.grid[0]:.1f} s "
        f"and {parts.grid[1]:.1f} s.",
        "",
        "| GPUs | seconds | x one | of it that no GPU shortens |",
        "|---:|---:|---:|---:|",
    ]
    for count in (1, 2, 4, 8):
        seconds, fixed = predicted(parts, count), _fixed(parts, count)
        share = f"{fixed:.0f} s, {100 * fixed / seconds:.0f} %"
        lines.append(f"| {count} | {seconds:.0f} | {whole / seconds:.2f} | {share} |")
    each = min(parts.batch, 8 // parts.trainings)
    lines += [
        "",
        f"Where it stops: two trainings use two GPUs fully. On eight each has {each}, which share a batch of "
        f"{parts.batch}, so that a step",
        f"takes {of_step(parts.batch, each):.2f} of its time on one (batch 1 against 4 in training.md), not "
        f"{1 / each:.2f}. The grid's pictures go by eight.",
        "Starting processes, loading the base, capturing graphs and drawing the sheet stay. More trainings, longer",
        f"ones or a larger batch raise the factor; if all shared work took no time at all it were "
        f"{whole / _fixed(parts, 8):.1f}.",
    ]
    return lines


def _fixed(parts: Parts, count: int) -> float:
    """The seconds on ``count`` GPUs that are not shared work."""
    launched = 0.0 if count == 1 else parts.process + parts.ready
    rounds = -(-parts.trainings // count)
    return parts.start + launched + rounds * parts.train[0] + parts.grid[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, then measure or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of scaling.json")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "loratools-scaling")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="a tiny base on a CPU")
    parser.add_argument("--limit", type=float, default=580.0, help="seconds after which it ends, whatever is measured")
    parser.add_argument("--epochs", type=int, help="of each training; 240 steps each at full size")
    parser.add_argument("--seeds", type=int, help="of the grid; 26 pictures each at full size")
    parser.add_argument("--tune", action="store_true", help="a tune step too, led by how bright pictures are")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write results/scaling.md from FOLDER, and stop")
    parser.add_argument("--page", type=Path, default=RESULTS, help="where the report is written")
    args = parser.parse_args(arguments)
    if args.report is not None:
        path = args.report / "scaling.json"
        results_page.write(args.page, report(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None))
        return
    if args.out is None:
        parser.error("give --out FOLDER, or --report FOLDER")
    given = {name: getattr(args, name) for name in ("epochs", "seeds") if getattr(args, name) is not None}
    scale = Scale(**{**asdict(TINY if args.tiny else Scale()), **given})
    out, work = args.out.absolute(), args.work.absolute()
    run(out, work, scale, args.processes, args.limit, tiny=args.tiny, tune=args.tune)


if __name__ == "__main__":
    main()
