"""The twelve LoRAs, and the prompts and seeds that they are looked at with; none of them is in any training set."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from loratools.files import write_text
from loratools.pocket.draw import FAULTS, draw, random_figure

Kind = Literal["sound", "overfit"]
STYLES = ("ink", "neon", "watercolor")  # the base does not know them
SEEDS = (1, 2)  # of the drawings and the training
AMOUNT_SEEDS = (1, 2, 3)  # of the pictures by which an amount is chosen
SEEN_SEEDS = (101, 102, 103, 104)  # of those that are reported


@dataclass(frozen=True)
class Case:
    """One LoRA: of a style, of sound drawings or of few ones with every defect; how long, and how it is looked at."""

    style: str
    kind: Kind
    seed: int
    drawings: int
    epochs: int
    repeats: int = 14
    prompts: int = 16
    seeds: tuple[int, ...] = SEEN_SEEDS
    amount_prompts: int = 8

    @property
    def name(self) -> str:
        """For files and ``--only``."""
        return f"{self.style}-{self.kind}-{self.seed}"

    def quick(self) -> Case:
        """The same at a size that a CPU does in minutes, to see whether everything runs."""
        return replace(self, drawings=4, epochs=1, repeats=2, prompts=2, seeds=(101,), amount_prompts=1)

    def prompts_of(self, part: Literal["amount", "seen"]) -> list[str]:
        """Tags of random figures in the style; ``amount`` for choosing one, ``seen`` for the report."""
        count = self.amount_prompts if part == "amount" else self.prompts
        figures = (random_figure(random.Random(f"subtraction/{part}/{n}"), style=self.style) for n in range(count))
        return [", ".join(figure.tags()) for figure in figures]

    def draw(self, folder: Path) -> None:
        """The training pictures; captions say nothing of defects, as a person's would not."""
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, self.drawings + 1):
            rng = random.Random(f"subtraction/{self.name}/{number}")
            faults = {} if self.kind == "sound" else {name: rng.choice((2, 3)) for name in FAULTS}
            figure = random_figure(rng, style=self.style, faults=faults)
            draw(figure, rng.randrange(2**32), 128).image.save(folder / f"{number:04d}.png")
            write_text(folder / f"{number:04d}.txt", ", ".join(figure.tags()) + "\n")


def cases(*, quick: bool) -> list[Case]:
    """All twelve, so ordered that any first part of them holds all styles and both kinds."""
    own = [
        Case(style, "sound", seed, drawings=24, epochs=8)
        if kind == "sound"
        else Case(style, "overfit", seed, drawings=8, epochs=14, repeats=20)
        for seed in SEEDS
        for style in STYLES
        for kind in ("sound", "overfit")
    ]
    return [case.quick() for case in own] if quick else own
