"""Without extras, and with each package alone missing: what does not need it works, what does says what to install."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli import odd_paths
from tests.cli.odd_paths import SET
from tests.dataset.onnx_graphs import constant_yolo
from tests.dataset.tagging.graphs import wd_tagger
from tests.recipe.conftest import save_lora
from tests.tiny import save_tiny_base

ROOT = Path(__file__).parents[1]
EXTRAS = (
    "onnxruntime",
    "rapidocr",
    "animeface",
    "starlette",
    "uvicorn",
    "websockets",
    "bitsandbytes",
    "prodigyopt",
    "lion_pytorch",
    "schedulefree",
    "tensorboard",
    "cmaes",
    "lycoris",
    "peft",
    "psutil",
    "spandrel",
    "onnx",
)
HEAVY = ("diffusers", "transformers", "accelerate", "matplotlib", "tokenizers")
LIGHT = [
    ["inspect", "a.safetensors"],
    ["inspect", "a.safetensors", "--json"],
    ["merge", "a:1:GP1,b:-1:GP2", "-o", "m.safetensors"],
    ["merge", "a:1,b:1", "--method", "ties", "-o", "t.safetensors"],
    ["merge", "r.yaml"],
    ["verify", "m.safetensors", "a:1:GP1,b:-1:GP2"],
    ["soup", "a", "b", "-o", "s.safetensors"],
    ["subtract", "a", "b", "-o", "u.safetensors"],
    ["resize", "a.safetensors", "-o", "small.safetensors", "--rank", "1"],
    ["convert", "a.safetensors", "-o", "d.safetensors", "--to", "diffusers"],
    ["edit-header", "a.safetensors", "--title", "A", "-o", "e.safetensors"],
    ["analyze", "a.safetensors", "b.safetensors"],
    ["explain", "m.safetensors"],
    ["epochs", "run"],
    ["blocks", "show", "GP1"],
    ["blocks", "list"],
    ["blocks", "convert", "GP1", "--to", "26", "--missing", "0"],
    ["blocks", "suggest", "a", "b"],
    ["blocks", "fix", "r.yaml", "--symptom", "hands"],
    ["blocks", "undo", "r.yaml"],
    ["recipe", "new", "n.yaml", "--kind", "style", "--yes"],
    ["recipe", "steps"],
    ["dataset", "look", SET],
    ["dataset", "import", SET],
    ["dataset", "edit", SET, "add", "ink", "--yes"],
    ["dataset", "balance", SET],
    ["dataset", "prepare", SET, "-o", "set", "--resolution", "64"],
    ["run", "r.yaml", "--dry-run"],
]
TRAIN = [
    "train",
    "--base",
    "tiny",
    "--images",
    SET,
    "--epochs",
    "1",
    "--dim",
    "2",
    "--resolution",
    "64",
    "--device",
    "cpu",
]
NEEDS = [
    ("onnxruntime", ["dataset", "look", SET, "--detector", "head=yolo.onnx"], "loratools[face]"),
    ("onnxruntime", ["dataset", "tag", SET, "--tagger", "tagger", "--existing", "replace"], "loratools[tag]"),
    ("rapidocr", ["dataset", "look", SET, "--detector", "rapidocr"], "loratools[text]"),
    ("animeface", ["dataset", "look", SET, "--detector", "animeface"], "loratools[face]"),
    ("starlette", ["studio", "."], "loratools[studio]"),
    ("uvicorn", ["studio", "."], "loratools[studio]"),
    ("websockets", ["studio", "."], "loratools[studio]"),
    ("bitsandbytes", [*TRAIN, "--optimizer", "AdamW8bit"], "loratools[optim]"),
    ("prodigyopt", [*TRAIN, "--optimizer", "Prodigy"], "loratools[optim]"),
    ("lion_pytorch", [*TRAIN, "--optimizer", "Lion"], "loratools[optim]"),
    ("schedulefree", [*TRAIN, "--optimizer", "AdamWScheduleFree"], "loratools[optim]"),
    ("tensorboard", [*TRAIN, "--set", "tensorboard=true"], "loratools[log]"),
    ("diffusers", [*TRAIN], "pip install loratools"),
    ("transformers", [*TRAIN], "pip install loratools"),
    ("matplotlib", ["analyze", "a.safetensors", "--plot", "p.png"], "pip install loratools"),
]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    odd_paths.make(tmp_path)
    folder = tmp_path.joinpath(*odd_paths.PARTS)
    for seed, name in enumerate(("a", "b"), 1):
        save_lora(folder / f"{name}.safetensors", seed)
        save_lora(folder / f"run/ink-00000{seed}.safetensors", seed)
    save_tiny_base(folder / "tiny")
    constant_yolo(folder / "yolo.onnx", [[32.0], [20.0], [16.0], [16.0], [0.9]])
    wd_tagger(folder / "tagger")
    (folder / "r.yaml").write_text(
        "base: pocket\nblocks:\n  GP1: " + str([1.0] * 17) + '\nsteps:\n  f: {merge: "a:1:GP1"}\n'
    )
    return folder


def run_without(folder: Path, missing: tuple[str, ...], commands: list[list[str]]) -> list[dict[str, Any]]:
    words = [sys.executable, "-m", "tests.extras", json.dumps(missing), json.dumps(commands)]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(folder)}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


@pytest.mark.slow
@pytest.mark.parametrize("missing", [EXTRAS, (*EXTRAS, *HEAVY)], ids=["no extras", "and no diffusers"])
def test_what_reads_and_merges_files_needs_no_extra_and_no_diffusers(here: Path, missing: tuple[str, ...]) -> None:
    failed = [own for own in run_without(here, missing, LIGHT) if own["code"] != 0]
    assert failed == []


@pytest.mark.slow
@pytest.mark.parametrize(("package", "words", "remedy"), NEEDS, ids=[f"{own[0]} {own[1][0]}" for own in NEEDS])
def test_what_needs_a_package_says_so_in_one_sentence(here: Path, package: str, words: list[str], remedy: str) -> None:
    needing, light, _ = run_without(here, (package,), [words, ["inspect", "a.safetensors"]])
    assert light["code"] == 0
    assert needing["code"] == 1 and remedy in needing["out"], needing["out"]
    assert re.match(r"error: [^\n]*\n\Z", needing["out"][needing["out"].index("error: ") :]), needing["out"]
    assert "bug" not in needing["out"]
