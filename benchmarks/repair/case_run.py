"""One case: a LoRA is trained, tuned, and measured on pictures that no search saw."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.defect_loras import DefectLora, defect_lora
from benchmarks.measuring.simulated import simulated_marks
from benchmarks.repair.cases import (
    BY_MARKS,
    BY_MARKS_GRADIENT,
    BY_PICTURES,
    HELD_OUT_PROMPTS,
    HELD_OUT_SEEDS,
    NARROW,
    PROMPTS,
    Case,
    prompts_of,
)
from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.files import locked, replacing
from loratools.measures.estimate import Estimate, estimate, paired_difference
from loratools.measures.judged import judge_measures
from loratools.measures.measure import Shown, take
from loratools.measures.request import MeasureRequest
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.tune import FULL, QUICK, TuneProgress, TuneRequest, TuneResult, tune
from loratools.tune.arrays import Array
from loratools.tune.problem.request import AUTO, GRADIENT, PICTURES
from loratools.tune.problem.weight_range import NARROW as NARROW_RANGE
from loratools.tune.problem.weight_range import WeightRange
from loratools.tune.report.columns import BASE, BEFORE, STRENGTH

REPAIRED = 0.6  # of the excess over the base that has to go
KEEP = 0.95
_BATCH = 64  # pictures a UNet call on a GPU
_KEPT_EVERY = 20.0  # seconds
_SAID = 2.0  # standard errors that the tags may lose


def run_case(name: str, work: Path, device: str, *, keep: Path, quick: bool) -> dict[str, Any]:
    """Train, tune and measure; the sheet and what the search drew go to ``keep`` as ``NAME.webp`` and ``NAME.tgz``.

    What an earlier call kept of the search is not drawn again.
    """
    case, folder = Case.of(name), work.with_name(Case.of(name).name)
    base, begun = load_base("pocket", device=device), time.monotonic()
    with locked(folder / "lora", wait=True):  # both ways of a case may run at once
        lora = defect_lora(case.style, case.defect, case.seed, folder / "lora", device)
    trained = time.monotonic()
    out = folder / _part(name)
    kept = keep / f"{name}.tgz"
    if kept.is_file() and not out.exists():
        _unpack(kept, out)
    try:
        result = _tuned(name, lora, base, out, quick, _Keeper(out, kept))
    finally:
        _pack(out, kept)
    tuned = time.monotonic()
    with Image.open(result.sheet) as sheet:
        sheet.reduce(2).save(keep / f"{name}.webp", quality=70)
    columns = _columns(case, base, result, 2 if quick else HELD_OUT_PROMPTS)
    seconds = {"train": trained - begun, "tune": tuned - trained, "report": time.monotonic() - tuned}
    return {
        "case": name,
        **_facts(case, result, columns),
        "digest": read(lora.file).digest,
        "seconds": seconds,
        "device": str(base.device.type),
        "quick": quick,
    }


def _part(name: str) -> str:
    """The folder of a case's search, by what it is led by and how far it may go."""
    folders = {
        BY_MARKS: "by-marks",
        BY_MARKS_GRADIENT: "by-marks-gradient",
        NARROW: "narrow",
        BY_PICTURES: "by-pictures",
    }
    return next((folder for end, folder in folders.items() if name.endswith(end)), "tune")


def _tuned(
    name: str, lora: DefectLora, base: Base, out: Path, quick: bool, on_progress: Callable[[TuneProgress], None]
) -> TuneResult:
    case, by_marks = Case.of(name), name.endswith((BY_MARKS, BY_MARKS_GRADIENT))
    marker: Callable[[int, Sequence[Shown]], list[int]] | None = None
    if by_marks:
        marker = simulated_marks(case.defect, case.style)
    request = TuneRequest(
        (case.defect,),
        tuple(prompts_of(case, "search", PROMPTS)),
        measures=(MeasureRequest("marks" if by_marks else "judge"),),
        keep=KEEP,
        effort=QUICK if quick or by_marks else FULL,
        training=lora.images if by_marks else None,
        batch=_batch(base),
        weights=NARROW_RANGE if name.endswith(NARROW) else WeightRange(),
        method=_method(name),
    )
    return tune(
        base,
        [Term(read(lora.file), 1.0, label=case.name)],
        request,
        out,
        on_progress=on_progress,
        force=True,  # a LoRA that was trained again may differ by rounding; its search then begins anew
        marker=marker,
    )


def _method(name: str) -> str:
    if name.endswith(BY_MARKS_GRADIENT):
        return GRADIENT
    return PICTURES if name.endswith((BY_PICTURES, BY_MARKS)) else AUTO


