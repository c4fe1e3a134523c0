"""Stages ``install`` and ``card``: the Diffusers folder that ships, and the page that says how good it is."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from PIL import Image

from loratools.pocket import weights_folder
from loratools.pocket.assemble import save_folder
from loratools.pocket.draw import Figure, expected_hands
from loratools.pocket.judge import Judge, Reading
from tools.build_pocket import autoencoder, diffusion
from tools.build_pocket.data import house_figures
from tools.build_pocket.settings import Settings

BATCH = 20  # pictures sampled at once
SEED = 20261124  # of the prompts and the noise that the card is judged on


def install(settings: Settings, work: Path, weights: Path | None) -> None:
    """Write the trained parts as an fp16 Diffusers folder, with the judge beside them."""
    target = weights or weights_folder()
    unet, text = diffusion.load(settings, work, "cpu")
    vae, _ = autoencoder.load(settings, work, "cpu")
    shutil.copytree(work / "tokenizer", target / "tokenizer", dirs_exist_ok=True)
    shutil.copytree(work / "judge", target / "judge", dirs_exist_ok=True)
    shutil.copy(work / "log.jsonl", target / "log.jsonl")
    save_folder(target, unet, vae, text, torch.float16)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.1f} MB")


@dataclasses.dataclass(frozen=True)
class Exam:
    """What the judge said of pictures sampled from random house-style prompts."""

    obedience: float
    per_attribute: dict[str, float]
    sound_hands: float
    hands: int
    style: float
    seconds: float


def examine(figures: Sequence[Figure], readings: Sequence[Reading], seconds: float, judge: Judge) -> Exam:
    """Score ``readings`` of the pictures sampled for ``figures``; ``seconds`` is the time of one picture."""
    asked = [
        {name: tag for name in figure.visible() if (tag := figure.value(name)) in figure.tags()} for figure in figures
    ]
    pairs = [
        (name, reading.tags[name] == tag)
        for tags, reading in zip(asked, readings, strict=True)
        for name, tag in tags.items()
    ]
    hands = [(len(expected_hands(f)), judge.sound(r, "hands")) for f, r in zip(figures, readings, strict=True)]
    shown = sum(count for count, _ in hands)
    return Exam(
        obedience=sum(right for _, right in pairs) / len(pairs),
        per_attribute={
            name: _mean(right for other, right in pairs if other == name) for name in judge.layout.attributes
        },
        sound_hands=sum(count for count, sound in hands if sound) / max(1, shown),
        hands=shown,
        style=_mean(reading.style["house"] for reading in readings),
        seconds=seconds,
    )


def write(settings: Settings, work: Path, weights: Path | None, count: int) -> None:
    """Sample ``count`` prompts from the installed base, let the judge read them, write ``README.md`` and a sheet."""
    target = weights or weights_folder()
    figures = house_figures(count, SEED)
    began = time.perf_counter()
    pictures = sample_installed(target, [", ".join(figure.tags()) for figure in figures])
    seconds = (time.perf_counter() - began) / count
    judge = Judge.load(target / "judge")
    exam = examine(figures, judge.read(pictures), seconds, judge)
    _sheet(pictures[:64]).save(work / "card.png")
    (target / "README.md").write_text(_page(settings, target, exam, count), encoding="utf-8")
    print(json.dumps(dataclasses.asdict(exam), indent=1))


def sample_installed(folder: Path, prompts: Sequence[str]) -> list[Image.Image]:
    """Pictures of the installed base through the product's own sampler, 20 steps, its default CFG."""
    from loratools.base.generate import PictureRequest, generate
    from loratools.base.load import load_base

    base = load_base(str(folder), device="cpu", dtype="fp32")
    pictures: list[Image.Image] = []
    for start in range(0, len(prompts), BATCH):
        requests = [
            PictureRequest(
                prompt=prompt,
                negative="",
                size=base.resolution,
                seed=SEED + number,
                steps=20,
                cfg=base.defaults.cfg,
                sampler="DPM++ 2M",
            )
            for number, prompt in enumerate(prompts[start : start + BATCH], start)
        ]
        pictures += [Image.fromarray(picture) for picture in generate(base, requests)]
    return pictures


