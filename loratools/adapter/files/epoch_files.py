"""What a training run's folder is (``NAME-000001.safetensors`` ...), and what ``name@8`` and ``name@6-8`` mean."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.adapter.files.lora_file import is_peft, weights_of
from loratools.adapter.files.metadata import KEY
from loratools.adapter.header import read_header
from loratools.errors import FileError, FormatError, LoraNotFoundError, SeveralRunsError, did_you_mean

_NUMBERED = re.compile(r"(?P<name>.+)-(?P<number>\d{6})\.safetensors")
_LABEL = re.compile(r"(?:(?P<name>.+)[@-])?0*(?P<number>\d+)(?:\.safetensors)?")
_NAMED = 4  # so many names of what a folder holds stand in a message
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
        FileError: if there is no such run; SeveralRunsError if the folder holds several.
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
        FileError: if nothing is found; the message names the nearest file, or says what the folder of that name holds
            (SeveralRunsError where that is several runs). Also if one of ``folders`` is none, whether the name would
            be found elsewhere or not.
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
    for candidate in candidates:
        if candidate.is_dir():
            weights_of(candidate) if is_peft(candidate) else epochs(candidate)  # raises: neither is there
    named = Path(name).expanduser()
    stems = [path.stem for folder in (*searched, named.parent) for path in sorted(folder.glob("*.safetensors"))]
    runs = run_names(named.parent)
    own = "the current folder" if named.parent == Path() else str(named.parent)
    where = ", ".join(str(folder) for folder in (*searched, own))
    raise LoraNotFoundError(f"no LoRA '{name}'{did_you_mean(named.name, [*runs, *stems])} in {where}; give its path")


def find_file(name: str, folders: Iterable[Path | str] = (), best: Callable[[Path], int] | None = None) -> Path:
    """The one file that ``name`` means: as :func:`find_lora`, a run's last epoch, or ``RUN@8``, ``RUN@last`` and
    ``RUN@best``. A file called ``style@8.safetensors`` wins over epoch 8 of a run ``style``.

    Args:
        best: run -> its best epoch's number.
    Raises:
        FileError: as :func:`find_lora`; for an epoch that the run has not, or several of them.
    """
    searched = tuple(folders)
    reference = reference_to(name, lambda text: find_lora(text, searched))
    path = find_lora(reference.name, searched)
    chosen = selected(path, reference, best)
    if len(chosen) > 1:
        raise FileError(
            f"'{name}' is {len(chosen)} epochs, and one LoRA is needed here; name one, such as "
            f"{reference.name}@{chosen[-1].number}, or write their mean with `loratools soup` first"
        )
    return chosen[0].path if chosen else path


def reference_to(name: str, find: Callable[[str], Path]) -> Reference:
    """What ``name`` means: ``style@8`` is epoch 8 of ``style``, but where a file of that whole name is there.

    Args:
        find: name -> a LoRA file or a training run; FileError for a name that is nothing.
    """
    reference = parse_reference(name)
    if reference.selector is not None:
        with contextlib.suppress(FileError):
            path, whole = find(name), Path(name).name
            if path.is_file() and whole in (path.name, path.stem, path.parent.name):  # the last is a PEFT folder's
                return Reference(name)
    return reference


def selected(path: Path, reference: Reference, best: Callable[[Path], int] | None = None) -> list[Epoch]:
    """The epochs of the run at ``path`` that ``reference`` means; none where it means the file at ``path``.

    Raises:
        FileError: if ``path`` is no run, or has no such epoch.
    """
    if path.is_file() and reference.selector is None:
        return []
    if not is_run(path):
        if reference.selector is None:
            epochs(path)  # raises with the reason
        raise FileError(
            f"{reference.name}@{reference.selector}: {path} is no training run, so it has no epochs; drop the @"
        )
    return select(
        epochs(path), reference.selector, run=reference.name, best=None if best is None else lambda: best(path)
    )


def run_names(folder: Path | str) -> tuple[str, ...]:
    """The names of the training runs in a folder, in order; ``FOLDER/NAME`` is one of them."""
    files = (path.name for path in Path(folder).glob("*.safetensors"))
    return tuple(sorted({match["name"] for file in files if (match := _NUMBERED.fullmatch(file))}))


def _of_folder(folder: Path) -> list[Epoch]:
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    names = run_names(folder)
    if not names and len(files) == 1:
        names = (Path(files[0]).stem,)
    if len(names) > 1:
        raise SeveralRunsError(
            f"{folder} holds several runs ({', '.join(names)}); give one, such as {folder / names[0]}", names
        )
    numbered = _named(folder, names[0]) if names else []
    if not numbered:  # a single file may be a result of ours, or damaged
        raise FileError(
            f"{folder} holds no epoch files such as NAME-000001.safetensors{_instead(folder, files)}; give a "
            "training run's folder, or a LoRA file"
        )
    return numbered


def _instead(folder: Path, files: Sequence[str]) -> str:
    """What a folder without a run holds: LoRA files, or folders with runs; empty if neither."""
    if files:
        return f", but {len(files)} LoRA file{'s' * (len(files) > 1)} ({_clipped(files)})"
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and run_names(path))
    return f"; its folders do ({_clipped([str(path) for path in inside])})" if inside else ""


def _clipped(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


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
