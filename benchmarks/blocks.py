"""Do the block rules do what they say? Run as ``python -m benchmarks.blocks``; ``--quick`` checks that it runs.

On the pocket base the answer is known, because the judge reads style, tags and defects back from a picture. For every
style and seed a LoRA is overfit on purpose: few drawings, each with defects, too many epochs. Then the merge
``style:1:GP1, base_style:-1:GP2`` is rendered under the guide's vectors, under each symptom's rule after some steps,
and under the vectors that ``blocks suggest`` works out, on the same prompts and seeds; beside them, as controls,
earlier epochs and lower strengths, and each block left out in turn. What is reported is the
difference to the guide's vectors, paired by style and seed, with its spread: the defect that the rule is for, the style
and the obedience to tags. Writes ``benchmarks/results/blocks.md``, ``blocks.json`` and pictures.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.blocks.parse import find_preset
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import SD1_17
from loratools.blocks.symptoms import Symptom, symptoms
from loratools.blocks.vector import BlockVector
from loratools.files import write_text
from loratools.ops.analysis.suggest import suggest
from loratools.ops.merging.terms import Term
from loratools.pocket.draw import FAULTS, draw, random_figure
from loratools.pocket.draw.stylebook import STYLES as STYLEBOOK
from loratools.pocket.judge import shipped_judge
from loratools.preview.request.rows import GridRow
from loratools.preview.run import GridResult, render_grid
from loratools.preview.sheet.strip import Column, write_strip
from loratools.recipe.steps.pictures.grid_judge import JudgeScore, mean_score
from loratools.train.basestyle.basestyle import basestyle
from loratools.train.config.read import read_config
from loratools.train.trainer import train

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/blocks.md"
STYLES = ("ink", "neon", "watercolor", "sketch", "pastel", "pixel")
GUIDE = "guide"
STEPS = (1, 3)
STRENGTHS = (0.85, 0.7, 0.5)
_BLOCKS = SD1_17.names
_NOISE = 0.01
_TARGET = {"style": "style", "limbs": "limbs", "hands": "hands", "face": "face", "clothes": "clothes", "chaos": "chaos"}
_PROMPTS = (
    "1girl, cowboy_shot, blue_hair, twintails, green_eyes, white_clothes, sailor_collar, waving, smile, grass",
    "1girl, full_body, red_hair, long_hair, blue_eyes, black_clothes, dress, arms_up, open_mouth, sunset",
    "1girl, full_body, brown_hair, ponytail, brown_eyes, blue_clothes, hoodie, spread_arms, smile, indoors",
    "1girl, cowboy_shot, black_hair, short_hair, red_eyes, red_clothes, t-shirt, peace_sign, wink, simple_background",
)


@dataclass(frozen=True)
class Size:
    """How much is done: drawings and epochs of the overfit LoRA, prompts and seeds of the pictures."""

    images: int
    epochs: int
    repeats: int
    base_images: int
    prompts: int
    seeds: tuple[int, ...]
    steps: tuple[int, ...]
    earlier: tuple[int, ...]


FULL = Size(images=6, epochs=16, repeats=32, base_images=8, prompts=4, seeds=(1, 2), steps=STEPS, earlier=(2, 4, 8))
QUICK = Size(images=2, epochs=3, repeats=1, base_images=1, prompts=1, seeds=(1,), steps=(1,), earlier=(1,))


@dataclass(frozen=True)
class Unit:
    """One overfit LoRA: its scores by variant, and its pictures."""

    style: str
    seed: int
    scores: dict[str, JudgeScore]
    grid: GridResult
    seconds: float


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--styles", default=",".join(STYLES))
    parser.add_argument("--seeds", default="1,2", help="of the drawings and the training")
    parser.add_argument("--work", type=Path, default=ROOT / "runs/bench-blocks")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="processes; on a GPU the pocket base leaves room for many")
    parser.add_argument("--quick", action="store_true", help="one style, a few steps: does it run?")
    args = parser.parse_args()
    size = QUICK if args.quick else FULL
    styles = args.styles.split(",")[: 1 if args.quick else None]
    seeds = [int(text) for text in args.seeds.split(",")][: 1 if args.quick else None]
    work = args.work / ("quick" if args.quick else "full")
    units = _units(styles, seeds, size, work, args.device, args.jobs)
    text = report(units, size)
    write_text(args.out, text)
    write_text(args.out.with_suffix(".json"), json.dumps(_json(units), indent=1) + "\n")
    _pictures(units, args.out.with_suffix(""))
    print(text)


def _units(styles: Sequence[str], seeds: Sequence[int], size: Size, work: Path, device: str, jobs: int) -> list[Unit]:
    """Every style and seed, in ``jobs`` processes; what an earlier run left in ``work`` is used again."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        bases = {seed: pool.submit(_base_style, seed, size, work, device) for seed in seeds}
        made = {seed: base.result() for seed, base in bases.items()}
        pairs = [(style, seed) for seed in seeds for style in styles]
        units = [
            pool.submit(_unit, style, seed, made[seed], size, work / f"{style}-{seed}", device) for style, seed in pairs
        ]
        return [unit.result() for unit in units]


