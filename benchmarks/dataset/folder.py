"""A folder of drawings with planted duplicates, variants, text and transparency."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from loratools.pocket.draw import ATTRIBUTES, STYLES, Figure, draw, random_figure

Box = tuple[int, int, int, int]
_CHANGED = ("expression", "clothes_color", "accessory", "clothes", "eye_color")  # of which variants differ in one
_WORDS = ("SAMPLE TEXT", "@artist 2024", "example.com", "Hello there!", "DO NOT REPOST", "Chapter 12")
_DUPLICATES, _VARIANTS, _TEXTS, _ALPHAS = 0.12, 0.12, 0.1, 0.06  # shares of the originals that are planted


@dataclass
class Truth:
    """What was planted: groups of files, boxes of text in pixels, files with transparency, the class of each file."""

    duplicates: list[list[str]] = field(default_factory=list)
    variants: list[list[str]] = field(default_factory=list)
    text: dict[str, list[Box]] = field(default_factory=dict)
    alpha: list[str] = field(default_factory=list)
    classes: dict[str, str] = field(default_factory=dict)
    faces: dict[str, Box] = field(default_factory=dict)


CLASS_OF = {"face_focus": "face", "cowboy_shot": "main", "full_body": "full"}


def plant(folder: Path, count: int, seed: int, size: int = 512) -> Truth:
    """Draw about ``count`` pictures into ``folder``, and say what is in them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    truth = Truth()
    originals = round(count / (1 + _DUPLICATES + 1.5 * _VARIANTS))
    for number in range(originals):
        _original(folder, f"{number:04d}", rng, size, truth)
    return truth


def _original(folder: Path, name: str, rng: random.Random, size: int, truth: Truth) -> None:
    figure = random_figure(rng, style=rng.choice(list(STYLES)))
    scene = rng.randrange(2**31)
    drawing = draw(figure, scene, size)
    image, kind = drawing.image, rng.random()
    file = f"{name}.png"
    _note(truth, file, figure, drawing.boxes["face"])
    if kind < _DUPLICATES:
        copy = f"{name}_copy.jpg"
        _save_copy(image, folder / copy, rng)
        truth.duplicates.append([file, copy])
        _note(truth, copy, figure, None)
    elif kind < _DUPLICATES + _VARIANTS:
        group = [file]
        for changed in rng.sample(_CHANGED, rng.choice((1, 2))):
            other = f"{name}_{changed}.png"
            changed_figure = _varied(figure, changed, rng)
            variant = draw(changed_figure, scene, size)
            variant.image.save(folder / other)
            _caption(folder / other, changed_figure.tags())
            group.append(other)
            _note(truth, other, figure, variant.boxes["face"])
        truth.variants.append(group)
    elif kind < _DUPLICATES + _VARIANTS + _TEXTS:
        image, boxes = with_text(image, rng)
        truth.text[file] = boxes
    elif kind < _DUPLICATES + _VARIANTS + _TEXTS + _ALPHAS:
        image = _cut_out(image)
        truth.alpha.append(file)
    image.save(folder / file)
    tags = [tag for tag in figure.tags() if not (file in truth.alpha and tag == figure.background)]
    _caption(folder / file, [*tags, "transparent_background"] if file in truth.alpha else tags)


def _caption(picture: Path, tags: Sequence[str]) -> None:
    picture.with_suffix(".txt").write_text(", ".join(tags), encoding="utf-8")


def _note(truth: Truth, file: str, figure: Figure, face: Any) -> None:
    truth.classes[file] = CLASS_OF[figure.framing]
    if face is not None:
        left, top, right, bottom = (round(side) for side in face)
        truth.faces[file] = (left, top, right, bottom)


def _varied(figure: Figure, attribute: str, rng: random.Random) -> Figure:
    others = [value for value in ATTRIBUTES[attribute] if value != figure.value(attribute)]
    change: dict[str, Any] = {attribute: rng.choice(others)}
    return replace(figure, **change)


def _save_copy(image: Image.Image, path: Path, rng: random.Random) -> None:
    """The same picture as another site would have it: another size, JPEG, a little darker or lighter."""
    side = round(image.width * rng.choice((0.5, 0.75, 1.0, 1.25)))
    copy = ImageEnhance.Brightness(image.resize((side, side))).enhance(rng.uniform(0.93, 1.07))
    copy.save(path, quality=rng.choice((60, 75, 90)))


def with_text(image: Image.Image, rng: random.Random) -> tuple[Image.Image, list[Box]]:
    """The picture with one or two lines of text on it, and their boxes."""
    image = image.copy()
    pen, boxes = ImageDraw.Draw(image), []
    for row in rng.sample((0.02, 0.9), rng.choice((1, 2))):
        font = ImageFont.load_default(round(image.height * rng.uniform(0.045, 0.07)))
        word = rng.choice(_WORDS)
        at = (round(image.width * rng.uniform(0.03, 0.3)), round(image.height * row))
        left, top, right, bottom = (round(side) for side in pen.textbbox(at, word, font=font))
        if rng.random() < 0.5:
            pen.rectangle((left - 6, top - 4, right + 6, bottom + 4), fill="white")
            pen.text(at, word, font=font, fill="black")
        else:
            pen.text(at, word, font=font, fill="white", stroke_width=2, stroke_fill="black")
        boxes.append((left, top, right, bottom))
    return image, boxes


def _cut_out(image: Image.Image) -> Image.Image:
    """The picture with its border transparent."""
    alpha = Image.new("L", image.size, 0)
    width, height = image.size
    ImageDraw.Draw(alpha).ellipse((width * 0.1, height * 0.02, width * 0.9, height * 1.3), fill=255)
    image = image.convert("RGBA")
    image.putalpha(alpha)
    return image
