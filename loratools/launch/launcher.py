"""How a job's processes are started: torch's elastic launch on this machine, or a launcher's command of the user's."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.errors import LaunchError
from loratools.launch.rank import Rank

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_VISIBLE_ROCM = "HIP_VISIBLE_DEVICES"  # where it is set, ROCm does not look at the other


@dataclass(frozen=True)
class Launcher:
    """Where processes run.

    Attributes:
        processes: how many there are on this machine at once.
        gpus: what each of them is to see as its GPU, in CUDA_VISIBLE_DEVICES' words; empty where they use the CPU.
        command: the words of a launcher that starts the processes instead, on this machine or on others.
    """

    processes: int = 1
    gpus: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        """Whether there is more than this process to run something in."""
        return bool(self.command) or self.processes > 1

    @property
    def slots(self) -> tuple[int, ...]:
        """The places in which one process runs; a launcher's command has one, since it takes all that it names."""
        return (0,) if self.command else tuple(range(self.processes))

    def words(self, module: Sequence[str], slots: Sequence[int], *, alone: bool = False) -> list[str]:
        """The command that runs ``python -m MODULE ...`` in a process for each of ``slots``.

        Args:
            module: the module and its arguments.
            alone: one process on this machine, whatever the launcher is.
        """
        python = [sys.executable, "-m"]
        if self.command and not alone:
            return [*self.command, "-m", *module]
        if len(slots) == 1:
            return [*python, *module]
        return [*python, "loratools.launch.elastic", str(len(slots)), *module]

    def environment(
        self, slots: Sequence[int], given: Mapping[str, str] | None = None, *, alone: bool = False
    ) -> dict[str, str]:
        """The environment of the processes in ``slots``: their GPUs, or their part of the processor's threads."""
        values = dict(os.environ if given is None else given)
        if self.command and not alone:
            return values
        if self.gpus:
            named = ",".join(self.gpus[slot] for slot in slots)
            values |= {name: named for name in (_VISIBLE, _VISIBLE_ROCM) if name == _VISIBLE or name in values}
        threads = max(1, _cores() // self.processes)
        values.setdefault("OMP_NUM_THREADS", str(threads))
        values.setdefault("TQDM_POSITION", str(slots[0]))  # one bar under the other
        return values


def make_launcher(
    processes: str | int | None, command: str | None, device: str = "auto", environment: Mapping[str, str] | None = None
) -> Launcher:
    """The launcher that a person asks for.

    Args:
        processes: how many on this machine, or ``auto`` for one a GPU; None for this process alone.
        command: a launcher's command, such as ``accelerate launch --config_file X``.
        device: what the processes use, as ``--device`` says it.
    Raises:
        LaunchError: if both are given, one of them cannot be read, there are fewer GPUs than processes, or this process
            is one of several already.
    """
    values = os.environ if environment is None else environment
    check_launch(processes, command)
    if processes is None and command is None:
        return Launcher()
    here = Rank.here(values)
    if here.world > 1:
        raise LaunchError(
            f"this is {here} that a launcher started, so it starts none itself; leave out processes and launch"
        )
    if command is not None:
        return Launcher(command=_command(command))
    count = _count(str(processes))
    if device not in ("auto", "cuda", "cpu") and count != 1:
        raise LaunchError(f"the device {device} is one, for several processes; leave it at auto")
    gpus = () if device == "cpu" or count == 1 else _gpus(values)
    if count is None:
        count = max(1, len(gpus))
    if gpus and count > len(gpus):
        raise LaunchError(f"processes {count} is more than the {len(gpus)} GPUs of this machine; one process a GPU")
    return Launcher(count, gpus)


def check_launch(processes: str | int | None, command: str | None) -> None:
    """Raise what :func:`make_launcher` would raise on any machine, for a plan of what would be done.

    Raises:
        LaunchError: if both are given, or one of them cannot be read.
    """
    if processes is not None and command is not None:
        raise LaunchError("processes and launch exclude each other: the launcher's command says how many there are")
    if processes is not None:
        _count(str(processes))
    if command is not None:
        _words(command)


def _cores() -> int:
    """Of the processor, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(text: str) -> int | None:
    """How many processes ``text`` says; None for ``auto``."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise LaunchError(f"processes {text}: write auto, or a whole number from 1")
    return int(text)


def _gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    rocm = torch.version.hip is not None and _VISIBLE_ROCM in environment
    visible = environment.get(_VISIBLE_ROCM if rocm else _VISIBLE, "")
    named = [name.strip() for name in visible.split(",") if name.strip()]
    return tuple(named[:count] or map(str, range(count)))


def _words(text: str) -> list[str]:
    """The words of a launcher's command, of which there is one at least."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.name == "nt":
        lexer.escape = ""  # a path of Windows has backslashes
    try:
        words = list(lexer)
    except ValueError as error:
        raise LaunchError(f"launch {text}: {str(error).lower()}") from error
    if not words:
        raise LaunchError("launch is empty; write a launcher's command, such as accelerate launch")
    return words


def _command(text: str) -> tuple[str, ...]:
    """The words of a launcher's command, whose program is there."""
    words = _words(text)
    program = shutil.which(words[0]) or shutil.which(words[0], path=str(Path(sys.executable).parent))
    if program is None:
        raise LaunchError(f"launch {text}: there is no program '{words[0]}' here; install it, or give its path")
    return (program, *words[1:])
