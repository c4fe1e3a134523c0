"""What the tools that people merge LoRAs with compute, against the sum that was asked for.

``python -m benchmarks.other_tools --sd-scripts CHECKOUT --supermerger CHECKOUT`` runs the merge functions of kohya's
sd-scripts and of hako-mikan's SuperMerger (in processes of their own, what they import of the WebUI and of their
training replaced by stand-ins), PEFT's ``add_weighted_adapter`` and ours on two random rank-16 LoRAs on SD1.5's 264
modules. The error is ||merged - asked|| / ||asked||, computed exactly from the factors by ``loratools verify``; for one
LoRA alone also what weight the result acts as: its projection on that LoRA. Writes
``benchmarks/results/other_tools.md``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import loratools as lt
from benchmarks import results_page
from loratools.adapter.files.file import read
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from tests.loras import SD15, Sizes, lora_tensors

PAGE = Path(__file__).parent / "results/other_tools.md"
RANK, ALPHA = 16, 8.0
_SMALL = Sizes((32, 64, 128, 128), 64, 64)

_STANDINS = """
import importlib.abc, json, sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, *names):
        self.names = names
    def find_spec(self, name, path, target=None):
        if any(name == own or name.startswith(own + ".") for own in self.names):
            return ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        made = MagicMock(name=spec.name)
        made.__path__, made.__spec__ = [], spec
        return made
    def exec_module(self, module):
        pass

asked = json.loads(sys.argv[1])
import torch
from safetensors.torch import save_file
def keep(tensors):
    save_file({name: own.contiguous().float() for name, own in tensors.items()}, asked["out"])
"""
_SUPERMERGER = (
    _STANDINS
    + """
sys.meta_path.insert(0, StandIns("gradio", "launch", "modules", "lora", "scripts.kohyas", "scripts.A1111",
                                 "scripts.mergers.components", "scripts.mergers.mergers", "scripts.mergers.model_util"))
from scripts.mergers import pluslora
pluslora.str_to_dtype = lambda name: torch.float32
pairs = zip(asked["weights"], asked["vectors"])
ratios = [pluslora.to26([weight * part for part in vector]) for weight, vector in pairs]
if asked["way"] == "rank":
    made = pluslora.merge_lora_models_dim(asked["files"], ratios, asked["rank"], [], "cpu", "float")
else:
    made = pluslora.merge_lora_models(asked["files"], ratios, asked["way"], False, "float", "cpu")
keep(made)
"""
)
_SD_SCRIPTS = (
    _STANDINS
    + """
sys.meta_path.insert(0, StandIns("library", "cv2", "imagesize", "toml"))
import merge_lora, svd_merge_lora
if asked["way"] == "svd":
    lbws = [json.dumps(vector) for vector in asked["vectors"]] if asked["block"] else []
    made = svd_merge_lora.merge_lora_models(asked["files"], asked["weights"], lbws, asked["rank"], asked["rank"], "cpu",
                                            torch.float32)
else:
    made = merge_lora.merge_lora_models(asked["files"], asked["weights"], torch.float32, asked["way"] == "concat")
keep(made[0] if isinstance(made, tuple) else made)
"""
)


@dataclass(frozen=True)
class Request:
    """A weighted sum: its text, weights, and block vectors (names of presets; None where there are none)."""

    text: str
    weights: tuple[float, ...]
    vectors: tuple[str | None, ...]

    @property
    def block(self) -> bool:
        """Whether it has block vectors."""
        return any(self.vectors)

    def terms(self, files: Sequence[Path]) -> str:
        """As a merge string."""
        parts = zip(files, self.weights, self.vectors, strict=False)
        return ",".join(f'"{path}":{weight:g}{f":{vector}" if vector else ""}' for path, weight, vector in parts)


REQUESTS = (
    Request("one LoRA at 0.5", (0.5,), (None,)),
    Request("one LoRA at -1", (-1.0,), (None,)),
    Request("`A:1, B:-1`", (1.0, -1.0), (None, None)),
    Request("`A:1:GP1, B:-1:GP2`", (1.0, -1.0), ("GP1", "GP2")),
)
Merge = Callable[[Request, Sequence[Path], Path], None]


class CannotError(Exception):
    """A tool has no way to be asked for that; the text says what it lacks."""


@dataclass(frozen=True)
class Tool:
    """A tool's way of merging."""

    name: str
    merge: Merge


