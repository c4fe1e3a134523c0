"""A small grid of flat pictures for the page's tests, with and without a browser."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

from PIL import Image

from loratools.base.infotext import LoraUse
from loratools.preview.page.view import PageAxis, Shot, Value, View
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.record.grid import Grid, Picture, PictureScore, RowInfo

WEIGHTS = (0.0, 0.5, 1.0)
EVIL = """</script><img src=x onerror="window.hurt = 1"> "quoted" 'too' <!-- {{data}} &amp;"""


def page_grid(folder: Path, *, labels: tuple[str, ...] = ("ink@1", "ink@2"), prompts: int = 2, side: int = 64) -> Grid:
    """Flat pictures that tell row, weight and prompt by their colour; the base is the same file in every row."""
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    pictures = []
    for row in range(len(labels)):
        for column, weight in enumerate(WEIGHTS):
            for prompt in range(prompts):
                file = f"cells/{row if weight else 'base'}_{column} {prompt}.png"
                color = (40 + 60 * row, 50, 60) if weight else (200, 200, 40)
                Image.new("RGB", (side, side), (color[0], color[1] + 70 * column, color[2] + 50 * prompt)).save(
                    folder / file
                )
                pictures.append(Picture(row, weight, prompt, 1, file, hashlib.sha256(file.encode()).hexdigest()))
    rows = tuple(RowInfo(label, f"d{n}", loras=(LoraUse("ink", f"d{n}"),)) for n, label in enumerate(labels))
    return Grid(
        "me",
        "title",
        "tiny",
        "digest",
        "float32 cpu",
        rows,
        WEIGHTS,
        tuple(f"prompt{p}" for p in range(prompts)),
        (1,),
        SamplingSettings(2, 7.0, "DDIM", (side, side)),
        tuple(pictures),
        {(0, 1.0): "0.93"},
    )


def page_view(folder: Path) -> View:
    """Three axes, not all of whose places have a cell, with verdicts and scores; there is no base."""
    axes = (
        PageAxis("cfg", tuple(Value(f"CFG {n}") for n in (4, 7))),
        PageAxis("sampler", (Value("Euler a"), Value("DDIM", note="0.90"))),
        PageAxis("steps", tuple(Value(str(n)) for n in (10, 20, 30))),
    )
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    shots = []
    for x, y, z in itertools.product(range(2), range(2), range(3)):
        if (x, y, z) == (1, 1, 1):
            continue
        file = f"cells/{x}{y}{z}.png"
        Image.new("RGB", (48, 32), (60 * x, 60 * y, 60 * z)).save(folder / file)
        verdict = [("under", "underfit"), ("good", "passes at 0.9"), ("over", "overfit")][z]
        scores = (PictureScore("obedience", f"0.{z + 1}", (z + 1) / 10), PictureScore("copy", "far"))
        shots.append(Shot((x, y, z), file, file, None, f"Steps: {z}", verdict=verdict, scores=scores))
    return View("three", (), "three", (48, 32), axes, tuple(shots))
