"""One LoRA: trained beside the base's own, every way to subtract drawn and judged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.subtraction.cases import AMOUNT_SEEDS, Case, cases
from benchmarks.subtraction.columns import AMOUNTS, BASE, GP2, GUIDE, MODES, TUNED, WHOLE, Pair
from loratools.adapter.files.epoch_files import epochs
from loratools.adapter.files.file import Adapter, read
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.imaging.fit import fit
from loratools.imaging.picture_table import picture_table
from loratools.measures.estimate import Values
from loratools.measures.judged import judge_measures
from loratools.measures.measure import Shown, take
from loratools.pocket.draw import FAULTS
from loratools.preview.plan.jobs import Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions

MEASURES = ("style", "tags", "defects", *FAULTS)
WORST_GRADE = 3.0
_BATCH = 64
_ROWS, _TILE = 3, 128  # of the sheet
_SHOWN = (BASE, WHOLE, GUIDE, GP2, *MODES, TUNED)


def run_case(name: str, work: Path, device: str, *, keep: Path, quick: bool) -> dict[str, Any]:
    """Train, draw and judge; the sheet goes to ``keep`` as ``NAME.webp``.

    Returns:
        For each column and measure the values of all pictures, prompts before seeds.
    """
    case = next(own for own in cases(quick=quick) if own.name == name)
    begun = time.perf_counter()
    pair = Pair(_style_lora(case, work, device), _base_lora(case, work, device, quick=quick))
    trained = time.perf_counter()
    base = load_base("pocket", device=device)
    amount, worth = _best_amount(case, base, pair)
    stacks = {**pair.stacks(), TUNED: pair.amount(amount)}
    prompts = case.prompts_of("seen")
    shown = _drawn(base, stacks, prompts, case.seeds)
    values = {column: _judged(case.style, pictures) for column, pictures in shown.items()}
    _sheet(shown, len(case.seeds), keep / f"{name}.webp")
    shutil.rmtree(work, ignore_errors=True)  # a GPU machine's disk is small
    return {
        "style": case.style,
        "kind": case.kind,
        "seed": case.seed,
        "prompts": prompts,
        "seeds": list(case.seeds),
        "amount": amount,
        "amounts": worth,
        "values": {
            column: {measure: np.round(own, 4).tolist() for measure, own in rows.items()}
            for column, rows in values.items()
        },
        "seconds": {"train": round(trained - begun, 1), "draw": round(time.perf_counter() - trained, 1)},
        "device": device,
    }


def worth(rows: Mapping[str, Values]) -> Values:
    """What each picture is worth: the style's probability x the share of tags obeyed x (1 - mean grade / 3)."""
    value: Values = rows["style"] * rows["tags"] * (1 - rows["defects"] / WORST_GRADE)
    return value


def _best_amount(case: Case, base: Base, pair: Pair) -> tuple[float, dict[str, float]]:
    """The amount whose pictures are worth most, and what each is worth, on pictures that nothing else uses."""
    stacks = {f"{amount:g}": pair.amount(amount) for amount in AMOUNTS}
    shown = _drawn(base, stacks, case.prompts_of("amount"), AMOUNT_SEEDS)
    values = {name: round(float(worth(_judged(case.style, own)).mean()), 4) for name, own in shown.items()}
    return float(max(values, key=lambda name: values[name])), values


def _drawn(
    base: Base, stacks: Mapping[str, Stack], prompts: Sequence[str], seeds: Sequence[int]
) -> dict[str, list[Shown]]:
    """Each stack's pictures, prompts before seeds."""
    usual = base.defaults
    settings = SamplingSettings(usual.steps, usual.cfg, usual.sampler, base.resolution)
    jobs = [PictureJob(prompt, seed, settings) for prompt in prompts for seed in seeds]
    shown: list[list[Shown]] = [[] for _ in stacks]
    with PopulationRenderer(base, EngineOptions(batch=_BATCH if base.device.type == "cuda" else 8)) as renderer:
        for picture in renderer.draw(list(stacks.values()), jobs):
            job = jobs[picture.job]
            shown[picture.stack].append(Shown(picture.pixels, job.prompt, job.seed))
    return dict(zip(stacks, shown, strict=True))


def _judged(style: str, pictures: Sequence[Shown]) -> dict[str, Values]:
    measures = judge_measures(style).by_name
    return {name: take(measures[name], pictures).values for name in MEASURES}


def _style_lora(case: Case, work: Path, device: str) -> Adapter:
    from loratools.train.config.read import read_config
    from loratools.train.trainer import train

    case.draw(work / "images")
    settings = {
        "base": "pocket",
        "images": [{"folder": str(work / "images"), "repeats": case.repeats}],
        "out": str(work / "run"),
        "name": "style",
        "seed": case.seed,
        "preset": "pocket-style",
        "epochs": case.epochs,
        "device": device,
        "resume": True,
    }
    train(read_config(overrides=settings)[0], progress=False)
    return read(epochs(work / "run")[-1].path)


def _base_lora(case: Case, work: Path, device: str, *, quick: bool) -> Adapter:
    """The base's own, made as the shipped recipe makes it; the same for all styles of a seed."""
    from loratools.train.basestyle.basestyle import basestyle

    size = {"images_per_framing": 1, "epochs": 1} if quick else {"images_per_framing": 8, "epochs": 4, "repeats": 5}
    settings = {**size, "seed": case.seed}
    made = basestyle("pocket", work / "base", name="base", settings=settings, device=device, progress=False)
    return read(made.epochs[-1])


def _sheet(shown: Mapping[str, Sequence[Shown]], seeds: int, path: Path) -> None:
    """Some columns side by side: the first seed of the first prompts."""
    rows = [shown[BASE][row * seeds] for row in range(min(_ROWS, len(shown[BASE]) // seeds))]
    tiles = [[fit(shown[column][row * seeds].image, (_TILE, _TILE)) for column in _SHOWN] for row in range(len(rows))]
    path.parent.mkdir(parents=True, exist_ok=True)
    picture_table(tiles, list(_SHOWN), [own.prompt for own in rows]).save(path, quality=80)