def numbers(name: str | None) -> list[float]:
    """The 17 numbers of a preset; ones without."""
    if name is None:
        return [1.0] * 17
    vector = parse_vector(name, load_presets(), "sd1")
    return [vector.weight(block.name) for block in vector.scheme.blocks]


def peer(script: str, checkout: Path, folders: Sequence[str], way: object, *, vectors: bool = True) -> Merge:
    """A tool's own function in a process of its own."""

    def merge(request: Request, files: Sequence[Path], out: Path) -> None:
        if request.block and not vectors:
            raise CannotError("no block vectors")
        count = len(request.weights)
        asked = {
            "files": [str(path) for path in files[:count]],
            "weights": list(request.weights),
            "vectors": [numbers(name) for name in request.vectors],
            "block": request.block,
            "way": way,
            "rank": RANK * count,
            "out": str(out),
        }
        places = os.pathsep.join(str(checkout / folder) for folder in folders)
        command = [sys.executable, "-c", script, json.dumps(asked)]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": places}, cwd=checkout, capture_output=True, encoding="utf-8"
        )
        if done.returncode:
            raise CannotError(f"fails: {done.stderr.strip().splitlines()[-1]}")

    return merge


def by_peft(request: Request, files: Sequence[Path], out: Path) -> None:
    """``add_weighted_adapter(combination_type="linear")`` on a model of bare linear layers, as wide as the LoRAs."""
    from peft import LoraConfig, get_peft_model

    if request.block:
        raise CannotError("no block vectors")
    count = len(request.weights)
    tensors = [load_file(path) for path in files[:count]]
    names = sorted(key.removesuffix(".lora_down.weight") for key in tensors[0] if key.endswith(".lora_down.weight"))
    plain = {name: name.removeprefix("lora_") for name in names}  # a module called lora_... is taken for one of PEFT's
    model = torch.nn.Module()
    for name in names:
        down, up = (tensors[0][f"{name}.lora_{end}.weight"] for end in ("down", "up"))
        setattr(model, plain[name], torch.nn.Linear(down[0].numel(), len(up), bias=False))
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(plain.values()))
    wrapped = get_peft_model(model, config, adapter_name="0")
    for n in range(1, count):
        wrapped.add_adapter(str(n), config)
    layers = {name: wrapped.base_model.model.get_submodule(plain[name]) for name in names}
    with torch.no_grad():
        for name, layer in layers.items():
            for n, own in enumerate(tensors):
                layer.lora_A[str(n)].weight.copy_(own[f"{name}.lora_down.weight"].flatten(1))
                layer.lora_B[str(n)].weight.copy_(own[f"{name}.lora_up.weight"].flatten(1))
    wrapped.add_weighted_adapter([str(n) for n in range(count)], list(request.weights), "sum", "linear")
    made = {}
    for name, layer in layers.items():
        for end, part in (("down", layer.lora_A["sum"]), ("up", layer.lora_B["sum"])):
            like = tensors[0][f"{name}.lora_{end}.weight"]
            made[f"{name}.lora_{end}.weight"] = part.weight.reshape(-1, *like.shape[1:]).contiguous()
        made[f"{name}.alpha"] = torch.tensor(layer.scaling["sum"] * layer.r["sum"])
    save_file(made, out)


def by_loratools(request: Request, files: Sequence[Path], out: Path) -> None:
    """Ours, as it is published: in fp16."""
    lt.merge(request.terms(files), out)


def acts_as(out: Path, one: Path) -> float:
    """The weight of ``one`` in ``out``: <out, one> / <one, one>."""
    made, asked = read(out), read(one)
    inner = square = 0.0
    for name in asked:
        a, b = (each[name].dense().double().flatten() for each in (made, asked))
        inner, square = inner + float(a @ b), square + float(b @ b)
    return inner / square


