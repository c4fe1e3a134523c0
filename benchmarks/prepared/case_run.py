"""One case: drawn, prepared by the commands' own functions, trained twice with as many pictures shown, and judged."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.epochs.truth import WORST_GRADE
from benchmarks.prepared.cases import Case, cases
from loratools.adapter.files.epoch_files import Epoch
from loratools.adapter.files.epoch_files import epochs as epochs_of
from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.dataset.balance.plan import Balance, balance
from loratools.dataset.balance.write import write_folders
from loratools.dataset.detect.detectors import open_detectors
from loratools.dataset.edits.edit import CaptionEditor
from loratools.dataset.edits.log import Edit
from loratools.dataset.edits.operations import Prune
from loratools.dataset.edits.prune import PruneRules
from loratools.dataset.prepare.options import PrepareOptions
from loratools.dataset.prepare.run import prepare
from loratools.dataset.tags.store import DatasetFolder
from loratools.measures.copy_risk import is_copy, usual_nearest
from loratools.measures.features import Pixels
from loratools.measures.judged import judge_measures
from loratools.measures.measure import Shown
from loratools.preview.plan.jobs import Stack, content_keys_of
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions

RAW, PREPARED = "raw", "prepared"
EPOCHS = 7
_BATCH = 64


def run_case(name: str, work: Path, device: str, *, epochs: int = EPOCHS, quick: bool) -> dict[str, Any]:
    """Figures of the base and of both LoRAs; ``epochs`` are those over the prepared set."""
    case = next(own for own in cases(quick=quick) if own.name == name)
    shutil.rmtree(work, ignore_errors=True)
    originals = case.draw(work / "raw")
    plan = _prepare(work)
    raw = len(list((work / "raw").glob("*.txt")))
    repeats = 1 if quick else max(round(plan.best.count / raw), 1)
    folders: dict[str, Any] = {
        RAW: {"folder": str(work / "raw"), "repeats": repeats},
        PREPARED: str(work / ("prepared" if quick else "set")),
    }
    shown = {RAW: raw * repeats, PREPARED: plan.best.count}
    rounds = dict.fromkeys(folders, 1 if quick else epochs)
    if not quick:  # the same number of pictures shown, to within an epoch's remainder
        rounds[RAW] = max(round(epochs * shown[PREPARED] / shown[RAW]), 1)
    runs = {arm: _train(folder, work / f"run-{arm}", case, rounds[arm], device) for arm, folder in folders.items()}
    figures = _judged(load_base("pocket", device=device), case, runs, originals)
    steps = {arm: shown[arm] * rounds[arm] for arm in folders}
    shutil.rmtree(work, ignore_errors=True)
    return {"style": case.style, "seed": case.seed, "epochs": epochs, "shown": steps, "plan": plan.repeats(), **figures}


def _prepare(work: Path) -> Balance:
    """Copies out, junk tags out, classes balanced."""
    options = PrepareOptions(resolution=128, crops=False, text="keep")
    prepare(work / "raw", work / "prepared", options, open_detectors((), None, "cpu"), None)
    editor = CaptionEditor(DatasetFolder.open(work / "prepared"))
    edit = Edit(Prune(PruneRules(junk=True)))
    editor.apply(edit, editor.plan(edit))
    plan = balance(editor.folder)
    write_folders(editor.folder, plan, work / "set")
    return plan


def _train(images: Any, run: Path, case: Case, rounds: int, device: str) -> Epoch:
    from loratools.train.config.read import read_config
    from loratools.train.trainer import train

    settings = {
        "base": "pocket",
        "images": [images],
        "out": str(run),
        "name": "lora",
        "seed": case.seed,
        "preset": "pocket-style",
        "epochs": rounds,
        "device": device,
    }
    train(read_config(overrides=settings)[0], progress=False)
    return epochs_of(run)[-1]


def _judged(base: Base, case: Case, runs: dict[str, Epoch], originals: Sequence[Path]) -> dict[str, Any]:
    """What the judge says of the base and of each LoRA at weight 1, and how many of its pictures copy a drawing."""
    adapters = {arm: read(epoch.path) for arm, epoch in runs.items()}
    stacks = {"base": Stack({})}
    stacks |= {arm: Stack(own, 1.0, own.digest, content_keys_of(own)) for arm, own in adapters.items()}
    settings = SamplingSettings(base.defaults.steps, base.defaults.cfg, base.defaults.sampler, base.resolution)
    jobs = case.jobs()
    measures = judge_measures(case.style).by_name
    trained = Pixels().images([Image.open(path).convert("RGB") for path in originals])
    usual, before, result = usual_nearest(trained), None, {}
    with PopulationRenderer(base, EngineOptions(batch=_BATCH)) as renderer:
        drawn = renderer.draw(list(stacks.values()), [PictureJob(prompt, seed, settings) for prompt, seed in jobs])
        for name in stacks:
            pictures = [Shown(next(drawn).pixels, prompt, seed) for prompt, seed in jobs]
            rows = {key: measures[key](pictures) for key in ("style", "tags", "defects")}
            near = (trained @ Pixels().images([picture.image for picture in pictures]).T).amax(0).numpy()
            before = near if before is None else before
            copies = [is_copy(float(one), float(base_near), usual) for one, base_near in zip(near, before, strict=True)]
            value = rows["style"] * rows["tags"] * (1 - rows["defects"] / WORST_GRADE)
            result[name] = {
                **{key: _pair(row) for key, row in {**rows, "value": value, "nearest": near}.items()},
                "copies": float(np.mean(copies)),
            }
        drawn.close()
    return result


def _pair(row: npt.NDArray[Any]) -> list[float]:
    """Mean and standard error."""
    return [round(float(np.mean(row)), 4), round(float(np.std(row)) / math.sqrt(len(row)), 4)]
