"""The drawings of a case as they would be downloaded: copies, junk tags and too many faces among them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from loratools.files import write_text
from loratools.pocket.draw import draw, random_figure

STYLES, SEEDS = ("ink", "neon", "watercolor"), (1, 2)
FRAMINGS = {"face_focus": 12, "cowboy_shot": 10, "full_body": 6}  # originals; the guide wants four main to one face
JUNK = ("highres", "absurdres", "commentary request", "artist name", "signature", "bad id")
COPIED, COPIES = 4, 4  # so many originals are there five times: smaller, as JPEG, brighter
_SIDE = 256


@dataclass(frozen=True)
class Case:
    """One style and seed."""

    style: str
    seed: int
    quick: bool = False

    @property
    def name(self) -> str:
        """For folders and tables."""
        return f"{self.style}-{self.seed}"

    @property
    def truth(self) -> tuple[int, int]:
        """How many prompts and seeds the judge sees of a LoRA."""
        return (2, 2) if self.quick else (25, 8)

    def jobs(self) -> list[tuple[str, int]]:
        """(prompt, seed) of every picture of the truth; none is a caption of the drawings."""
        prompts, seeds = self.truth
        figures = [
            random_figure(random.Random(f"prepared/truth/{self.style}/{n}"), style=self.style) for n in range(prompts)
        ]
        return [(", ".join(figure.tags()), 1001 + seed) for figure in figures for seed in range(seeds)]

    def draw(self, folder: Path) -> list[Path]:
        """Draw the raw folder; returns the originals."""
        folder.mkdir(parents=True, exist_ok=True)
        rng = random.Random(f"prepared/{self.name}")
        framings = [framing for framing, count in FRAMINGS.items() for _ in range(count)]
        if self.quick:
            framings = framings[::4]
        unseen = {prompt for prompt, _ in self.jobs()}
        originals: list[Path] = []
        while len(originals) < len(framings):
            figure = random_figure(rng, style=self.style, framing=framings[len(originals)])
            if ", ".join(figure.tags()) in unseen:
                continue
            path = folder / f"{len(originals) + 1:04d}.png"
            draw(figure, rng.randrange(2**32), _SIDE).image.save(path)
            tags = [*rng.sample(JUNK, 3), *figure.tags()]
            write_text(path.with_suffix(".txt"), ", ".join(tags) + "\n")
            originals.append(path)
        for path in rng.sample(originals, COPIED):
            self._copies(path, rng)
        return originals

    def _copies(self, path: Path, rng: random.Random) -> None:
        caption = path.with_suffix(".txt").read_text(encoding="utf-8")
        with Image.open(path) as image:
            for number in range(1, COPIES + 1):
                side = rng.randrange(160, 256)
                copy = path.with_name(f"{path.stem}_{number}.jpg")
                image.convert("RGB").resize((side, side)).save(copy, quality=rng.randrange(70, 96))
                write_text(copy.with_suffix(".txt"), caption)


def cases(*, quick: bool) -> list[Case]:
    """All six, in their order."""
    return [Case(style, seed, quick) for seed in SEEDS for style in STYLES]