def shown(tool: Tool, request: Request, files: Sequence[Path], folder: Path) -> str:
    """A cell of the table."""
    out = folder / "out.safetensors"
    out.unlink(missing_ok=True)
    try:
        tool.merge(request, files, out)
    except CannotError as error:
        return str(error)
    except Exception as error:  # a peer's own, whatever it raises, is its answer
        return f"fails: {type(error).__name__}"
    off = lt.verify(out, request.terms(files)).error
    text = "exact" if off < 1e-6 else f"{off:.0e}" if off < 1e-3 else f"{100 * off:.0f} %"
    if len(request.weights) == 1 and off > 0.01:
        text += f": acts as {acts_as(out, files[0]):+.2f}"
    return text


def tools(sd_scripts: Path | None, supermerger: Path | None) -> Iterator[Tool]:
    """Those that are there; ours last."""
    if supermerger is not None:
        for name, way in (("as it comes", []), ('"same to Strength"', ["same to Strength"]), ("to a rank", "rank")):
            yield Tool(f"SuperMerger, {name}", peer(_SUPERMERGER, supermerger, ["."], way))
    if sd_scripts is not None:
        places = [".", "networks"]
        yield Tool("sd-scripts `merge_lora`", peer(_SD_SCRIPTS, sd_scripts, places, "", vectors=False))
        yield Tool("`merge_lora --concat`", peer(_SD_SCRIPTS, sd_scripts, places, "concat", vectors=False))
        yield Tool("`svd_merge_lora`, rank r1 + r2", peer(_SD_SCRIPTS, sd_scripts, places, "svd"))
    yield Tool("PEFT `linear`", by_peft)
    yield Tool("loratools, in fp16", by_loratools)


def _versions(*checkouts: Path | None) -> str:
    import peft

    made = []
    for checkout in filter(None, checkouts):
        log = subprocess.run(
            ["git", "log", "-1", "--format=%h of %cs"], cwd=checkout, capture_output=True, encoding="utf-8"
        )
        made.append(f"{checkout.name} {log.stdout.strip()}")
    return ", ".join([*made, f"peft {peft.__version__}"])


def main() -> None:
    """Merge everything by every tool and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sd-scripts", type=Path, help="a checkout of kohya-ss/sd-scripts")
    parser.add_argument("--supermerger", type=Path, help="a checkout of hako-mikan/sd-webui-supermerger")
    parser.add_argument("--full-size", action="store_true", help="SD1.5's own widths; minutes, and the same figures")
    parser.add_argument("--out", type=Path, default=PAGE)
    asked = parser.parse_args()
    checkouts = [path.resolve() if path else None for path in (asked.sd_scripts, asked.supermerger)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = [folder / f"{name}.safetensors" for name in "AB"]
        for seed, path in enumerate(files):
            sizes = SD15 if asked.full_size else _SMALL
            save_file(lora_tensors("sd1", sizes=sizes, rank=RANK, alpha=ALPHA, seed=seed), path)
        own = list(tools(*checkouts))
        lines = [f"| request | {' | '.join(tool.name for tool in own)} |", f"|---|{'---|' * len(own)}"]
        for request in REQUESTS:
            cells = [shown(tool, request, files, folder) for tool in own]
            lines.append(f"| {request.text} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
        left_out = lt.verify(files[0], REQUESTS[-1].terms(files)).error
    about = (
        f"Relative error of the merged file against the sum that was asked for, of two random rank-{RANK} LoRAs "
        f"(alpha {ALPHA:g}) on SD1.5's 264 modules{'' if asked.full_size else ', an eighth as wide'}. "
        f"{_versions(*checkouts)}. Giving A alone for the last request is {100 * left_out:.0f} % off.\n\n"
        "Written by `python -m benchmarks.other_tools`, which runs each tool's own functions; see it for how."
    )
    results_page.write(asked.out, f"# What other tools compute\n\n{about}\n\n" + "\n".join(lines))
    if math.isnan(left_out):
        raise SystemExit("the figures are not numbers")


if __name__ == "__main__":
    main()