def _sheet(pictures: Sequence[Image.Image], columns: int = 8) -> Image.Image:
    side = pictures[0].width
    sheet = Image.new("RGB", (columns * side, -(-len(pictures) // columns) * side))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * side, index // columns * side))
    return sheet


def _page(settings: Settings, target: Path, exam: Exam, count: int) -> str:
    log = [json.loads(line) for line in (target / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    last = {line["stage"]: line for line in log}
    scores = json.loads((target / "judge" / "judge.json").read_text(encoding="utf-8"))["scores"]
    rows = [
        f"| {stage} | {line['step']} | {getattr(settings, _PLAN[stage]).batch} | {line['seconds']:.0f} | "
        f"{line['loss']} |"
        for stage, line in last.items()
    ]
    accuracy = [
        f"| {name} | {scores['drawings']['accuracy'][name]:.1%} | {scores['decoded']['accuracy'][name]:.1%} | "
        f"{exam.per_attribute.get(name, exam.style):.1%} |"
        for name in scores["drawings"]["accuracy"]
    ]
    grades = [
        f"| {name} | {scores['drawings']['ranked'][name]:.1%} | {scores['decoded']['ranked'][name]:.1%} | "
        f"{scores['drawings']['false_alarms'][name]:.1%} |"
        for name in scores["drawings"]["ranked"]
    ]
    return _TEMPLATE.format(
        base=settings.base_pictures,
        minor=settings.minor_share,
        codec=settings.codec_pictures,
        judge=settings.judge_pictures,
        held=settings.held_out,
        count=count,
        seed=settings.seed,
        rows="\n".join(rows),
        obedience=exam.obedience,
        sound=exam.sound_hands,
        hands=exam.hands,
        style=exam.style,
        seconds=exam.seconds,
        accuracy="\n".join(accuracy),
        grades="\n".join(grades),
    )


def _mean(values: Iterable[float]) -> float:
    every = list(values)
    return sum(every) / len(every) if every else float("nan")


_PLAN = {"vae-crops": "crops", "vae": "autoencoder", "unet": "diffusion", "judge": "judge"}
_TEMPLATE = """# The pocket base: model card

A miniature Stable Diffusion 1.x (its module tree, small widths, 128 x 128 pixels), trained from nothing on the drawings
of `loratools.pocket.draw` by `python -m tools.build_pocket`, for demos, tests and benchmarks. It draws cartoon figures
from booru-like tags and nothing else. Apache-2.0, like the rest of loratools; no picture of anyone's was used.
Its first two levels are equally wide, so one 1x1 convolution of SD 1.x, `down_blocks.1.resnets.0.conv_shortcut`, is not
there; every other module is, and all 17 and 26 blocks.

## Data
{base} captioned drawings in the house style and, {minor:.0%} of them, the minor styles; seed {seed}. The
autoencoder was trained on {codec} others, two fifths of them of every style and defect (it is a codec, as SD's is);
**the UNet and text encoder never saw the held-out styles or a defect**.
The judge saw {judge} drawings of every style and defect, less {held} held out.

## Training (one GPU)
| stage | steps | batch | seconds | last loss |
|---|---|---|---|---|
{rows}

## Exam: {count} random house-style prompts, 20 steps DPM++ 2M, judged
- asked tags found: **{obedience:.1%}**
- visible hands (20 px and more) that are sound: **{sound:.1%}** of {hands}, at a threshold that catches 95 % of
  held-out clearly bad hands (a picture with one bad hand counts all its hands as bad)
- probability of the house style: {style:.1%}; {seconds:.2f} s a picture on the CPU that wrote this card

| attribute | judge right on held-out drawings | the same, through the autoencoder | asked tag found in samples |
|---|---|---|---|
{accuracy}

| defect | held-out pairs one grade or more apart ranked rightly | through the autoencoder | sound drawings flagged |
|---|---|---|---|
{grades}
"""
