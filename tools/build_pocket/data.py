"""Stages ``draw-*``: the three sets of captioned drawings, made by all processor cores, one ``.npz`` file for each."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from loratools.pocket.draw import ATTRIBUTES, FAULTS, STYLES, Figure, draw, random_figure
from loratools.pocket.judge import SIDE, Layout
from tools.build_pocket.settings import Settings

BOXES = ("face", "left_hand", "right_hand")
HIDDEN = -1  # label of an attribute or defect that the drawing does not show


@dataclass(frozen=True)
class Job:
    """One drawing to make: which set, its seed, and how the figure is chosen."""

    kind: str  # base, codec or judge
    seed: int
    minor_share: float


def layout() -> Layout:
    """The judge's questions: all attributes, all styles, all defects."""
    return Layout({name: tuple(tags) for name, tags in ATTRIBUTES.items()}, tuple(STYLES), tuple(FAULTS))


def make_set(kind: str, count: int, settings: Settings, folder: Path, workers: int) -> Path:
    """Draw ``count`` pictures and write ``<kind>.npz``: images uint8 (n, 128, 128, 3), boxes, labels, captions."""
    target = folder / f"{kind}.npz"
    if target.exists():
        return target
    first = settings.seed * 10_000_000 + {"base": 0, "codec": 2_000_000, "judge": 4_000_000}[kind]
    jobs = [Job(kind, first + index, settings.minor_share) for index in range(count)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        rows = pool.map(_one, jobs, chunksize=max(1, min(64, count // workers)))
    images, boxes, labels, tags = zip(*rows, strict=True)
    part = folder / f"{kind}.part.npz"
    np.savez(
        part,
        images=np.stack(images),
        boxes=np.array(boxes, dtype=np.int16),
        labels=np.array(labels, dtype=np.float32),
        tags=np.array(tags),
    )
    part.replace(target)
    return target


def _one(job: Job) -> tuple[np.ndarray, list[tuple[int, ...]], list[float], str]:
    rng = random.Random(job.seed)
    sound = job.kind == "base" or (job.kind == "codec" and rng.random() < 0.6)
    figure = _base_figure(rng, job.minor_share) if sound else _any_figure(rng)
    drawing = draw(figure, job.seed, SIDE)
    picture = np.asarray(drawing.image)
    if figure.faults.get("hands") and rng.random() < 0.4:
        picture = _one_bad_hand(picture, figure, job.seed, drawing.boxes, rng)
    boxes = [tuple(round(side) for side in drawing.boxes.get(name, (0, 0, 0, 0))) for name in BOXES]
    return picture, boxes, _labels(figure), "\n".join(figure.tags())


def _base_figure(rng: random.Random, minor_share: float) -> Figure:
    minors = [name for name, style in STYLES.items() if style.split == "minor"]
    return random_figure(rng, style=rng.choice(minors) if rng.random() < minor_share else "house")


def _any_figure(rng: random.Random) -> Figure:
    split = rng.choices(["house", "minor", "heldout"], [0.4, 0.2, 0.4])[0]
    style = rng.choice([name for name, facts in STYLES.items() if facts.split == split])
    if rng.random() < 0.4:
        return random_figure(rng, style=style)
    chosen = rng.sample(FAULTS, k=rng.choices([1, 2, 3], [0.7, 0.2, 0.1])[0])
    framing = {"framing": rng.choice(["cowboy_shot", "full_body"])} if "limbs" in chosen else {}
    return random_figure(rng, style=style, faults={name: rng.randint(1, 3) for name in chosen}, **framing)


def _one_bad_hand(
    picture: np.ndarray, figure: Figure, seed: int, boxes: Mapping[str, tuple[float, ...]], rng: random.Random
) -> np.ndarray:
    """Take one hand's half of the picture from the same figure with sound hands, so that one bad hand also counts."""
    if not {"left_hand", "right_hand"} <= boxes.keys():
        return picture
    sound = Figure(**{**vars(figure), "faults": {k: v for k, v in figure.faults.items() if k != "hands"}})
    other = np.asarray(draw(sound, seed, SIDE).image)
    middle = int((boxes["left_hand"][2] + boxes["right_hand"][0]) / 2)
    left, right = (picture, other) if rng.random() < 0.5 else (other, picture)
    return np.concatenate([left[:, :middle], right[:, middle:]], axis=1)


def _labels(figure: Figure) -> list[float]:
    shown = figure.visible()
    tags = [
        list(values).index(getattr(figure, name)) if name in shown else HIDDEN for name, values in ATTRIBUTES.items()
    ]
    faults = [float(figure.faults.get(name, 0)) if name in figure.visible_faults() else HIDDEN for name in FAULTS]
    return [*map(float, tags), float(list(STYLES).index(figure.style)), *faults]


def write_captions(tags: str, rng: random.Random) -> str:
    """One caption of a drawing: mostly all tags, sometimes a part of them, in some order, with ``_`` or spaces."""
    words = tags.split("\n")
    if rng.random() < 0.4:
        words = [word for word in words if rng.random() > 0.35]
    if rng.random() < 0.7:
        rng.shuffle(words)
    text = ", ".join(words)
    return text.replace("_", " ") if rng.random() < 0.3 else text


def caption_tokens(tags: Sequence[str], settings: Settings, tokenizer: Path) -> np.ndarray:
    """Token ids int16 (n, captions, 77) of the base set's captions; a tenth are empty."""
    from transformers import CLIPTokenizer

    reader = CLIPTokenizer.from_pretrained(tokenizer)
    rng = random.Random(settings.seed)
    texts = ["" if rng.random() < 0.1 else write_captions(row, rng) for row in tags for _ in range(settings.captions)]
    unique = list(dict.fromkeys(texts))
    ids = np.array(reader(unique, padding="max_length", max_length=77, truncation=True)["input_ids"], dtype=np.int16)
    where = {text: index for index, text in enumerate(unique)}
    return ids[[where[text] for text in texts]].reshape(len(tags), settings.captions, 77)


def tokenizer_lines() -> list[str]:
    """Text that holds every tag in both spellings, often enough that each word becomes one token."""
    words = [tag for tags in ATTRIBUTES.values() for tag in tags] + [s.tag for s in STYLES.values() if s.tag]
    words += [tag for figure in house_figures(200, 1) for tag in figure.tags()]
    extra = "masterpiece, best quality, lowres, bad hands, bad anatomy, solo, style, drawing, picture, no, with"
    return [*words, *(word.replace("_", " ") for word in words), *[extra] * 20] * 5


def house_figures(count: int, seed: int) -> list[Figure]:
    """Random sound figures of the house style, for sampling prompts."""
    rng = random.Random(seed)
    return [random_figure(rng, style="house") for _ in range(count)]


def contact_sheet(images: Sequence[np.ndarray], columns: int = 16) -> Image.Image:
    """uint8 pictures side by side."""
    columns = min(columns, len(images))
    whole = len(images) // columns * columns
    rows = [np.concatenate(images[start : start + columns], axis=1) for start in range(0, whole, columns)]
    return Image.fromarray(np.concatenate(rows, axis=0))