def _base_style(seed: int, size: Size, work: Path, device: str) -> Path:
    full = size.epochs > QUICK.epochs  # sizes travel between processes by value
    made = basestyle(
        "pocket",
        work / f"base_style-{seed}",
        name="base_style",
        settings={
            "images_per_framing": size.base_images,
            "epochs": 4 if full else 1,
            "seed": seed,
            "repeats": 5 if full else 1,
        },
        device=device,
        progress=False,
    )
    print(f"base style {seed}: {made.seconds:.0f} s", flush=True)
    return made.epochs[-1]


def _unit(style: str, seed: int, base_style: Path, size: Size, work: Path, device: str) -> Unit:
    begun = time.perf_counter()
    base = load_base("pocket", device=device)
    _draw(work / "images", style, seed, size.images)
    images = [{"folder": str(work / "images"), "repeats": size.repeats}]
    settings = {
        "base": "pocket",
        "images": images,
        "out": str(work / "run"),
        "name": "style",
        "seed": seed,
        "preset": "pocket-style",
        "epochs": size.epochs,
        "device": device,
        "resume": True,
    }
    run = train(read_config(overrides=settings)[0], progress=False)
    variants = _variants(work / "run", base_style, size)
    a, b = read(run.epochs[-1]), read(base_style)
    rows = [GridRow.of_terms([Term(a, 1.0, label="style")], "overfit alone")]
    rows += [
        GridRow.of_terms([Term(read(run.epochs[number - 1]), 1.0, label="style")], f"epoch {number}")
        for number in size.earlier
    ]
    rows += [GridRow.of_terms([Term(a, strength, label="style")], f"strength {strength:g}") for strength in STRENGTHS]
    rows += [GridRow.of_terms([Term(a, 1.0, _without(block), label="style")], f"without {block}") for block in _BLOCKS]
    for name, (gp1, gp2) in variants.items():
        rows.append(GridRow.of_terms([Term(a, 1.0, gp1, label="style"), Term(b, -1.0, gp2, label="base")], name))
    prompts = [f"{STYLEBOOK[style].tag}, {text}" for text in _PROMPTS[: size.prompts]]
    grid = render_grid(base, rows, [1.0], prompts, out=work / "grid", seeds=size.seeds, owner="bench", force=True)
    asked = [prompt for prompt in prompts for _ in size.seeds]
    scores = {row.label: _score(grid.paths(row.label, 1.0), asked, style) for row in rows}
    scores["base alone"] = _score(grid.paths(rows[0].label, 0.0), asked, style)
    print(f"{style} {seed}: {time.perf_counter() - begun:.0f} s", flush=True)
    return Unit(style, seed, scores, grid, time.perf_counter() - begun)


