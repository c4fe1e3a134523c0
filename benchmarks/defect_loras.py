"""LoRAs that are overfit to ONE defect, for benchmarks of what repairs them: ``python -m benchmarks.defect_loras``.

Twelve drawings of one style, each with the same defect at grade 2 or 3 and framed so that it shows; captions say
nothing of it, as a person's would not. The preset is pocket-style with 14 repeats and 10 epochs, so that the defect is
learnt with the style. A folder that holds its last epoch is used again.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path

from loratools.files import write_text
from loratools.pocket.draw import FAULTS, draw, random_figure

DRAWINGS, REPEATS, EPOCHS = 12, 14, 10
_FRAMINGS = ("full_body", "cowboy_shot")  # every defect can be seen in both


@dataclass(frozen=True)
class DefectLora:
    """Where one lies: its epochs, first to last, and the drawings (with captions) that it was trained on."""

    style: str
    defect: str
    seed: int
    epochs: tuple[Path, ...]
    images: Path

    @property
    def file(self) -> Path:
        """The last epoch's."""
        return self.epochs[-1]


def defect_lora(style: str, defect: str, seed: int, folder: Path, device: str = "auto") -> DefectLora:
    """Train one into ``folder``, or find it there; an interrupted training goes on."""
    from loratools.train.config.read import read_config
    from loratools.train.trainer import train

    images = folder / "images"
    epochs = tuple(folder / f"run/lora-{number:06d}.safetensors" for number in range(1, EPOCHS + 1))
    if not images.is_dir() or not epochs[-1].is_file():
        _draw_defects(images, style, defect, seed)
    if not epochs[-1].is_file():
        settings = {
            "base": "pocket",
            "images": [{"folder": str(images), "repeats": REPEATS}],
            "out": str(folder / "run"),
            "name": "lora",
            "seed": seed,
            "preset": "pocket-style",
            "epochs": EPOCHS,
            "device": device,
            "resume": True,
        }
        train(read_config(overrides=settings)[0], progress=False)
    return DefectLora(style, defect, seed, epochs, images)


def _draw_defects(folder: Path, style: str, defect: str, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, DRAWINGS + 1):
        rng = random.Random(f"defect/{seed}/{style}/{defect}/{number}")
        grade = rng.choice((2, 3))
        figure = random_figure(rng, style=style, faults={defect: grade}, framing=_FRAMINGS[number % len(_FRAMINGS)])
        draw(figure, rng.randrange(2**32), 128).image.save(folder / f"{number:04d}.png")
        write_text(folder / f"{number:04d}.txt", ", ".join(figure.tags()) + "\n")


def main() -> None:
    """Train those that are named, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="STYLE-DEFECT-SEED", help=f"defects are {', '.join(FAULTS)}")
    parser.add_argument("--work", type=Path, required=True, help="a folder for each is made in it")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    for name in args.names:
        style, defect, seed = name.split("-")
        begun = time.perf_counter()
        made = defect_lora(style, defect, int(seed), args.work / name, args.device)
        print(f"{name}: {made.file} in {time.perf_counter() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
