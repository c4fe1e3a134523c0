"""The thirty LoRAs to repair, and the prompts and seeds, of which no two parts share any."""

from __future__ import annotations

import random
from dataclasses import dataclass

from loratools.pocket.draw import random_figure

STYLES = ("ink", "neon", "watercolor")
DEFECTS = ("hands", "limbs", "face", "clothes", "chaos")
SEEDS = (1, 2)  # of the drawings and the training
HELD_OUT_SEEDS = (101, 102, 103, 104)  # of the table's pictures; a tune's own begin with 1
PROMPTS, HELD_OUT_PROMPTS = 240, 16  # of a tune, which keeps a tenth for its report; of the table
BY_MARKS = ".marks"  # ends the name of a case that is tuned by marks in place of the judge
BY_MARKS_GRADIENT = ".marks-gradient"  # the same, down the gradient of what the marks taught
NARROW = ".narrow"  # and of one whose weights stay where people write them
BY_PICTURES = ".pictures"  # and of one whose search has no gradient, as with measures that have none


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

    @staticmethod
    def of(name: str) -> Case:
        """The case of that name, whatever it is tuned by."""
        style, defect, seed = name.partition(".")[0].split("-")
        return Case(style, defect, int(seed))


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
