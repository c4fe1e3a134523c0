"""Benchmarks and tools run, at their smallest sizes: nothing else calls them, so a change of the package could break
them unseen."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for top in ("benchmarks", "tools")
    for path in sorted((ROOT / top).rglob("*.py"))
    if path.name != "__init__.py" and path.parent.name != "site"  # test_site.py: it needs what the extra [docs] brings
]
SMALLEST = {
    "benchmarks.training": "--tiny --parts ours,check --steps 4 --check-steps 2 --work {0}/work --out {0}/out",
    "benchmarks.previews": "--tiny --parts memory,unet,patching,grid,edit,sheet,again,caps,samplers --keep {0}",
    "benchmarks.loaders": "--families sd1 --out {0}/loaders.md",
    "benchmarks.looking": "--tiny --repeats 1 --out {0}",
    "benchmarks.scaling": "--tiny --work {0}/work --out {0}/out",
    "benchmarks.epochs": "--quick --only ink-8-0.004 --device cpu --work {0}/work --keep {0}/keep",
    "benchmarks.studio": "--tiny --device cpu --parts sd15,sdxl --out {0}/studio.md",
    "benchmarks.subtraction": "--quick --only ink-sound-1 --device cpu --work {0}/work --keep {0}/keep",
    "benchmarks.recipes": "--small --only into-checkpoint --out {0}/recipes.md",
    "tools.build_pocket": "draw-codec draw-base draw-judge vae encode judge unet install card --dry --workers 1 "
    "--work {0}/work --weights {0}/weights",
}


@pytest.mark.parametrize("name", MODULES)
def test_it_can_be_imported(name: str) -> None:
    importlib.import_module(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs_at_its_smallest(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", name, *SMALLEST[name].format(tmp_path).split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr
