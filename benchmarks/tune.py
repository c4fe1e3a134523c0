"""Does a search repair LoRAs that are overfit to one defect? Run as ``python -m benchmarks.tune``.

Thirty cases: LoRAs overfit to ONE defect each (hands, limbs, face, clothes, chaos) in styles that the base does not
know (ink, neon, watercolor), two seeds each; see :mod:`benchmarks.defect_loras`. Each is tuned by ``loratools.tune``
with the pocket's judge. The prompts and seeds of the search, of its own report and of this table are fixed here, and no
two of the three share any. What is reported is measured here, on 64 pictures (16 prompts x 4 seeds) of the base, the
whole LoRA, the guide's rule, the best plain strength and the answer.

It is resumable: a case that is done is an entry of ``tune.json``, one that was stopped goes on; ``--minutes 8`` ends a
call in time, so that all can be measured in slices over days. ``--report`` writes ``tune.md`` from what is there.
``--quick --cases ink-hands-1`` checks that it runs.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.defect_loras import DefectLora, defect_lora
from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.errors import LoratoolsError
from loratools.files import write_text
from loratools.measures.estimate import Estimate, estimate, paired_difference
from loratools.measures.judged import judge_measures
from loratools.measures.measure import Shown, take
from loratools.ops.merging.terms import Term
from loratools.pocket.draw import random_figure
from loratools.preview.plan.jobs import Stack
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.tune import FULL, QUICK, Effort, TuneRequest, TuneResult, tune
from loratools.tune.arrays import Array
from loratools.tune.report.columns import BASE, BEFORE, GUIDE, STRENGTH, TUNED

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/tune.json"
STYLES = ("ink", "neon", "watercolor")
DEFECTS = ("hands", "limbs", "face", "clothes", "chaos")
SEEDS = (1, 2)  # of the drawings and the training
SEARCH_SEEDS = (1, 2, 3)  # of pictures; the search's own report takes 4, 5 and 6
HELD_OUT_SEEDS = (101, 102, 103, 104)
PROMPTS, HELD_OUT_PROMPTS = 16, 16  # of a tune, half of which are its report's; of this table
REPAIRED = 0.6  # of the excess over the base that has to go
KEEP = 0.95
_BATCH = 64  # pictures a UNet call on a GPU
_COLUMNS = (BASE, BEFORE, GUIDE, STRENGTH, TUNED)


@dataclass(frozen=True)
class Case:
    """One LoRA to repair."""

    style: str
    defect: str
    seed: int

    @property
    def name(self) -> str:
        """As ``--cases`` takes it."""
        return f"{self.style}-{self.defect}-{self.seed}"


def cases() -> list[Case]:
    """All thirty, so ordered that any first part of them holds all styles and defects alike."""
    return [Case(style, defect, seed) for seed in SEEDS for defect in DEFECTS for style in STYLES]


def prompts_of(case: Case, part: str, count: int) -> list[str]:
    """Prompts of the case's style: tags of random figures, in framings that show the whole defect.

    Args:
        part: ``search`` or ``held out``; no figure is in both.
    """
    prompts: dict[str, None] = {}
    for number in range(10 * count):
        rng = random.Random(f"tune/{part}/{case.style}/{number}")
        figure = random_figure(rng, style=case.style, framing=("full_body", "cowboy_shot")[number % 2])
        prompts[", ".join(figure.tags())] = None
    return list(prompts)[:count]


def main() -> None:
    """Parse, run what there is time for, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="STYLE-DEFECT-SEED, comma-separated; all thirty by default")
    parser.add_argument("--minutes", type=float, help="begin nothing that would not be done in so many minutes")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/bench-tune")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="cases at once; on a GPU the pocket leaves room for many")
    parser.add_argument("--quick", action="store_true", help="quick tunes and 8 pictures: does it run?")
    parser.add_argument("--report", action="store_true", help="only write the Markdown from what is there")
    args = parser.parse_args()
    chosen = [case for case in cases() if not args.cases or case.name in args.cases.split(",")]
    if not chosen:
        parser.error(f"no such case; there are {', '.join(case.name for case in cases())}")
    done = {**_read(RESULT), **_read(args.out)}
    if not args.report:
        _run(chosen, done, args)
    text = report([done[name] for name in (case.name for case in cases()) if name in done])
    write_text(args.out.with_suffix(".md"), text)
    print(text)


