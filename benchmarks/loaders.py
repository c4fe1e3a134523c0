"""How real loaders scale the files that we write, against the float64 sum; run as ``python -m benchmarks.loaders``.

Every file is a merge ``0.7 A - 0.4 B`` of random LoRAs. Each reader's own code loads it, and for every module the
difference that it would add is projected on the one that was asked: 1.000 is right. Readers other than the diffusers
that is installed here need an environment or a checkout:

    python3 -m venv d035 && d035/bin/pip install torch diffusers==0.35.2 transformers==4.56.2 peft==0.17.1
    python3 -m venv d032 && d032/bin/pip install torch diffusers==0.32.2 transformers==4.48.3 peft==0.14.0
    d035/bin/pip install einops torchsde scipy psutil sentencepiece aiohttp av gguf opencv-python-headless
    python -m benchmarks.loaders --python d035/bin/python --python d032/bin/python --tools-python d035/bin/python \\
        --sd-scripts ~/sd-scripts --comfyui ~/ComfyUI --forge ~/stable-diffusion-webui-forge

The table goes to ``benchmarks/results/loaders.md``; docs/adapters.md has its summary. Peers' code runs in processes
of their own, and no part of it is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loader_readers.cases import MODELS, job

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/loaders.md"
_EXACT = 1e-4  # of a ratio and of a residual: fp32 files lose 1e-7, a wrong scale is off by far more
_EXPLAINED = """Written by `python -m benchmarks.loaders`. A cell says what a loader adds to the weights, as a multiple
of what was asked, over all modules of a file: 1.000 is right. `Diffusers` is what `convert --to diffusers` writes;
`not padded` is the same with each module at its own rank, as it was once written."""


@dataclass(frozen=True)
class Reader:
    """A loader: the module that calls it, the interpreter that has it, and its checkout if it is one."""

    module: str
    python: str
    checkout: Path | None = None


def answer(reader: Reader, asked: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a reader makes of every file."""
    order, reply = folder / "job.json", folder / "reply.json"
    order.write_text(json.dumps({**asked, "checkout": str(reader.checkout or "")}), encoding="utf-8")
    reply.unlink(missing_ok=True)
    command = [reader.python, "-m", f"benchmarks.loader_readers.{reader.module}", str(order), str(reply)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    if not reply.exists():
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    replied: dict[str, Any] = json.loads(reply.read_text(encoding="utf-8"))
    return replied


def verdict(reply: Mapping[str, Any]) -> str:
    """One cell: 1.000 where every module is right, else what became of how many."""
    if "error" in reply:
        return f"refused: {str(reply['error']).splitlines()[0][:80]}"
    asked, modules = int(reply["asked"]), reply["modules"]
    if not modules:
        return "not read"
    wrong = [ratio for ratio, residual in modules.values() if abs(ratio - 1) > _EXACT or residual > _EXACT]
    if wrong:
        return f"**{min(wrong):.2f} to {max(wrong):.2f}** in {len(wrong)} of {asked}"
    return "1.000" if len(modules) == asked else f"1.000 in {len(modules)} of {asked}, the rest not read"


def readers(asked: argparse.Namespace) -> list[Reader]:
    """The readers that the command line names, the diffusers that is installed here first."""
    chosen = [Reader("diffusers_reader", python) for python in (sys.executable, *asked.python)]
    tools = {"sd_scripts": asked.sd_scripts, "comfyui": asked.comfyui, "forge": asked.forge}
    for name, checkout in tools.items():
        if checkout is not None:
            chosen.append(Reader(f"{name}_reader", asked.tools_python or sys.executable, checkout.resolve()))
    return chosen


def table(cases: Sequence[Mapping[str, Any]], replies: Sequence[Mapping[str, Any]]) -> str:
    """A line for each file, a column for each reader."""
    heads = [str(reply["reader"]) for reply in replies]
    lines = ["| family | keys | holds | " + " | ".join(heads) + " |", "|---" * (3 + len(heads)) + "|"]
    for case in cases:
        cells = [verdict(reply["cases"][case["label"]]) for reply in replies]
        lines.append("| " + " | ".join([case["family"], case["writing"], case["content"], *cells]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Write the files, ask every reader, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else "")
    parser.add_argument("--python", action="append", default=[], help="an interpreter with another diffusers and PEFT")
    parser.add_argument("--tools-python", help="the interpreter for sd-scripts, ComfyUI and Forge")
    parser.add_argument("--sd-scripts", type=Path, help="a checkout of sd-scripts")
    parser.add_argument("--comfyui", type=Path, help="a checkout of ComfyUI")
    parser.add_argument("--forge", type=Path, help="a checkout of stable-diffusion-webui-forge")
    parser.add_argument("--families", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        order = job(folder, asked.families)
        replies = []
        for reader in readers(asked):
            replies.append(answer(reader, order, folder))
            print(replies[-1]["reader"], flush=True)
    text = table(order["cases"], replies)
    print(text)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(f"# Loaders\n\n{_EXPLAINED}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
