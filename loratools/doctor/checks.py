"""Facts -> findings: what is wrong, what is worth knowing, and for each the one command that mends it."""

from __future__ import annotations

from collections.abc import Iterator

from loratools.doctor.facts import Facts, Folder, Lack
from loratools.doctor.finding import GIB, Check, Finding, variable, without_variable
from loratools.doctor.torch_and_gpu import nvidia, other_gpus, torch_itself

_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 11), (3, 13)
_NO_DISK = GIB // 2  # less than that, and the first epoch file fails
_LITTLE_DISK = 10 * GIB  # a run's epochs, a grid and a base of SDXL's size
_LITTLE_MEMORY = 8 * GIB  # SDXL's weights are read through main memory
_SYNCHRONISED = ("onedrive", "dropbox", "google drive", "icloud", "yandex.disk", "nutstore", "坚果云")
_USES = {
    "optim": "8-bit, Lion, Prodigy and schedule-free optimizers",
    "log": "TensorBoard's curves",
    "tag": "`loratools dataset tag`",
    "face": "finding faces for `loratools dataset prepare`",
    "text": "finding text in pictures",
    "studio": "`loratools studio`",
}
_VARIABLES = {"the cache": "LORATOOLS_CACHE", "temporary files": "TMPDIR", "models of the hub": "HF_HOME"}


def findings(facts: Facts) -> list[Finding]:
    """All that is to be said of a machine, what is wrong first."""
    made = [own for check in CHECKS for own in check(facts)]
    return sorted(made, key=lambda own: own.level != "wrong")


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


def _packages(facts: Facts) -> Iterator[Finding]:
    for extra, lacking in (facts.lacks or {}).items():
        own = [each for each in lacking if not each.is_torch]  # torch has an index of its own, and a check
        if not own or extra in ("test", "docs", "release"):
            continue
        shown = ", ".join(f"{each.needed} ({each.installed or 'missing'})" for each in own)
        if not extra:
            yield Finding("wrong", f"packages that loratools needs are missing or do not fit: {shown}", _install(own))
        elif any(each.installed is not None for each in own):
            yield Finding("wrong", f"packages of the extra [{extra}] do not fit: {shown}", _install(own))
        else:
            yield Finding("note", f"the extra [{extra}] adds {_USES.get(extra, 'more')}", _install(own))


def _install(lacking: list[Lack]) -> str:
    """By the packages' own names: a checkout need not be at hand."""
    return "python -m pip install " + " ".join(f'"{each.needed}"' for each in lacking)


def _places(facts: Facts) -> Iterator[Finding]:
    for folder in facts.folders:
        where = f"{folder.use} ({folder.path})"
        if folder.error is not None:
            what = f"nothing can be written to {where}: {folder.error}"
            yield Finding("wrong", what, _other_place(facts, folder))
        elif folder.free < _NO_DISK:
            what = f"the disk is full: {folder.free / GIB:.1f} GiB are free for {where}"
            yield Finding("wrong", what, _other_place(facts, folder))
        elif folder.free < _LITTLE_DISK:
            what = f"{folder.free / GIB:.1f} GiB are free for {where}; a run with its grid takes up to 10"
            yield Finding("note", what, _other_place(facts, folder))
    for folder in facts.folders:
        if any(word in folder.path.lower() for word in _SYNCHRONISED):
            yield Finding(
                "note",
                f"{folder.use} ({folder.path}) is synchronised with a server, which uploads every epoch and may hold "
                "files while they are written",
                _other_place(facts, folder),
            )


def _other_place(facts: Facts, folder: Folder) -> str:
    """A command that has another folder used."""
    windows = facts.system == "Windows"
    if folder.use not in _VARIABLES:
        return r"mkdir D:\loras && cd /d D:\loras" if windows else "mkdir -p ~/loras && cd ~/loras"
    name = _VARIABLES[folder.use]
    if name == "TMPDIR" and windows:
        name = "TEMP"
    return variable(facts, name, r"D:\loratools" if windows else "/path/with/room")


def _memory(facts: Facts) -> Iterator[Finding]:
    total, free = facts.memory
    if 0 < total < _LITTLE_MEMORY:
        yield Finding(
            "note", f"{total / GIB:.0f} GiB of main memory: SD 1.5 is fine, SDXL may run out ({free / GIB:.1f} free)"
        )


def _hub(facts: Facts) -> Iterator[Finding]:
    """What keeps base models from being fetched by their ids."""
    if facts.hub_offline is not None:
        yield Finding(
            "note",
            f"{facts.hub_offline} is set: a base that is named by its id on the hub is found only if it was fetched "
            "before",
            without_variable(facts, facts.hub_offline),
        )
    if facts.proxy_lacks is not None:
        yield Finding(
            "wrong",
            f"the environment names a SOCKS proxy, and {facts.proxy_lacks} is missing: nothing can be fetched from the "
            "hub",
            f"python -m pip install {facts.proxy_lacks}",
        )


def _windows(facts: Facts) -> Iterator[Finding]:
    if facts.long_paths is False:
        yield Finding(
            "wrong",
            "Windows refuses paths of over 260 characters, which runs in deep folders have; the command needs a "
            "terminal as administrator",
            r"reg add HKLM\SYSTEM\CurrentControlSet\Control\FileSystem /v LongPathsEnabled /t REG_DWORD /d 1 /f",
        )
    if facts.encoding.replace("-", "").replace("_", "") not in ("utf8", "utf8sig"):
        what = f"text is printed as {facts.encoding}: names in other scripts may come out wrong"
        yield Finding("note", what, variable(facts, "PYTHONUTF8", "1"))


CHECKS: tuple[Check, ...] = (
    _python,
    torch_itself,
    nvidia,
    other_gpus,
    _packages,
    _places,
    _memory,
    _hub,
    _windows,
)
