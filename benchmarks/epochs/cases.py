"""The twelve runs, and the prompts and seeds of the truth; none of them is in any training set or verdict."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.files import write_text
from loratools.pocket.draw import draw, random_figure

TRUTH_SEEDS = tuple(range(1001, 1009))
TRUTH_PROMPTS = 25  # x 8 seeds: 200 pictures an epoch
SPLIT = 0.2  # of the drawings, held out


@dataclass(frozen=True)
class Case:
    """One run: so many drawings of a style, a rate and a length; ``truth`` is prompts and seeds of the judge's view."""

    style: str
    drawings: int
    rate: float
    epochs: int
    repeats: int = 14
    truth: tuple[int, int] = (TRUTH_PROMPTS, len(TRUTH_SEEDS))
    seeds: tuple[int, ...] = ()  # of the verdict; empty: its own default

    @property
    def name(self) -> str:
        """For folders and tables."""
        return f"{self.style}-{self.drawings}-{self.rate:g}-{self.epochs}"

    def quick(self) -> Case:
        """The same at a size that a CPU does in minutes, to see whether everything runs."""
        return replace(self, drawings=8, epochs=3, repeats=2, truth=(2, 2), seeds=(1,))

    def truth_jobs(self) -> list[tuple[str, int]]:
        """(prompt, seed) of every picture of the truth, prompts before seeds."""
        prompts, seeds = self.truth
        own = [_figure(f"truth/{self.style}/{n}", self.style) for n in range(prompts)]
        return [(prompt, seed) for prompt in own for seed in TRUTH_SEEDS[:seeds]]

    def draw(self, folder: Path) -> None:
        """The run's drawings with their captions; none has a caption of the truth."""
        folder.mkdir(parents=True, exist_ok=True)
        unseen = {prompt for prompt, _ in self.truth_jobs()}
        drawn, number = 0, 0
        while drawn < self.drawings:
            number += 1
            rng = random.Random(f"epochs/{self.name}/{number}")
            figure = random_figure(rng, style=self.style)
            caption = ", ".join(figure.tags())
            if caption in unseen:
                continue
            drawn += 1
            draw(figure, rng.randrange(2**32), 128).image.save(folder / f"{drawn:04d}.png")
            write_text(folder / f"{drawn:04d}.txt", f"{caption}\n")


def _figure(seed: str, style: str) -> str:
    return ", ".join(random_figure(random.Random(seed), style=style).tags())


CASES = (
    Case("ink", 24, 4e-3, 12),  # the preset, somewhat longer
    Case("neon", 20, 2e-3, 10),
    Case("watercolor", 16, 2e-3, 14),
    Case("ink", 12, 8e-3, 16),  # few pictures, hot and long: it must overfit
    Case("neon", 40, 4e-3, 6),  # many pictures, short
    Case("watercolor", 32, 4e-3, 8),
    Case("ink", 40, 1e-3, 8),  # cool: the last may be the best
    Case("neon", 12, 1e-3, 14),
    Case("watercolor", 12, 6e-3, 12),
    Case("pastel", 24, 4e-3, 8),  # styles that the base knows by another name
    Case("sketch", 16, 2e-3, 10),
    Case("pixel", 30, 6e-3, 10),
)
