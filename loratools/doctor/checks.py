"""Facts -> findings: what is wrong, what is worth knowing, and for each the one command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from loratools.doctor.facts import Facts, NvidiaCard, Version
from loratools.doctor.torch_wheels import CUDA_13, install, needed_driver, wheels_for

Level = Literal["wrong", "note"]
_GIB = 1 << 30
_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 11), (3, 13)
_LITTLE_DISK = 10 * _GIB  # a run's epochs, a grid and a base of SDXL's size
_LITTLE_MEMORY = 8 * _GIB  # SDXL's weights are read through main memory
_SMALL_CARD = 5.5 * _GIB  # of a card sold as 6 GB
_CROWDED = 0.5  # of a card's memory that others hold
_USES = {
    "optim": "8-bit, Lion, Prodigy and schedule-free optimizers",
    "log": "TensorBoard's curves",
    "tag": "`loratools dataset tag`",
    "face": "finding faces for `loratools dataset prepare`",
    "text": "finding text in pictures",
    "studio": "`loratools studio`",
}


@dataclass(frozen=True)
class Finding:
    """Something about a machine.

    Args:
        level: ``wrong`` hinders; a ``note`` only says what else there could be.
        what: a sentence for a person.
        command: what mends it, as it is typed; None where no command does.
    """

    level: Level
    what: str
    command: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """Its fields."""
        return asdict(self)


Check = Callable[[Facts], Iterator[Finding]]


def findings(facts: Facts) -> list[Finding]:
    """All that is to be said of a machine, what is wrong first."""
    found = [own for check in CHECKS for own in check(facts)]
    return sorted(found, key=lambda own: own.level != "wrong")


def _python(facts: Facts) -> Iterator[Finding]:
    lowest, highest = (".".join(map(str, own)) for own in (_OLDEST_PYTHON, _NEWEST_PYTHON))
    running, get = ".".join(map(str, facts.python)), _get_python(facts, highest)
    if not _OLDEST_PYTHON <= facts.python[:2] <= _NEWEST_PYTHON:
        yield Finding("wrong", f"this is Python {running}; loratools is made for {lowest} to {highest}", get)
    if facts.bits != 64:
        yield Finding("wrong", "this Python is a 32-bit one, for which there is no torch", get)
    if facts.translated:
        yield Finding("wrong", "this Python is made for Intel and runs translated; Apple's GPU is out of reach", get)
    if not facts.isolated:
        yield Finding(
            "note",
            "this is the system's own Python; in a virtual environment nothing else changes versions under it",
            "python -m venv loratools-venv",
        )


def _get_python(facts: Facts, number: str) -> str:
    return {
        "Windows": f"winget install Python.Python.{number}",
        "Darwin": f"brew install python@{number}",
    }.get(facts.system, f"uv python install {number}")


def _torch(facts: Facts) -> Iterator[Finding]:
    torch = facts.torch
    if torch.version is None:
        yield Finding("wrong", "torch is not installed", install(wheels_for(facts)))
    elif torch.error is not None and facts.system == "Windows" and "DLL" in torch.error.upper():
        what = f"torch cannot be imported ({torch.error}); it lacks Microsoft's C++ libraries"
        yield Finding("wrong", what, "winget install Microsoft.VCRedist.2015+.x64")
    elif torch.error is not None:
        yield Finding("wrong", f"torch cannot be imported: {torch.error}", install(wheels_for(facts)))
    wanted = facts.torchvision_wants
    if torch.version and wanted and not f"{torch.version}+".startswith(f"{wanted}+"):
        yield Finding(
            "wrong",
            f"torchvision was built for torch {wanted} and this is {torch.version}: importing transformers fails with "
            "it, and loratools does without it",
            "python -m pip uninstall -y torchvision",
        )


def _nvidia(facts: Facts) -> Iterator[Finding]:
    torch, cards = facts.torch, facts.nvidia
    if "nvidia" in facts.cards and not cards:
        yield Finding("wrong", "there is an NVIDIA card and no working driver for it", _driver(facts))
        return
    if not cards or torch.error is not None or torch.version is None:
        return
    names = _names([card.name for card in cards])
    if torch.cuda is None:
        built = "AMD's GPUs" if torch.hip else "CPUs"
        what = f"torch {torch.version} is built for {built}, so that {names} is not used: everything runs on the CPU"
        yield Finding("wrong", what, install(wheels_for(facts)))
        return
    driver = min(card.driver for card in cards)
    needed = needed_driver(torch.cuda)
    if driver < needed:
        what = (
            f"NVIDIA's driver {_dotted(driver)} is too old for torch {torch.version}, which was built for CUDA "
            f"{torch.cuda} and needs {_dotted(needed)}"
        )
        wheels = wheels_for(facts)
        yield Finding("wrong", what, install(wheels) if wheels != "cpu" else _driver(facts))
    elif not torch.devices:
        what = (
            f"torch {torch.version} sees none of {names}, though driver and build fit; CUDA_VISIBLE_DEVICES may hide it"
        )
        unset = "set CUDA_VISIBLE_DEVICES=" if facts.system == "Windows" else "unset CUDA_VISIBLE_DEVICES"
        yield Finding("wrong", what, unset)
    else:
        yield from _kernels(facts)
    yield from _card_memory(cards)


def _kernels(facts: Facts) -> Iterator[Finding]:
    """Whether torch has kernels for every card."""
    for card in facts.nvidia:
        if card.capability is None or not facts.torch.architectures:
            continue
        major, minor = card.capability
        known = [own for own in facts.torch.architectures if own.startswith("sm_")]
        if not any(_runs_on(own, major, minor) for own in known):
            what = f"torch {facts.torch.version} has no kernels for {card.name} (sm_{major}{minor})"
            yield Finding("wrong", what, install(wheels_for(facts)))


def _runs_on(architecture: str, major: int, minor: int) -> bool:
    """Whether kernels of ``sm_86`` run on a card: those of its own major version up to its minor one do."""
    number = "".join(each for each in architecture.removeprefix("sm_") if each.isdigit())
    return int(number[:-1]) == major and int(number[-1]) <= minor


def _card_memory(cards: tuple[NvidiaCard, ...]) -> Iterator[Finding]:
    for card in cards:
        size, used = f"{card.memory / _GIB:.0f} GiB", f"{card.used / _GIB:.1f} GiB"
        if card.used > _CROWDED * card.memory:
            yield Finding(
                "note", f"other programs hold {used} of {card.name}'s {size}; close a WebUI that is not needed"
            )
        if card.memory < _SMALL_CARD:
            yield Finding("note", f"{card.name} has {size}: SD 1.5 fits, SDXL only with `--offload` and slowly")


def _other_gpus(facts: Facts) -> Iterator[Finding]:
    torch = facts.torch
    if torch.version is None or torch.error is not None:
        return
    if "amd" in facts.cards and "nvidia" not in facts.cards and torch.hip is None:
        if facts.system == "Linux":
            what = f"torch {torch.version} is not built for AMD's GPUs: everything runs on the CPU"
            yield Finding("wrong", what, install("rocm6.4"))
        else:
            yield Finding(
                "note", "torch for AMD's GPUs is made for Linux; here everything runs on the CPU (or use WSL)"
            )
    if facts.system == "Darwin" and facts.processor == "arm64" and not torch.mps:
        yield Finding("wrong", f"torch {torch.version} does not see Apple's GPU", install(None))
    if torch.devices and torch.cuda and not torch.triton:
        package = "triton-windows" if facts.system == "Windows" else "triton"
        yield Finding(
            "note",
            "Triton is not installed: grids are drawn without fused kernels, somewhat slower",
            f"python -m pip install {package}",
        )


def _packages(facts: Facts) -> Iterator[Finding]:
    for extra, own in (facts.lacks or {}).items():
        if not own or extra == "test" or (not extra and all(each.needed.startswith("torch>") for each in own)):
            continue
        shown = ", ".join(f"{each.needed} ({each.installed or 'missing'})" for each in own)
        command = "python -m pip install " + " ".join(f'"{each.needed}"' for each in own)
        if not extra:
            yield Finding("wrong", f"packages that loratools needs are missing or do not fit: {shown}", command)
        elif any(each.installed is not None for each in own):
            yield Finding("wrong", f"packages of the extra [{extra}] do not fit: {shown}", command)
        else:
            what = f"the extra [{extra}] adds {_USES.get(extra, 'more')}"
            yield Finding("note", what, f'python -m pip install "loratools[{extra}]"')


def _places(facts: Facts) -> Iterator[Finding]:
    for folder in facts.folders:
        where = f"{folder.use} ({folder.path})"
        if folder.error is not None:
            yield Finding(
                "wrong", f"nothing can be written to {where}: {folder.error}", _other_place(facts, folder.use)
            )
        elif folder.free < _LITTLE_DISK:
            what = f"{folder.free / _GIB:.1f} GiB are free for {where}; a run with its grid takes up to 10"
            yield Finding("note", what, _other_place(facts, folder.use))
    total, free = facts.memory
    if 0 < total < _LITTLE_MEMORY:
        yield Finding(
            "note", f"{total / _GIB:.0f} GiB of main memory: SD 1.5 is fine, SDXL may run out ({free / _GIB:.1f} free)"
        )


def _other_place(facts: Facts, use: str) -> str | None:
    """A command that has another folder used."""
    variable = {"the cache": "LORATOOLS_CACHE", "temporary files": "TMPDIR"}.get(use)
    if variable is None:
        return None
    if facts.system == "Windows":
        return f"setx {'TEMP' if variable == 'TMPDIR' else variable} D:\\loratools"
    return f"export {variable}=/path/with/room"


def _windows(facts: Facts) -> Iterator[Finding]:
    if facts.long_paths is False:
        yield Finding(
            "wrong",
            "Windows refuses paths of over 260 characters, which runs in deep folders have; the command needs a "
            "terminal as administrator",
            r"reg add HKLM\SYSTEM\CurrentControlSet\Control\FileSystem /v LongPathsEnabled /t REG_DWORD /d 1 /f",
        )
    if facts.encoding.replace("-", "").replace("_", "") not in ("utf8", "utf8sig"):
        utf8 = "setx PYTHONUTF8 1" if facts.system == "Windows" else "export PYTHONUTF8=1"
        yield Finding("note", f"text is printed as {facts.encoding}: names in other scripts may come out wrong", utf8)


def _driver(facts: Facts) -> str:
    """Where NVIDIA's driver comes from."""
    if facts.system == "Windows":
        return "winget install Nvidia.GeForceExperience"
    return f"sudo ubuntu-drivers install nvidia:{CUDA_13[0]}"


def _names(names: list[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def _dotted(number: Version) -> str:
    return ".".join(map(str, number))


CHECKS: tuple[Check, ...] = (_python, _torch, _nvidia, _other_gpus, _packages, _places, _windows)
