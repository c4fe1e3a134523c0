"""One run: trained, given its verdicts, and judged."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.epochs.cases import CASES, SPLIT, Case
from benchmarks.epochs.stored import Seen, write
from benchmarks.epochs.truth import folk_choices, judged_truth, scored
from loratools.adapter.files.epoch_files import epochs
from loratools.base.load import load_base
from loratools.preview.request.options import EngineOptions
from loratools.tune.epochs.decide import decide
from loratools.tune.epochs.verdict import VerdictRequest, epoch_verdict

_BATCH = 32
MORE_SEEDS = tuple(range(1, 9))  # of pictures that are stored to try other rules on
JUDGED, BLIND, MORE = "verdict", "verdict without a judge", "verdict on twice the pictures"


def run_case(name: str, work: Path, device: str, *, keep: Path, quick: bool) -> dict[str, Any]:
    """Train, judge and compare; figures of every picture and the sheet go to ``keep`` as ``NAME.npz`` and ``.webp``."""
    case = next(own for own in cases(quick=quick) if own.name == name)
    begun, seconds = time.perf_counter(), dict[str, float]()

    def lap(part: str) -> None:
        seconds[part] = round(time.perf_counter() - begun - sum(seconds.values()), 1)

    run = work / "run"
    _train(case, work / "images", run, device)
    lap("train")
    engine = EngineOptions(_BATCH)
    request = VerdictRequest(run, "pocket", seeds=case.seeds, device=device, engine=engine)
    judged = epoch_verdict(request)
    lap(JUDGED)
    more = case.seeds or MORE_SEEDS
    judged_more = epoch_verdict(VerdictRequest(run, "pocket", seeds=more, device=device, engine=engine))
    blind_more = epoch_verdict(VerdictRequest(run, "pocket", seeds=more, device=device, engine=engine, measures=()))
    seen = {"judged": Seen.of(judged_more), "blind": Seen.of(blind_more)}
    blind = decide(seen["blind"].of_seeds(frozenset(judged.seeds)).evidence)
    lap("verdicts on more pictures")
    files = epochs(run)
    truth = judged_truth(load_base("pocket", device=device), files, case)
    lap("truth")
    numbers = [epoch.number for epoch in files]
    choices = {
        JUDGED: judged.decision.epoch,
        BLIND: blind.epoch,
        MORE: judged_more.decision.epoch,
        **folk_choices(run),
    }
    write(keep / f"{name}.npz", truth, seen)
    with Image.open(run / "lora-verdict/epochs.png") as sheet:
        sheet.reduce(2).save(keep / f"{name}.webp", quality=70)
    shutil.rmtree(work, ignore_errors=True)  # a GPU machine's disk is small
    return {
        "case": asdict(case),
        "sentence": judged.decision.sentence,
        "sentence_without_judge": blind.sentence,
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