def _batch(base: Base) -> int:
    return _BATCH if base.device.type == "cuda" else 8


class _Keeper:
    """Packs what the search drew every now and then, for a call that is cut off."""

    def __init__(self, out: Path, file: Path) -> None:
        self._out, self._file, self._last = out, file, time.monotonic()

    def __call__(self, _: TuneProgress) -> None:
        if time.monotonic() - self._last > _KEPT_EVERY:
            _pack(self._out, self._file)
            self._last = time.monotonic()


def _pack(out: Path, file: Path) -> None:
    """What the search drew, as figures: a few dozen kilobytes."""
    found = [path for path in sorted(out.glob("search*/*.json")) if path.is_file()]
    if found:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as packed:
            for path in [*found, *out.glob("tune.json")]:
                packed.add(path, path.relative_to(out).as_posix())
        with replacing(file) as part:
            part.write_bytes(stream.getvalue())


def _unpack(file: Path, out: Path) -> None:
    with tarfile.open(file) as packed:
        packed.extractall(out, filter="data")


def _columns(case: Case, base: Base, result: TuneResult, prompts: int) -> dict[str, list[Shown]]:
    """The held-out pictures of each column, by its name; ``answer`` is the tune's."""
    usual = base.defaults
    settings = SamplingSettings(usual.steps, usual.cfg, usual.sampler, base.resolution)
    jobs = [
        PictureJob(prompt, seed, settings)
        for prompt in prompts_of(case, "held out", prompts)
        for seed in HELD_OUT_SEEDS
    ]
    points: dict[str, Array | None] = {column.name: column.point for column in result.held.columns}
    own = {
        name: tuple(point) if point is not None else None for name, point in {**points, "answer": result.point}.items()
    }
    distinct = list(dict.fromkeys(own.values()))
    stacks = [Stack() if point is None else result.space.stacks([np.array(point)])[0] for point in distinct]
    drawn: list[list[Shown]] = [[] for _ in stacks]
    with PopulationRenderer(base, EngineOptions(batch=_batch(base))) as renderer:
        for picture in renderer.draw(stacks, jobs):
            job = jobs[picture.job]
            drawn[picture.stack].append(Shown(picture.pixels, job.prompt, job.seed))
    return {name: drawn[distinct.index(point)] for name, point in own.items()}


def _facts(case: Case, result: TuneResult, columns: Mapping[str, list[Shown]]) -> dict[str, Any]:
    measures = judge_measures(case.style).by_name
    names = (case.defect, "style", "tags", "defects")
    values = {column: {name: take(measures[name], shown).values for name in names} for column, shown in columns.items()}
    prompts = [shown.prompt for shown in columns[BASE]]
    seeds = [shown.seed for shown in columns[BASE]]

    def difference(measure: str, other: str, share: float = 1.0) -> Estimate:
        return paired_difference(values["answer"][measure], share * values[other][measure], prompts, seeds)

    estimates = {
        column: {name: _json(estimate(own[name], prompts, seeds)) for name in names} for column, own in values.items()
    }
    tags = difference("tags", BEFORE)
    base, before, after = (float(np.mean(values[column][case.defect])) for column in (BASE, BEFORE, "answer"))
    gone = (before - after) / (before - base) if before > base else 0.0
    style = float(np.mean(values["answer"]["style"])) / max(1e-9, float(np.mean(values[BEFORE]["style"])))
    tags_kept = tags.mean >= -_SAID * _error(tags)
    return {
        "defect": case.defect,
        "columns": estimates,
        "gone": gone,
        "gone_error": _error(difference(case.defect, BEFORE)) / max(1e-9, before - base),
        "style_kept": style,
        "style_error": _error(difference("style", BEFORE, KEEP)),
        "tags_change": _json(tags),
        "tags_kept": bool(tags_kept),
        "from_strength": _json(difference(case.defect, STRENGTH)),
        "style_from_strength": _json(difference("style", STRENGTH)),
        "repaired": bool(gone >= REPAIRED and style >= KEEP and tags_kept),
        "answer": result.verdict.answer,
        "strength": result.strength,
        "vector": result.space.vector(result.point),
        "found": result.space.vector(result.found),
        "moved": int((~np.isclose(result.point, result.space.start)).sum()),
        "search_pictures": result.pictures,
        "pictures": len(prompts),
        "notes": list(result.notes),
    }


def _json(own: Estimate) -> dict[str, float | None]:
    return {"mean": own.mean, "standard_error": None if np.isnan(own.standard_error) else own.standard_error}


def _error(own: Estimate) -> float:
    return 0.0 if np.isnan(own.standard_error) else own.standard_error
