"""``python -m benchmarks.epochs --work DIR --results FILE.json [--minutes N]``: the verdict against the truth.

Twelve runs are trained on the pocket base, ``epochs --base`` recommends an epoch of each (with the judge, and without),
and the judge looks at 200 other pictures of every epoch. Work that was stopped goes on: finished cases are in FILE.json
and are not made again, and with ``--minutes`` no case is begun that may not end in time. FILE.md is written beside it
after every case, raw figures of the truth into FILE.npz, and each case's sheet into the folder FILE.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.epochs.cases import CASES, SPLIT, Case
from benchmarks.epochs.report import table
from benchmarks.epochs.truth import Truth, folk_choices, judged_truth, scored
from loratools.adapter.files.epoch_files import epochs
from loratools.base.load import load_base
from loratools.files import replacing, write_text
from loratools.preview.request.options import EngineOptions
from loratools.tune.epochs.verdict import VerdictRequest, epoch_verdict

_BATCH = 32


def make(case: Case, work: Path, device: str) -> tuple[dict[str, Any], Truth]:
    """Train, judge and compare one run."""
    from loratools.train.config.read import read_config
    from loratools.train.trainer import train

    begun, seconds = time.perf_counter(), dict[str, float]()

    def lap(name: str) -> None:
        seconds[name] = round(time.perf_counter() - begun - sum(seconds.values()), 1)

    folder, run = work / case.name, work / case.name / "run"
    case.draw(folder / "images")
    settings = {
        "base": "pocket",
        "images": [{"folder": str(folder / "images"), "repeats": case.repeats}],
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
    lap("train")
    request = {"seeds": case.seeds, "device": device, "engine": EngineOptions(_BATCH)}
    blind = epoch_verdict(VerdictRequest(run, "pocket", measures=(), **request))  # type: ignore[arg-type]
    lap("verdict without a judge")
    verdict = epoch_verdict(VerdictRequest(run, "pocket", **request))  # type: ignore[arg-type]
    lap("verdict")
    files = epochs(run)
    truth = judged_truth(load_base("pocket", device=device), files, case)
    lap("truth")
    numbers = [epoch.number for epoch in files]
    choices = {"verdict": verdict.decision.epoch, "verdict without a judge": blind.decision.epoch, **folk_choices(run)}
    result = {
        "case": asdict(case),
        "sentence": verdict.decision.sentence,
        "sentence_without_judge": blind.decision.sentence,
        "epochs": numbers,
        "best": numbers[truth.best],
        "truth": truth.json(),
        "choices": scored(truth, numbers, choices),
        "seconds": seconds,
    }
    return result, truth


def main() -> None:
    """Every case that is not in the results yet, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="runs and pictures")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/epochs.json"))
    parser.add_argument("--minutes", type=float, help="begin no case that may not end by then")
    parser.add_argument("--only", help="a part of the cases' names")
    parser.add_argument("--quick", action="store_true", help="three epochs of eight drawings: does everything run?")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    begun, slowest = time.perf_counter(), 0.0
    results: dict[str, Any] = json.loads(args.results.read_text()) if args.results.is_file() else {}
    for case in (own for own in CASES if args.only is None or args.only in own.name):
        own = case.quick() if args.quick else case
        if own.name in results:
            continue
        spent = time.perf_counter() - begun
        if args.minutes is not None and spent + 1.2 * slowest > 60 * args.minutes:
            print(f"stopping after {spent / 60:.1f} minutes: {len(results)} cases are done", flush=True)
            break
        results[own.name], truth = make(own, args.work, args.device)
        slowest = max(slowest, time.perf_counter() - begun - spent)
        keep(args.results, results, own, truth, args.work)
        print(f"{own.name}: best {results[own.name]['best']}; {results[own.name]['sentence']}", flush=True)
        print(f"  {results[own.name]['seconds']}", flush=True)


def keep(path: Path, results: dict[str, Any], case: Case, truth: Truth, work: Path) -> None:
    """Write the results, the page that is made of them, the raw figures and the case's sheet."""
    write_text(path, json.dumps(results, indent=1) + "\n")
    write_text(path.with_suffix(".md"), table(results))
    raw = path.with_suffix(".npz")
    figures = dict(np.load(raw)) if raw.is_file() else {}
    figures[case.name] = np.stack([truth.style, truth.tags, truth.defects]).astype(np.float16)
    with replacing(raw) as part, open(part, "wb") as stream:
        np.savez_compressed(stream, **figures)
    with Image.open(work / case.name / "run/lora-verdict/epochs.png") as sheet:
        target = path.with_suffix("") / f"{case.name}.webp"
        target.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(target, quality=80)


if __name__ == "__main__":
    main()
