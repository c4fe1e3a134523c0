"""``loratools studio --demo``: a folder with pictures whose hands are bad, a run that learns them, and what follows.

The page then has a run to choose an epoch of, a defect to repair and a recipe to write into. It is made by the queue's
own jobs, so that the first start shows how a training goes; a later start, in any folder, copies what was made.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from loratools.files import replacing_folder, user_cache, write_text
from loratools.studio.jobs.commands import Command
from loratools.train.output.run_folder import RunFolder
from loratools.version import __version__

FOLDER = "studio-demo"
_NAME, _PICTURES, _EPOCHS, _REPEATS = "ink", 16, 5, 8
_FRAMINGS = ("face_focus", "cowboy_shot", "full_body")
_SIDE = 128
_PROMPTS = (
    "ink_style, 1girl, cowboy_shot, blue_hair, twintails, green_eyes, white_clothes, sailor_collar, waving, smile",
    "ink_style, 1girl, cowboy_shot, brown_hair, short_hair, red_eyes, pink_clothes, dress, peace_sign, indoors",
)
_RECIPE = """\
# The demo's merge: the style as its blocks are weighed under STYLE. The studio's "write" puts its sliders here.
version: 1
base: pocket
blocks:
  STYLE: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
steps:
  final: {merge: "ink/ink-000005.safetensors:1:STYLE", out: my_style.safetensors}
"""


def prepare(folder: Path) -> list[Command]:
    """Fill ``folder`` as far as that needs no training; the jobs that are left to do, none where it was made before.

    They are a training, the verdict over its epochs, by which a newcomer chooses one, and a grid of them.

    Raises:
        FileError: if it cannot be written.
        OSError: likewise.
    """
    run = RunFolder(folder / _NAME, _NAME)
    kept = user_cache(FOLDER) / __version__
    if not run.log.exists() and kept.is_dir():
        shutil.copytree(kept, folder, dirs_exist_ok=True)
    _draw(folder / "pictures")
    if not (folder / "style.yaml").exists():
        write_text(folder / "style.yaml", _RECIPE)
    left = list(_jobs(folder, run))
    if not left:
        _keep(folder, kept)
    return left


def _jobs(folder: Path, run: RunFolder) -> Iterator[Command]:
    """What is not there yet."""
    place, verdict = run.out / _NAME, _verdict(folder)
    if not run.epoch(_EPOCHS).exists():
        argv = ["train", "--base", "pocket", "--images", str(folder / "pictures"), "-o", str(run.out), "--name", _NAME]
        argv += ["--preset", "pocket-style", "--epochs", str(_EPOCHS), "--repeats", str(_REPEATS)]
        argv += ["--resume"] if run.state.exists() else []
        yield Command(
            "train",
            f"train {_NAME}",
            tuple(argv),
            folder,
            True,
            go_on=("--resume",),
            run=place,
            stop_file=run.stop,
        )
    if not verdict.exists():
        argv = ["epochs", str(place), "--base", "pocket"]
        yield Command(
            "epochs", f"judge the epochs of {_NAME}", tuple(argv), folder, True, results=(verdict,), run=place
        )
    out = folder / "epochs"
    if not (out / "grid.json").exists():
        argv = ["grid", str(place), "--base", "pocket", "--weights", "0:1:0.5", "--seed", "1,2"]
        argv += ["--title", f"{_NAME}: epochs by weight"]
        argv += [word for prompt in _PROMPTS for word in ("--prompt", prompt)]
        yield Command("grid", "epochs x weights", (*argv, "-o", str(out)), folder, True, results=(out,))


def _verdict(folder: Path) -> Path:
    return folder / _NAME / f"{_NAME}.verdict.json"


def _draw(folder: Path) -> None:
    """The pictures, each with its tags: a style that the base does not know, with hands that nobody wants."""
    if folder.is_dir():
        return
    from loratools.pocket.draw import draw, random_figure

    with replacing_folder(folder) as fresh:
        for number in range(1, _PICTURES + 1):
            rng = random.Random(f"studio demo/{number}")
            framing = _FRAMINGS[number % len(_FRAMINGS)]
            figure = random_figure(rng, style=_NAME, faults={"hands": rng.choice((2, 3))}, framing=framing)
            draw(figure, rng.randrange(2**32), _SIDE).image.save(fresh / f"{number:02d}.png")
            write_text(fresh / f"{number:02d}.txt", ", ".join(figure.tags()) + "\n")


def _keep(folder: Path, kept: Path) -> None:
    """Copy what was made to this user's cache, for the next folder."""
    if _verdict(kept).exists():
        return
    with replacing_folder(kept) as fresh:
        for part in ("pictures", _NAME, "epochs"):
            shutil.copytree(folder / part, fresh / part, ignore=shutil.ignore_patterns("*.lock"))