def _run(chosen: Sequence[Case], done: dict[str, Any], args: argparse.Namespace) -> None:
    """Run the cases that are not done, ``--jobs`` at once; begin none that would not be done in time."""
    begun, longest = time.monotonic(), 0.0
    waiting = [case for case in chosen if case.name not in done]
    running: dict[Future[dict[str, Any]], tuple[Case, float]] = {}
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        while waiting or running:
            left = math.inf if args.minutes is None else 60 * args.minutes - (time.monotonic() - begun)
            while waiting and len(running) < args.jobs and left > longest:
                case = waiting.pop(0)
                future = pool.submit(run_case, case, args.work / case.name, quick=args.quick, device=args.device)
                running[future] = case, time.monotonic()
            if not running:
                print(f"{len(waiting)} cases are left for another call, from {waiting[0].name} on", flush=True)
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                case, started = running.pop(future)
                longest = max(longest, time.monotonic() - started)
                try:
                    done[case.name] = future.result()
                except LoratoolsError as error:  # the others go on; the next call tries it again
                    print(f"{case.name}: failed: {error}", flush=True)
                    continue
                write_text(args.out, json.dumps(done, indent=1) + "\n")
                print(f"{case.name}: {line(done[case.name])}", flush=True)


def run_case(case: Case, folder: Path, *, quick: bool, device: str) -> dict[str, Any]:
    """Train the LoRA, tune it, and measure the columns on held-out pictures."""
    base, begun = load_base("pocket", device=device), time.monotonic()
    lora = defect_lora(case.style, case.defect, case.seed, folder / "lora", device)
    trained = time.monotonic()
    effort: Effort = QUICK if quick else FULL
    result = tune(
        base,
        [Term(read(lora.file), 1.0, label=case.name)],
        TuneRequest(
            (case.defect,),
            tuple(prompts_of(case, "search", PROMPTS)),
            seeds=SEARCH_SEEDS,
            keep=KEEP,
            effort=effort,
            batch=_BATCH if base.device.type == "cuda" else 8,
        ),
        folder / "tune",
    )
    tuned = time.monotonic()
    columns = _columns(case, base, result, 2 if quick else HELD_OUT_PROMPTS)
    return {
        **_facts(case, result, columns, lora),
        "seconds": {"train": trained - begun, "tune": tuned - trained, "report": time.monotonic() - tuned},
        "device": str(base.device.type),
        "quick": quick,
    }


def _columns(case: Case, base: Base, result: TuneResult, prompts: int) -> dict[str, list[Shown]]:
    """The held-out pictures of each column, by its name."""
    usual = base.defaults
    settings = SamplingSettings(usual.steps, usual.cfg, usual.sampler, base.resolution)
    jobs = [
        PictureJob(prompt, seed, settings)
        for prompt in prompts_of(case, "held out", prompts)
        for seed in HELD_OUT_SEEDS
    ]
    points: dict[str, Array | None] = {column.name: column.point for column in result.held.columns}
    answer = {**points, "answer": result.point}
    stacks = [Stack() if point is None else result.space.stacks([point])[0] for point in answer.values()]
    drawn: list[list[Shown]] = [[] for _ in stacks]
    with PopulationRenderer(base, EngineOptions(batch=_BATCH if base.device.type == "cuda" else 8)) as renderer:
        for picture in renderer.draw(stacks, jobs):
            job = jobs[picture.job]
            drawn[picture.stack].append(Shown(picture.pixels, job.prompt, job.seed))
    return dict(zip(answer, drawn, strict=True))


def _facts(case: Case, result: TuneResult, columns: Mapping[str, list[Shown]], lora: DefectLora) -> dict[str, Any]:
    measures = judge_measures(case.style).by_name
    names = (case.defect, "style", "tags", "defects")
    values = {column: {name: take(measures[name], shown).values for name in names} for column, shown in columns.items()}
    prompts = [shown.prompt for shown in columns[BASE]]
    seeds = [shown.seed for shown in columns[BASE]]
    estimates = {
        column: {name: _json(estimate(own[name], prompts, seeds)) for name in names} for column, own in values.items()
    }
    lost = paired_difference(values["answer"]["tags"], values[BEFORE]["tags"], prompts, seeds)
    against = paired_difference(values["answer"][case.defect], values[STRENGTH][case.defect], prompts, seeds)
    base, before, after = (float(np.mean(values[column][case.defect])) for column in (BASE, BEFORE, "answer"))
    gone = (before - after) / (before - base) if before > base else 0.0
    style = float(np.mean(values["answer"]["style"])) / max(1e-9, float(np.mean(values[BEFORE]["style"])))
    tags_kept = lost.mean >= -2 * (0.0 if np.isnan(lost.standard_error) else lost.standard_error)
    return {
        "case": case.name,
        "defect": case.defect,
        "columns": estimates,
        "gone": gone,
        "style_kept": style,
        "tags_change": _json(lost),
        "from_strength": _json(against),
        "repaired": bool(gone >= REPAIRED and style >= KEEP and tags_kept),
        "answer": result.verdict.answer,
        "strength": result.strength,
        "vector": result.space.vector(result.point),
        "search_pictures": result.history.pictures,
        "pictures": len(prompts),
        "digest": read(lora.file).digest,
    }