def _draw(folder: Path, style: str, seed: int, count: int) -> None:
    """A few drawings of one style, each with every defect that it can show, at grade 2 or 3; captions say nothing of
    them, as a person's would not."""
    for number in range(1, count + 1):
        rng = random.Random(f"bench/{seed}/{style}/{number}")
        framing = ("full_body", "cowboy_shot", "full_body", "face_focus")[number % 4]
        figure = random_figure(rng, style=style, faults={name: rng.choice((2, 3)) for name in FAULTS}, framing=framing)
        image = draw(figure, rng.randrange(2**32), 128).image
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number:04d}.png")
        write_text(folder / f"{number:04d}.txt", ", ".join(figure.tags()) + "\n")


def _variants(run: Path, base_style: Path, size: Size) -> dict[str, tuple[BlockVector, BlockVector]]:
    """The pairs (GP1, GP2) that are compared."""
    presets = load_presets()
    gp1, gp2 = find_preset("GP1", presets, "sd1"), find_preset("GP2", presets, "sd1")
    variants = {GUIDE: (gp1, gp2)}
    for symptom in symptoms().values():
        for steps in size.steps:
            variants[f"{symptom.name} x{steps}"] = treated(gp1, gp2, symptom, steps)
    ours = suggest(run, base_style, gp1, gp2)
    mine1, mine2 = BlockVector(SD1_17, ours.gp1), BlockVector(SD1_17, ours.gp2)
    return {**variants, "suggested GP2": (gp1, mine2), "suggested GP1": (mine1, gp2), "suggested both": (mine1, mine2)}


def treated(gp1: BlockVector, gp2: BlockVector, symptom: Symptom, count: int) -> tuple[BlockVector, BlockVector]:
    """The guide's vectors after ``count`` fixes of a symptom, 0.1 a step and never below 0, as ``blocks fix`` does."""
    vectors, strength = {"GP1": dict(gp1.weights), "GP2": dict(gp2.weights)}, 1.0
    for index in range(count):
        step = symptom.step_at(index)
        if step is None:
            break
        strength *= step.strength or 1.0
        for (role, block), by in step.directions().items():
            vectors[role][block] = max(0.0, vectors[role][block] + 0.1 * by)
    one, two = (BlockVector(SD1_17, vectors[role]).scaled(strength) for role in ("GP1", "GP2"))
    return one, two


def _without(block: str) -> BlockVector:
    return BlockVector(SD1_17, {name: 0.0 if name == block else 1.0 for name in _BLOCKS})


def _score(paths: Sequence[Path], prompts: Sequence[str], style: str) -> JudgeScore:
    from PIL import Image

    images = []
    for path in paths:
        with Image.open(path) as opened:
            images.append(opened.convert("RGB"))
    return mean_score(shipped_judge(images), prompts, style)


def value(score: JudgeScore, what: str) -> float:
    """``style``, ``obedience``, ``defects``, or a defect's grade by its name."""
    return float(score.faults[what]) if what in score.faults else float(getattr(score, what))


