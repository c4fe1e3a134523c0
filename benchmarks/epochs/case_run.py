"""One run: trained, given its verdicts, and judged."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.epochs.cases import CASES, SPLIT, Case
from benchmarks.epochs.stored import Seen, write
from benchmarks.epochs.truth import folk_choices, judged_truth, scored
from loratools.adapter.files.epoch_files import epochs
from loratools.base.load import load_base
from loratools.preview.request.options import EngineOptions
from loratools.tune.epochs.verdict import VerdictRequest, epoch_verdict

_BATCH = 64
MORE_SEEDS = tuple(range(1, 9))  # of the verdict on twice the pictures
JUDGED, BLIND, MORE = "verdict", "verdict without a judge", "verdict on twice the pictures"


def run_case(name: str, work: Path, device: str, *, keep: Path, quick: bool, twice: bool = False) -> dict[str, Any]:
    """Train, judge and compare; figures of every picture and the sheet go to ``keep`` as ``NAME.npz`` and ``.webp``.

    Args:
        twice: give a verdict on twice the pictures as well.
    """
    case = next(own for own in cases(quick=quick) if own.name == name)
    begun, seconds = time.perf_counter(), dict[str, float]()

    def lap(part: str) -> None:
        seconds[part] = round(time.perf_counter() - begun - sum(seconds.values()), 1)

    run = work / "run"
    _train(case, work / "images", run, device)
    lap("train")
    engine = EngineOptions(_BATCH)
    request = VerdictRequest(run, "pocket", seeds=case.seeds, device=device, engine=engine)
    blind = epoch_verdict(replace(request, measures=()))
    lap(BLIND)
    judged = epoch_verdict(request)  # of the same pictures, which lie there; the sheet is this one's
    lap(JUDGED)
    seen = {"judged": Seen.of(judged), "blind": Seen.of(blind)}
    choices = {JUDGED: judged.decision.epoch, BLIND: blind.decision.epoch}
    if twice:
        more = epoch_verdict(replace(request, seeds=MORE_SEEDS))
        seen["judged"], choices[MORE] = Seen.of(more), more.decision.epoch
        lap(MORE)
    files = epochs(run)
    truth = judged_truth(load_base("pocket", device=device), files, case)
    lap("truth")
    numbers = [epoch.number for epoch in files]
    choices |= folk_choices(run)
    write(keep / f"{name}.npz", truth, seen)
    with Image.open(run / "lora-verdict/epochs.png") as sheet:
        sheet.reduce(2).save(keep / f"{name}.webp", quality=70)
    shutil.rmtree(work, ignore_errors=True)  # a GPU machine's disk is small
    return {
        "case": asdict(case),
        "sentence": judged.decision.sentence,
        "sentence_without_judge": blind.decision.sentence,
        "epochs": numbers,
        "best": numbers[truth.best],
        "truth": truth.json(),
        "choices": scored(truth, numbers, choices),
        "seconds": seconds,
        "device": device,
    }


def cases(*, quick: bool) -> list[Case]:
    """All twelve, in their order."""
    return [case.quick() if quick else case for case in CASES]


def _train(case: Case, images: Path, run: Path, device: str) -> None:
    from loratools.train.config.read import read_config
    from loratools.train.trainer import train

    case.draw(images)
    settings = {
        "base": "pocket",
        "images": [{"folder": str(images), "repeats": case.repeats}],
        "out": str(run),
        "name": "lora",
        "preset": "pocket-style",
        "epochs": case.epochs,
        "learning_rate": case.rate,
        "unet_lr": case.rate,
        "validation_split": SPLIT,
        "device": device,
        "resume": True,
    }
    train(read_config(overrides=settings)[0], progress=False)
