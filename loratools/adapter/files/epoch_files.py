"""What a training run's folder is (``NAME-000001.safetensors`` ...), and what ``name@8`` and ``name@6-8`` mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.adapter.files.lora_file import is_peft, weights_of
from loratools.adapter.files.metadata import KEY
from loratools.adapter.header import read_header
from loratools.errors import FileError, FormatError, LoraNotFoundError, did_you_mean

_NUMBERED = re.compile(r"(?P<name>.+)-(?P<number>\d{6})\.safetensors")
_LABEL = re.compile(r"(?:(?P<name>.+)[@-])?0*(?P<number>\d+)(?:\.safetensors)?")
_SELECTOR = re.compile(r"(?P<name>.+)@(?P<selector>\d+(?:-\d+)?|best|last)")


@dataclass(frozen=True)
class Epoch:
    """One epoch file of a run; ``number`` counts from 1."""

    number: int
    path: Path


@dataclass(frozen=True)
class Reference:
    """A name in a merge string or recipe; ``selector`` is ``8``, ``6-8``, ``best``, ``last`` or None."""

    name: str
    selector: str | None = None


def parse_reference(text: str) -> Reference:
    """Split ``name@8`` at its last ``@`` if an epoch follows it; every other name stays whole."""
    match = _SELECTOR.fullmatch(text)
    return Reference(match["name"], match["selector"]) if match else Reference(text)


def labelled_epoch(label: str, run: str) -> int | None:
    """The epoch that a grid's label such as ``8``, ``style@8`` or ``style-000008`` means; None if it is not one of the
    run ``run``, a name or a path."""
    match = _LABEL.fullmatch(label)
    return int(match["number"]) if match and match["name"] in (None, run, Path(run).name) else None


def is_run(path: Path | str) -> bool:
    """Whether ``path`` is a run: a folder with epoch files, or ``FOLDER/NAME`` of such files. A PEFT folder is none."""
    if is_peft(Path(path)):
        return False
    try:
        return bool(epochs(path))
    except FileError:
        return False


def epochs(run: Path | str) -> list[Epoch]:
    """The epoch files of a run, in order.

    Args:
        run: the folder, or ``FOLDER/NAME`` where a folder holds several runs. sd-scripts leaves its last epoch as
            ``NAME.safetensors`` without a number; it comes last.
    Raises:
        FileError: if there is no such run, or the folder holds several.
    """
    folder = Path(run)
    if folder.is_dir():
        return _of_folder(folder)
    files = _named(folder.parent, folder.name)
    if not files:
        raise FileError(f"{folder} is no training run: no folder, and no {folder.name}-000001.safetensors beside it")
    return files


def select(
    run_epochs: Sequence[Epoch], selector: str | None, *, run: str = "the run", best: Callable[[], int] | None = None
) -> list[Epoch]:
    """The epochs that a selector means: None and ``last`` the last, ``6-8`` a range, ``best`` what ``best()`` says.

    Raises:
        FileError: if an epoch does not exist, or ``best`` is not known.
    """
    if selector in (None, "last"):
        return [run_epochs[-1]]
    if selector == "best":
        if best is None:
            highest = run_epochs[-1].number
            raise FileError(f"{run}@best needs the run's log; name an epoch instead, such as {run}@{highest}")
        selector = str(best())
    first, _, last = str(selector).partition("-")
    wanted = range(int(first), int(last or first) + 1)
    by_number = {epoch.number: epoch for epoch in run_epochs}
    absent = [number for number in wanted if number not in by_number]
    if absent or not wanted:
        numbers = [epoch.number for epoch in run_epochs]
        have = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
        raise FileError(f"{run} has no epoch {absent[0] if absent else selector}; it has {have}")
    return [by_number[number] for number in wanted]


def find_lora(name: str, folders: Iterable[Path | str] = ()) -> Path:
    """What ``name`` means: a file, a PEFT folder's file, or a run, as a path or as a name (with or without
    ``.safetensors``) in one of ``folders`` or the current folder, the first one winning.

    Raises:
        FileError: if nothing is found; the message names the nearest file. Also if one of ``folders`` is none, whether
            the name would be found elsewhere or not.
    """
    searched = [Path(folder).expanduser() for folder in folders]
    for folder in searched:
        if not folder.is_dir():
            raise FileError(f"LoRAs are to be looked for in {folder}, which is no folder; check its spelling")
    candidates = [Path(name).expanduser(), *(folder / name for folder in searched)]
    for candidate in candidates:
        for path in (candidate, candidate.with_name(f"{candidate.name}.safetensors")):
            if path.is_file():
                return path
            if is_peft(path):
                return weights_of(path)
        if is_run(candidate):
            return candidate
    stems = [path.stem for folder in (*searched, Path()) for path in sorted(folder.glob("*.safetensors"))]
    where = ", ".join(str(folder) for folder in (*searched, "the current folder"))
    raise LoraNotFoundError(f"no LoRA '{name}'{did_you_mean(name, stems)} in {where}; give its path")


def _of_folder(folder: Path) -> list[Epoch]:
    files = [path.name for path in folder.glob("*.safetensors")]
    names = sorted({match["name"] for file in files if (match := _NUMBERED.fullmatch(file))})
    if not names and len(files) == 1:
        names = [Path(files[0]).stem]
    if not names:
        raise FileError(f"{folder} holds no epoch files such as NAME-000001.safetensors; give a training run's folder")
    if len(names) > 1:
        raise FileError(f"{folder} holds several runs ({', '.join(names)}); give one, such as {folder / names[0]}")
    return _named(folder, names[0])


def _named(folder: Path, name: str) -> list[Epoch]:
    numbered = [(match, path) for path in folder.glob("*.safetensors") if (match := _NUMBERED.fullmatch(path.name))]
    files = sorted((int(match["number"]), path) for match, path in numbered if match["name"] == name)
    last = folder / f"{name}.safetensors"
    if last.is_file() and _foreign(last):
        files.append((max(_stated_epoch(last), files[-1][0] + 1 if files else 1), last))
    return [Epoch(number, path) for number, path in files]


def _foreign(path: Path) -> bool:
    """Whether another trainer wrote it: our own unnumbered files are results, never a run's last epoch."""
    try:
        return KEY not in read_header(path).metadata
    except FormatError:
        return False


def _stated_epoch(path: Path) -> int:
    number = read_header(path).metadata.get("ss_epoch", "")
    return int(number) if number.isdigit() and len(number) < 7 else 0