def report(units: Sequence[Unit], size: Size) -> str:
    """The results as Markdown."""
    names = [name for name in units[0].scores if name != "base alone" and not name.startswith("without ")]
    lines = [
        "# Block rules, measured on the pocket base",
        "",
        f"{len(units)} overfit LoRAs ({', '.join(dict.fromkeys(unit.style for unit in units))}; seeds "
        f"{', '.join(map(str, dict.fromkeys(unit.seed for unit in units)))}): {size.images} drawings with defects of "
        f"grade 2 and 3, {size.epochs} epochs. {size.prompts} prompts x {len(size.seeds)} seeds a cell. Grades are 0 "
        "(none) to 3 (bad), style and tags 0 to 1; mean ± standard deviation over the LoRAs.",
        "",
        "## What there is",
        "",
        "| vectors | style | tags | defects | " + " | ".join(FAULTS) + " |",
        "|---|" + "---|" * (3 + len(FAULTS)),
    ]
    for name in ("base alone", *names):
        cells = [
            _spread([value(unit.scores[name], what) for unit in units]).lstrip("+")
            for what in ("style", "obedience", "defects", *FAULTS)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "## What each rule does to what it is for",
        "",
        "Differences to the guide's own vectors, paired. A rule works where its defect falls (its style rises) "
        f"while style and tags stay; changes under {_NOISE} count as none.",
        "",
        "| rule | for | change | better in | worse in | style | tags | all defects |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for symptom in symptoms():
        for steps in size.steps:
            lines.append(_line(f"{symptom} x{steps}", _TARGET[symptom], units))
    for name in ("suggested GP2", "suggested GP1", "suggested both"):
        lines.append(_line(name, "defects", units))
    lines += [
        "",
        "## What each block holds",
        "",
        "The overfit LoRA alone with one block left out, against itself whole. A block that held a defect lowers "
        "it by being absent.",
        "",
        "| without | style | tags | defects | " + " | ".join(FAULTS) + " |",
        "|---|" + "---|" * (3 + len(FAULTS)),
    ]
    for block in _BLOCKS:
        change = [
            _spread(
                [
                    value(unit.scores[f"without {block}"], what) - value(unit.scores["overfit alone"], what)
                    for unit in units
                ]
            )
            for what in ("style", "obedience", "defects", *FAULTS)
        ]
        lines.append(f"| {block} | {' | '.join(change)} |")
    seconds = sum(unit.seconds for unit in units)
    return "\n".join([*lines, "", f"{seconds / 60:.0f} minutes on {units[0].grid.grid.compute}.", ""])


def _line(name: str, target: str, units: Sequence[Unit]) -> str:
    change = [value(u.scores[name], target) - value(u.scores[GUIDE], target) for u in units]
    good = [one if target == "style" else -one for one in change]
    better, worse = sum(one > _NOISE for one in good), sum(one < -_NOISE for one in good)
    rest = [
        _spread([value(u.scores[name], what) - value(u.scores[GUIDE], what) for u in units])
        for what in ("style", "obedience", "defects")
    ]
    return f"| {name} | {target} | {_spread(change)} | {better} of {len(units)} | {worse} | {' | '.join(rest)} |"


def _spread(values: Sequence[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):+.3f} ± {spread:.3f}"


def _json(units: Sequence[Unit]) -> list[dict[str, Any]]:
    return [
        {
            "style": unit.style,
            "seed": unit.seed,
            "seconds": unit.seconds,
            "scores": {
                name: {"style": s.style, "obedience": s.obedience, "defects": s.defects, "faults": s.faults}
                for name, s in unit.scores.items()
            },
        }
        for unit in units
    ]


def _pictures(units: Sequence[Unit], folder: Path) -> None:
    """For each LoRA a strip: the base, the overfit LoRA, the guide's vectors, its longest rules, ours."""
    from PIL import Image

    for unit in units:
        last = max(int(name.rpartition(" x")[2]) for name in unit.scores if " x" in name)
        early = next(name for name in unit.scores if name.startswith("epoch "))
        names = ["overfit alone", early, GUIDE, *(f"{symptom} x{last}" for symptom in symptoms()), "suggested both"]
        columns = [Column("base", tuple(unit.grid.paths("overfit alone", 0.0)[::2]))]
        columns += [
            Column(name, tuple(unit.grid.paths(name, 1.0)[::2]), f"defects {unit.scores[name].defects:.2f}")
            for name in names
        ]
        sheet = folder / f"{unit.style}-{unit.seed}.png"
        write_strip(sheet, f"{unit.style}, seed {unit.seed}", columns)
        with Image.open(sheet) as opened:
            opened.convert("RGB").save(sheet.with_suffix(".webp"), quality=85, method=6)
        sheet.unlink()


if __name__ == "__main__":
    main()
