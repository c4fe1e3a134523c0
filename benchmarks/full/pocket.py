"""On the pocket base: all weights, a LoRA of rank 32, and a LoRA extracted from all weights, on the same 24 drawings.

Three styles that the base does not know, the same pictures, steps and seeds for each way, drawn on prompts and seeds
that nothing was trained with. The judge reads style, obedience to tags and defects; a picture copies if it is nearer to
a training picture than those are to each other (loratools.measures.copy_risk). Each way is also trained three times as
long, since guide 001 says that DreamBooth does not overfit.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.subtraction.case_run import MEASURES, _drawn, _judged, worth
from benchmarks.subtraction.cases import Case
from benchmarks.training.bench import Options, Rows
from loratools.adapter.files.epoch_files import epochs
from loratools.adapter.files.file import Adapter, read
from loratools.base.load import load_base
from loratools.measures.copy_risk import is_copy, usual_nearest
from loratools.measures.features import Pixels
from loratools.measures.measure import Shown
from loratools.preview.plan.jobs import Stack
from loratools.train.config.read import read_config
from loratools.train.trainer import train

EPOCHS, LONGER = 8, 3
RATES = {"unet_lr": 2e-4, "te_lr": 2e-5}  # of all weights; a LoRA's are those of the preset pocket-style
_SHARED = {"batch_size": 8, "keep_tokens": 3, "shuffle_tags": True, "lr_scheduler": "cosine", "lr_warmup": "5%"}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "LoRA r32": {"preset": "pocket-style", "dim": 32, "alpha": 32},
    "full": {"preset": "full", "network_type": "full", "save": "delta", "save_end": "lora:32", **_SHARED, **RATES},
}


def part_pocket(style: str, options: Options, rows: Rows) -> None:
    """One row a way and length."""
    base = load_base("pocket", device=options.device)
    case = Case(style, "sound", 1, drawings=24, epochs=EPOCHS)
    case = case.quick() if options.tiny else case
    work = options.work / case.name
    shutil.rmtree(work, ignore_errors=True)
    case.draw(work / "images")
    trained: dict[str, Adapter] = {}
    for longer in (1, LONGER):
        for way, settings in WAYS.items():
            begun = time.perf_counter()
            run = _train(dataclasses.replace(case, epochs=longer * case.epochs), work, options.device, way, settings)
            seconds = time.perf_counter() - begun
            name = f"{way}, {longer} x {case.epochs} epochs"
            trained[name] = read(epochs(run / "style")[-1].path)
            if way == "full":
                trained[f"LoRA r32 out of {name}"] = read(run / "style-last.safetensors")
            print(f"{style}: {name} took {seconds:.0f} s", flush=True)
    stacks = {"base": Stack(), **{name: _stack(adapter) for name, adapter in trained.items()}}
    shown = _drawn(base, stacks, case.prompts_of("seen"), case.seeds)
    copies = _copies(shown, work / "images")
    for name, pictures in shown.items():
        values = _judged(style, pictures)
        means = {measure: float(values[measure].mean()) for measure in MEASURES[:3]}
        rows.add(f"{style}: {name}", **means, worth=float(worth(values).mean()), copies=copies[name])


def _train(case: Case, work: Path, device: str, way: str, settings: Mapping[str, Any]) -> Path:
    out = work / f"{way.replace(' ', '-')}-{case.epochs}"
    given = {
        "base": "pocket",
        "images": [{"folder": str(work / "images"), "repeats": case.repeats}],
        "out": str(out),
        "name": "style",
        "seed": case.seed,
        "epochs": case.epochs,
        "save_last_n": 1,
        "device": device,
        **settings,
    }
    train(read_config(overrides=given)[0], progress=False)
    return out


def _stack(adapter: Adapter) -> Stack:
    return Stack({name: adapter[name] for name in adapter}, 1.0, adapter.digest)


def _copies(shown: Mapping[str, Sequence[Shown]], images: Path) -> dict[str, float]:
    """The share of each way's pictures that copy a training picture."""
    features = Pixels()
    trained = features.images([Image.open(path).convert("RGB") for path in sorted(images.glob("*.png"))])
    usual = usual_nearest(trained)
    near = {
        name: (features.images([picture.image for picture in own]) @ trained.T).amax(1).tolist()
        for name, own in shown.items()
    }
    return {
        name: sum(is_copy(one, before, usual) for one, before in zip(own, near["base"], strict=True)) / len(own)
        for name, own in near.items()
    }
