"""Every shipped recipe on the pocket base: from an empty cache, and again from the cache.

    python -m benchmarks.recipes                    all nine, as they ship
    python -m benchmarks.recipes --only slim two-loras --small --out /tmp/x.md

Writes a table of times to ``results/recipes.md``. The recipes share one cache, as ``--cache`` lets them: a training
that several of them ask for is run once, in the first. ``from-kohya`` is args epoch-grid's epochs as another
trainer leaves them.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks import results_page
from loratools.adapter.files.epoch_files import epochs
from loratools.adapter.header import read_header
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.shipped import RECIPES
from loratools.yamlio import read_yaml

RESULTS = Path(__file__).with_name("results") / "recipes.md"
ORDER = (
    "style-quick",
    "epoch-grid",
    "block-sweep",
    "fix-hands",
    "slim",
    "into-checkpoint",
    "two-loras",
    "from-kohya",
    "style",
)
SMALL = {"pictures": "4", "epochs": "2", "repeats": "1", "drawn": "1", "steps": "2"}


@dataclass(frozen=True)
class Timed:
    """One recipe: wall seconds from nothing and from the cache, seconds of its steps from the cache, what was made."""

    name: str
    steps: int
    first: float
    again: float
    cached: bool
    bytes: int


def timed(name: str, work: Path, cache: Path, small: bool) -> Timed:
    """Run a recipe twice."""
    known = read_yaml(RECIPES / f"{name}.yaml").data.get("vars", {})
    values = {key: value for key, value in SMALL.items() if small and key in known}

    def run() -> tuple[float, int, bool]:
        begun = time.perf_counter()
        planner = make_planner(f"{name}.yaml", work, values=values)
        ran = run_steps(planner.plan(), work, RunContext(), cache=cache)
        return time.perf_counter() - begun, len(ran), all(done.cached for done in ran)

    first, steps, _ = run()
    again, _, cached = run()
    size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file() and ".loratools" not in path.parts)
    return Timed(name, steps, first, again, cached, size)


def foreign(run: Path, out: Path) -> None:
    """A run as sd-scripts leaves it: nothing of ours in the headers, the last epoch without a number."""
    out.mkdir(exist_ok=True)
    trained = epochs(run)
    for epoch in trained:
        texts = {key: text for key, text in read_header(epoch.path).metadata.items() if key.startswith("ss_")}
        name = "ink" if epoch is trained[-1] else f"ink-{epoch.number:06d}"
        save_file(load_file(epoch.path), out / f"{name}.safetensors", texts)


def table(rows: Sequence[Timed], small: bool) -> str:
    """The report."""
    threads = torch.get_num_threads()
    where = f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}, torch {torch.__version__}"
    lines = [
        "# Shipped recipes on the pocket base",
        "",
        f"`python -m benchmarks.recipes{' --small' if small else ''}`, {where}.",
        "The recipes share one cache, in the table's order: a training that an earlier one ran is not run again.",
        "Seconds are wall time, planning included.",
        "",
        "| recipe | steps | from an empty cache | again | all cached | made |",
        "|---|---:|---:|---:|---|---:|",
    ]
    lines += [
        f"| {t.name} | {t.steps} | {t.first:.1f} s | {t.again:.2f} s | {'yes' if t.cached else 'NO'} | "
        f"{t.bytes / 2**20:.1f} MiB |"
        for t in rows
    ]
    whole = sum(t.first for t in rows)
    lines += [
        "",
        f"Together {whole:.0f} s from an empty cache; the slowest from the cache {max(t.again for t in rows):.2f} s.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, run the recipes that are asked for, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=ORDER, default=list(ORDER))
    parser.add_argument("--small", action="store_true", help="the smallest settings; style has none and is left out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    out = args.out.absolute()
    names = [name for name in ORDER if name in args.only and not (args.small and name.startswith("style"))]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        rows = []
        for name in names:
            if name == "from-kohya":
                foreign(Path("runs/epoch-grid/style"), Path("kohya_run"))
            rows.append(timed(name, Path("runs") / name, Path("cache"), args.small))
            print(f"{name:<16} {rows[-1].first:7.1f} s   again {rows[-1].again:5.2f} s", flush=True)
        os.chdir(out.parent)
    results_page.write(out, table(rows, args.small))


if __name__ == "__main__":
    main()
