"""Make pictures of the documentation again, or say how: ``python -m tools.pictures [NAME...] [--list] [--work DIR]``.

Without a name, all of them, which takes about half an hour on two idle cores. A picture's commands run in a folder of
their own below ``--work``; pictures of the same commands or page share it, so that nothing is computed twice.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tools.pages import ROOT, blocks
from tools.pictures.table import PICTURES, Picture

_LARGEST = 150_000  # bytes of a picture of the pages


def main() -> int:
    """Make what is asked for; the exit code says whether all of it worked."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a file in docs, such as prompts.png")
    parser.add_argument("--list", action="store_true", help="print each picture with its commands, and make nothing")
    parser.add_argument("--work", type=Path, help="folder to work in, kept; a temporary one if left out")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where pictures are written")
    args = parser.parse_args()
    known = {picture.name: picture for picture in PICTURES}
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"no picture is called {unknown[0]}; there are {', '.join(known)}")
    chosen = [known[name] for name in args.names] or list(PICTURES)
    by_hand = [picture for picture in chosen if not picture.made]
    if args.list:
        print("\n".join(described(picture) for picture in chosen))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        for picture in chosen:
            if picture.made:
                make(picture, args.work or Path(temporary), args.out)
    for picture in by_hand:
        print(f"not made here: {described(picture)}")
    return 0


def described(picture: Picture) -> str:
    """How a picture is made, in lines."""
    how = [f"the commands of {picture.page}"] if picture.page else list(picture.commands)
    earlier = [f"the one shown was {picture.earlier}"] if picture.earlier else []
    return "\n    ".join([f"{picture.name}  (about {picture.minutes:g} min)", *how, *earlier])


def make(picture: Picture, work: Path, out: Path) -> None:
    """Make one picture.

    Raises:
        RuntimeError: if a command fails.
    """
    folder = (work / (Path(picture.page).stem or _folder_of(picture))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    commands = [tuple(shlex.split(command)) for command in picture.commands]
    if picture.page:
        commands = _of_page(picture, folder)
    done = folder / ".done"
    before = done.read_text(encoding="utf-8").splitlines() if done.exists() else []
    for command in commands:
        line = shlex.join(command)
        if line in before:
            continue
        print(f"{picture.name}: {line}", flush=True)
        _run(command, folder)
        before.append(line)
        done.write_text("\n".join(before) + "\n", encoding="utf-8")
    target = out / picture.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(folder / picture.made) as image:
        _save(image.convert("RGB"), target)
    print(f"{picture.name}: {target}", flush=True)


def _folder_of(picture: Picture) -> str:
    """Pictures that begin with the same command share a folder."""
    first = next(other for other in PICTURES if other.commands[:1] == picture.commands[:1])
    return Path(first.name).stem


def _of_page(picture: Picture, folder: Path) -> list[tuple[str, ...]]:
    """A page's commands as they stand there, up to those of the block that holds ``until``; its files are written."""
    commands: list[tuple[str, ...]] = []
    for block in blocks(ROOT / picture.page):
        if block.remarks.file:
            (folder / block.remarks.file).write_text(block.text, encoding="utf-8")
        commands += [command.words for command in block.commands if command.ours is not None]
        if picture.until in block.text and block.commands:
            break
    return commands


def _run(command: tuple[str, ...], folder: Path) -> None:
    words = [sys.executable, "-m", *command] if command[0] == "loratools" else [sys.executable, *command[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode} in {folder}")


def _save(image: Image.Image, target: Path) -> None:
    if target.suffix == ".webp":
        widest = min(image.width, 1400)  # of a page: more is not shown
        for share, quality in itertools.product((1, 0.8, 0.65), (88, 76, 64)):  # as good as fits
            size = (round(widest * share), round(image.height * widest * share / image.width))
            shown = image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)
            shown.save(target, quality=quality, method=6)
            if target.stat().st_size <= _LARGEST:
                break
    else:
        image.save(target, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