def _json(own: Estimate) -> dict[str, float | None]:
    error = None if np.isnan(own.standard_error) else own.standard_error
    return {"mean": own.mean, "standard_error": error}


def line(one: Mapping[str, Any]) -> str:
    """A case in a line."""
    columns, defect = one["columns"], one["defect"]
    seconds = sum(one["seconds"].values())
    return (
        f"{defect} {columns[BEFORE][defect]['mean']:.2f} -> {columns['answer'][defect]['mean']:.2f} "
        f"(base {columns[BASE][defect]['mean']:.2f}, strength {columns[STRENGTH][defect]['mean']:.2f}), "
        f"{100 * one['gone']:.0f} % gone, style {100 * one['style_kept']:.0f} %, "
        f"{'repaired' if one['repaired'] else 'not repaired'}, {seconds:.0f} s"
    )


def report(done: Sequence[Mapping[str, Any]]) -> str:
    """The results as Markdown."""
    if not done:
        return "# Repair by a searched vector\n\nNothing has been measured yet.\n"
    repaired = [one for one in done if one["repaired"]]
    hands = [one for one in done if one["defect"] == "hands"]
    worse = [one for one in done if one["from_strength"]["mean"] > 0 and one["answer"] == TUNED]
    seconds = [sum(one["seconds"].values()) for one in done]
    lines = [
        "# Repair by a searched vector, measured on the pocket base",
        "",
        f"{len(done)} of {len(cases())} LoRAs, each overfit to one defect (12 drawings of grade 2 or 3, 10 epochs)."
        f" Figures are means ± standard errors over {done[0]['pictures']} pictures of prompts and seeds that no search "
        "saw, sampled as the base likes it. Grades go from 0 (none) to 3 (bad).",
        "",
        f"- **Repaired: {len(repaired)} of {len(done)}** (goal: 20 of 30 by the vector alone): at least "
        f"{100 * REPAIRED:.0f} % of the excess over the base is gone, {100 * KEEP:.0f} % of the style is kept, and the "
        "tags lose no more than two standard errors.",
        f"- Hands: {sum(one['repaired'] for one in hands)} of {len(hands)} (goal: 2 of 6).",
        f"- Worse than plain strength: {len(worse)}. The answer was plain strength itself in "
        f"{sum(one['answer'] == STRENGTH for one in done)}.",
        f"- Median part of the excess that is gone: {100 * statistics.median(one['gone'] for one in done):.0f} %; "
        f"median style kept: {100 * statistics.median(one['style_kept'] for one in done):.0f} %; "
        f"{statistics.median(one['search_pictures'] for one in done):.0f} search pictures.",
        f"- {statistics.fmean(seconds):.0f} s a case ({done[0]['device']}), training and this table's pictures too.",
        "",
        "| LoRA | base | whole | guide's rule | plain strength | **answer** | gone | style kept | tags | repaired |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_row, done),
        "",
    ]
    return "\n".join(lines)


def _row(one: Mapping[str, Any]) -> str:
    columns, defect = one["columns"], one["defect"]

    def cell(name: str) -> str:
        if name not in columns:
            return "-"
        own = columns[name][defect]
        error = "" if own["standard_error"] is None else f" ± {own['standard_error']:.2f}"
        return f"{own['mean']:.2f}{error}"

    tags = one["tags_change"]
    cells = [one["case"], cell(BASE), cell(BEFORE), cell(GUIDE), f"{one['strength']:g}: {cell(STRENGTH)}"]
    answer = f"**{cell('answer')}**" + (" (strength)" if one["answer"] == STRENGTH else "")
    kept = [f"{100 * one['gone']:.0f} %", f"{100 * one['style_kept']:.0f} %", f"{tags['mean']:+.2f}"]
    return f"| {' | '.join([*cells, answer, *kept, 'yes' if one['repaired'] else 'no'])} |"


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


if __name__ == "__main__":
    main()
