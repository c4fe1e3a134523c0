"""Runs a recipe in processes that end by SIGKILL, one after another, or in two at once.

``python -m tests.recipe.run.killed RECIPE FOLDER KILLS``: KILLS is a JSON list of those of :mod:`tests.killing`,
seconds counted from the run's own start; the last run is left alone. Prints the signals as JSON.

``python -m tests.recipe.run.killed RECIPE ONE TWO --cache CACHE`` runs it in two folders at the same time, and prints
for each step how often it was made. Each run's current folder is the given one, and results go to ``work`` below it.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel  # noqa: F401  (now, and not in every run)
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

from loratools.recipe.observer import StepResult
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from tests.killing import Kill, forked, started


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    recipe, *rest = arguments
    if "--cache" in rest:
        one, two, _, cache = rest
        print(json.dumps(_at_once(Path(recipe).absolute(), (Path(one), Path(two)), Path(cache).absolute())))
        return
    folder, kills = rest
    print(json.dumps([_killed(Path(recipe).absolute(), Path(folder), kill) for kill in [*json.loads(kills), None]]))


def _run(recipe: Path, folder: Path, cache: Path | None = None) -> list[StepResult]:
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    planner = make_planner(recipe, Path("work"))
    return run_steps(planner.plan(), Path("work"), RunContext(device="cpu"), cache=cache)


def _killed(recipe: Path, folder: Path, kill: Kill | None) -> int:
    return forked(lambda: _run(recipe, folder), kill, lambda: True)


def _at_once(recipe: Path, folders: tuple[Path, Path], cache: Path) -> dict[str, int]:
    def run(folder: Path) -> None:
        made = [done.planned.name for done in _run(recipe, folder, cache) if not done.cached]
        Path("made.json").write_text(json.dumps(made))

    children = [started(lambda folder=folder: run(folder)) for folder in folders]
    if any(os.waitpid(child, 0)[1] for child in children):
        raise SystemExit("a run failed")
    return Counter(name for folder in folders for name in json.loads((folder / "made.json").read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
