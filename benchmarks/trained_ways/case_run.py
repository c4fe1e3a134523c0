"""One case: a LoRA that is overfit to one defect is tuned, a chain of ways follows, and all are measured alike."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.defect_loras import DefectLora, defect_lora
from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.files import locked
from loratools.measures.estimate import Estimate, estimate, paired_difference
from loratools.measures.judged import judge_measures
from loratools.measures.measure import Shown, take
from loratools.ops.merging.terms import Term
from loratools.pocket.draw import random_figure
from loratools.preview.plan.jobs import Stack
from loratools.preview.plan.vector_stacks import vector_stacks
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.tune import FULL, QUICK, TuneRequest, TuneResult, tune
from loratools.tune.report.columns import BASE, BEFORE, STRENGTH, TUNED

KEEP, REPAIRED = 0.95, 0.6
_PROMPTS, _HELD_OUT, _SEEDS = 32, 16, (201, 202, 203, 204)  # of the tune; of this table, whose seeds nothing else has


def run_case(name: str, work: Path, device: str, *, keep: Path, quick: bool) -> dict[str, Any]:
    """``STYLE-DEFECT-SEED.WAY+WAY``: its LoRA is trained or found, tuned, and followed by the ways.

    Chains of one LoRA share its folder, and so its search, one after another; the LoRA may be shared with the cases of
    :mod:`benchmarks.repair`, which have the same folder for it.
    """
    case, _, chain = name.partition(".")
    style, defect, seed = case.split("-")
    folder, ways = work.with_name(case), tuple(chain.split("+"))
    with locked(folder / "ways", wait=True):
        base, begun = load_base("pocket", device=device), time.monotonic()
        with locked(folder / "lora", wait=True):
            lora = defect_lora(style, defect, int(seed), folder / "lora", device)
        trained = time.monotonic()
        result = run(ways, base, lora, folder / "before-ways", quick=quick)
        done = time.monotonic()
        with Image.open(result.sheet) as sheet:
            sheet.reduce(2).save(keep / f"{name}.webp", quality=70)
        columns = _columns(base, result, style, _HELD_OUT)
    return {
        "case": case,
        "ways": list(ways),
        "defect": defect,
        **_facts(result, columns, defect, style),
        "seconds": {"lora": trained - begun, "tune": done - trained, "report": time.monotonic() - done},
        "device": str(base.device.type),
        "quick": quick,
    }


def run(ways: Sequence[str], base: Base, lora: DefectLora, out: Path, *, quick: bool) -> TuneResult:
    """The tune of a LoRA with ``ways`` after it; what is in ``out`` of an earlier chain is not drawn again."""
    request = TuneRequest(
        (lora.defect,),
        tuple(_prompts(lora.style, "search", _PROMPTS)),
        keep=KEEP,
        effort=QUICK if quick else FULL,
        batch=_batch(base),
        then=tuple(ways),
    )
    return tune(base, [Term(read(lora.file), 1.0, label=lora.file.stem)], request, out)


def _batch(base: Base) -> int:
    return 64 if base.device.type == "cuda" else 8


def _prompts(style: str, part: str, count: int) -> list[str]:
    """Prompts of a style, in framings that show every defect; no figure is in two parts."""
    made: dict[str, None] = {}
    for number in range(10 * count):
        rng = random.Random(f"trained ways/{part}/{style}/{number}")
        framing = ("full_body", "cowboy_shot")[number % 2]
        made[", ".join(random_figure(rng, style=style, framing=framing).tags())] = None
    return list(made)[:count]


def _columns(base: Base, result: TuneResult, style: str, prompts: int) -> dict[str, list[Shown]]:
    """The held-out pictures of the base, the whole LoRA, plain strength, the search, and each way's LoRA."""
    usual, space = base.defaults, result.space
    settings = SamplingSettings(usual.steps, usual.cfg, usual.sampler, base.resolution)
    jobs = [PictureJob(prompt, seed, settings) for prompt in _prompts(style, "table", prompts) for seed in _SEEDS]
    points = {BEFORE: space.start, STRENGTH: space.start * result.strength, TUNED: result.found}
    stacks = {BASE: Stack(), **dict(zip(points, space.stacks(list(points.values())), strict=True))}
    stacks |= {way.column: vector_stacks(way.terms, [{}])[0] for way in result.then if way.terms}
    drawn: list[list[Shown]] = [[] for _ in stacks]
    with PopulationRenderer(base, EngineOptions(batch=_batch(base))) as renderer:
        for picture in renderer.draw(list(stacks.values()), jobs):
            job = jobs[picture.job]
            drawn[picture.stack].append(Shown(picture.pixels, job.prompt, job.seed))
    return dict(zip(stacks, drawn, strict=True))


def _facts(result: TuneResult, columns: Mapping[str, list[Shown]], defect: str, style: str) -> dict[str, Any]:
    measures = judge_measures(style).by_name
    names = (defect, "style", "tags", "defects")
    values = {column: {name: take(measures[name], shown).values for name in names} for column, shown in columns.items()}
    prompts, seeds = ([getattr(own, what) for own in columns[BASE]] for what in ("prompt", "seed"))
    means = {column: {name: float(np.mean(own[name])) for name in names} for column, own in values.items()}
    search = result.verdict.answer

    def judged(column: str, before: str) -> dict[str, Any]:
        excess = max(1e-9, means[BEFORE][defect] - means[BASE][defect])
        gone = (means[BEFORE][defect] - means[column][defect]) / excess
        kept = means[column]["style"] / max(1e-9, means[BEFORE]["style"])
        tags = paired_difference(values[column]["tags"], values[BEFORE]["tags"], prompts, seeds)
        obeys = tags.mean >= -2 * (0.0 if np.isnan(tags.standard_error) else tags.standard_error)
        changes = {
            name: _json(paired_difference(values[column][name], values[before][name], prompts, seeds)) for name in names
        }
        repaired = bool(gone >= REPAIRED and kept >= KEEP and obeys)
        return {"gone": gone, "style_kept": kept, "repaired": repaired, "before": before, "change": changes}

    return {
        "columns": {
            column: {name: _json(estimate(own[name], prompts, seeds)) for name in names}
            for column, own in values.items()
        },
        "search": {"answer": search, **judged(search, BEFORE)},
        "then": [
            {
                **way.json(result.held),
                **({"table": judged(way.column, way.before)} if way.terms else {}),
            }
            for way in result.then
        ],
        "answer": result.answer,
        "judged": judged(result.answer, search),
        "pictures": len(prompts),
        "finished": result.finished,
    }


def _json(own: Estimate) -> dict[str, float | None]:
    return {"mean": own.mean, "standard_error": None if np.isnan(own.standard_error) else own.standard_error}
