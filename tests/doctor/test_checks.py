"""Machines set wrong on purpose: each is named, with the command that mends it; a right one is left alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loratools.doctor import torch_wheels
from loratools.doctor.checks import findings
from loratools.doctor.facts import Facts, Folder, Lack, NvidiaCard, TorchBuild
from loratools.doctor.finding import Finding
from loratools.doctor.report import lines
from loratools.doctor.torch_wheels import wheels_for

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
CARD = NvidiaCard("NVIDIA GeForce RTX 4070", (581, 29), 12 * GIB, GIB // 2, (8, 9))
TORCH = TorchBuild(
    "2.13.0+cu130", cuda="13.0", devices=(CARD.name,), architectures=("sm_75", "sm_86", "sm_89", "sm_120"), triton=True
)
RIGHT = Facts(
    system="Windows",
    processor="AMD64",
    python=(3, 12, 7),
    loratools="0.1.0",
    torch=TORCH,
    cards=frozenset({"nvidia"}),
    nvidia=(CARD,),
    lacks={"": (), "studio": (), "optim": ()},
    folders=(Folder("this folder", "D:\\lora", 100 * GIB), Folder("the cache", "C:\\cache", 80 * GIB)),
    memory=(32 * GIB, 20 * GIB),
    long_paths=True,
)
CPU_BUILD = TorchBuild("2.13.0+cpu")
LINUX = replace(RIGHT, system="Linux", processor="x86_64", long_paths=None)
INDEX = "--index-url https://download.pytorch.org/whl/"

WRONG: dict[str, tuple[Facts, str, str]] = {
    "a CPU build beside an NVIDIA card": (
        replace(RIGHT, torch=CPU_BUILD),
        "built for CPUs, so that NVIDIA GeForce RTX 4070 is not used",
        f"{INDEX}cu130",
    ),
    "the same under an older driver": (
        replace(RIGHT, torch=CPU_BUILD, nvidia=(replace(CARD, driver=(560, 94)),)),
        "is not used",
        f"{INDEX}cu126",
    ),
    "the same with a Pascal card": (
        replace(RIGHT, torch=CPU_BUILD, nvidia=(replace(CARD, name="GTX 1080", capability=(6, 1)),)),
        "GTX 1080 is not used",
        f"{INDEX}cu126",
    ),
    "a driver that is too old for torch": (
        replace(RIGHT, nvidia=(replace(CARD, driver=(551, 86)),), torch=replace(TORCH, devices=())),
        "driver 551.86 is too old for torch 2.13.0+cu130, which was built for CUDA 13.0 and needs 580",
        f"{INDEX}cu126",
    ),
    "a driver that is too old for any torch": (
        replace(RIGHT, nvidia=(replace(CARD, driver=(472, 12)),), torch=replace(TORCH, devices=())),
        "driver 472.12 is too old",
        "winget install Nvidia",
    ),
    "an NVIDIA card without a driver": (
        replace(LINUX, nvidia=(), torch=replace(TORCH, devices=())),
        "no working driver",
        "ubuntu-drivers install",
    ),
    "a new card that torch has no kernels for": (
        replace(
            RIGHT,
            nvidia=(replace(CARD, name="RTX 5090", capability=(12, 0), driver=(576, 2)),),
            torch=replace(TORCH, version="2.9.1+cu126", cuda="12.6", architectures=("sm_80", "sm_86", "sm_90")),
        ),
        "no kernels for RTX 5090 (sm_120)",
        f"{INDEX}cu128",
    ),
    "a card that the environment hides": (
        replace(RIGHT, torch=replace(TORCH, devices=())),
        "CUDA_VISIBLE_DEVICES",
        "set CUDA_VISIBLE_DEVICES=",
    ),
    "an AMD card with the usual build": (
        replace(LINUX, cards=frozenset({"amd"}), nvidia=(), torch=TorchBuild("2.13.0+cu130", cuda="13.0")),
        "not built for AMD's GPUs",
        f"{INDEX}rocm",
    ),
    "an Intel Python on Apple silicon": (
        replace(
            RIGHT,
            system="Darwin",
            translated=True,
            nvidia=(),
            cards=frozenset(),
            torch=TorchBuild("2.2.2"),
            long_paths=None,
        ),
        "made for Intel",
        "brew install python@3.13",
    ),
    "no torch": (replace(RIGHT, torch=TorchBuild()), "torch is not installed", f"{INDEX}cu130"),
    "torch without Microsoft's libraries": (
        replace(RIGHT, torch=TorchBuild("2.13.0", error="OSError: [WinError 126] Error loading c10.dll")),
        "C++ libraries",
        "winget install Microsoft.VCRedist.2015+.x64",
    ),
    "torch without memory to be loaded into": (
        replace(RIGHT, torch=TorchBuild("2.13.0", error="OSError: [WinError 1455] paging file is too small: c10.dll")),
        "let Windows choose the paging file's size",
        "SystemPropertiesPerformance",
    ),
    "a torch that is too old": (
        replace(RIGHT, lacks={"": (Lack("torch>=2.6", "2.4.1"),)}, torch=replace(TORCH, version="2.4.1+cu124")),
        "torch 2.4.1+cu124 does not fit; loratools needs torch>=2.6",
        f"{INDEX}cu130",
    ),
    "a NumPy that torch was not built for": (
        replace(RIGHT, torch=replace(TORCH, numpy_error="RuntimeError: Numpy is not available")),
        "torch and NumPy do not fit one another (RuntimeError: Numpy is not available)",
        'pip install --force-reinstall "numpy>=2"',
    ),
    "a newer card beside the one that torch has kernels for": (
        replace(
            RIGHT,
            nvidia=(CARD, replace(CARD, name="RTX 5090", capability=(12, 0))),
            torch=replace(TORCH, cuda="12.6", architectures=("sm_80", "sm_86", "sm_90")),
        ),
        "no kernels for RTX 5090 (sm_120)",
        f"{INDEX}cu130",
    ),
    "an AMD card that this user may not open": (
        replace(LINUX, cards=frozenset({"amd"}), nvidia=(), torch=TorchBuild("2.13.0+rocm6.4", hip="6.4")),
        "is built for ROCm 6.4 and sees no GPU",
        "sudo usermod -aG render,video $USER",
    ),
    "a SOCKS proxy without what it needs": (
        replace(RIGHT, proxy_lacks="socksio"),
        "a SOCKS proxy, and socksio is missing",
        "python -m pip install socksio",
    ),
    "a full disk": (
        replace(RIGHT, folders=(Folder("models of the hub", "C:\\hub", GIB // 5),)),
        "the disk is full: 0.2 GiB are free for models of the hub",
        "setx HF_HOME D:\\loratools",
    ),
    "a folder of others": (
        replace(LINUX, folders=(Folder("this folder", "/", 90 * GIB, "Permission denied"),)),
        "nothing can be written to this folder",
        "mkdir -p ~/loras && cd ~/loras",
    ),
    "a torchvision of another torch": (
        replace(RIGHT, torchvision_wants="2.9.1"),
        "torchvision was built for torch 2.9.1",
        "pip uninstall -y torchvision",
    ),
    "an old Python": (replace(RIGHT, python=(3, 10, 11)), "this is Python 3.10.11", "winget install Python.Python.3"),
    "a Python that is too new": (replace(LINUX, python=(3, 14, 0)), "made for 3.11 to 3.13", "uv python install 3.13"),
    "a 32-bit Python": (replace(RIGHT, bits=32), "32-bit", "winget install Python"),
    "a package of the wrong version": (
        replace(RIGHT, lacks={"": (Lack("diffusers>=0.36", "0.30.0"),)}),
        "diffusers>=0.36 (0.30.0)",
        'pip install "diffusers>=0.36"',
    ),
    "an extra of a wrong version": (
        replace(RIGHT, lacks={"studio": (Lack("starlette>=1.0", "0.41"),)}),
        "[studio] do not fit",
        '"starlette>=1.0"',
    ),
    "a folder that cannot be written to": (
        replace(RIGHT, folders=(Folder("the cache", "C:\\x", 0, "Permission denied"),)),
        "nothing can be written to the cache (C:\\x): Permission denied",
        "setx LORATOOLS_CACHE",
    ),
    "Windows' short paths": (replace(RIGHT, long_paths=False), "over 260 characters", "LongPathsEnabled"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_what_mends_it(name: str) -> None:
    facts, what, command = WRONG[name]
    found = [own for own in findings(facts) if own.level == "wrong"]
    assert [what in own.what and command in (own.command or "") for own in found] == [True], found
    printed = "\n".join(lines(facts, findings(facts)))
    assert found[0].command in printed and "1 thing to mend" in printed  # type: ignore[operator]
    assert facts.as_json()["python"] == facts.python


@pytest.mark.parametrize("facts", [RIGHT, LINUX, replace(LINUX, nvidia=(), cards=frozenset(), torch=CPU_BUILD)])
def test_nothing_is_said_of_a_machine_that_is_right(facts: Facts) -> None:
    assert findings(facts) == []
    assert list(lines(facts, []))[-1] == "nothing is wrong here"


NOTES: dict[str, tuple[Facts, str]] = {
    "an older card beside one that works": (
        replace(RIGHT, nvidia=(CARD, replace(CARD, name="GTX 1060", capability=(6, 1)))),
        "no kernels for GTX 1060 (sm_61): the newer card is used alone",
    ),
    "a hub that is not asked": (replace(RIGHT, hub_offline="HF_HUB_OFFLINE"), "HF_HUB_OFFLINE is set"),
    "a folder that a program copies away": (
        replace(RIGHT, folders=(Folder("this folder", "C:\\Users\\x\\OneDrive\\lora", 90 * GIB),)),
        "is synchronised with a server",
    ),
    "little disk": (replace(RIGHT, folders=(Folder("this folder", "D:\\x", 2 * GIB),)), "2.0 GiB are free"),
    "little memory": (replace(RIGHT, memory=(6 * GIB, GIB)), "6 GiB of main memory"),
    "a small card": (replace(RIGHT, nvidia=(replace(CARD, memory=4 * GIB),)), "SD 1.5 fits"),
    "a crowded card": (replace(RIGHT, nvidia=(replace(CARD, used=9 * GIB),)), "hold 9.0 GiB"),
    "an extra that is not there": (
        replace(RIGHT, lacks={"studio": (Lack("starlette>=1.0", None),)}),
        "[studio] adds `loratools studio`",
    ),
    "no Triton": (replace(RIGHT, torch=replace(TORCH, triton=False)), "Triton"),
    "AMD on Windows": (replace(RIGHT, nvidia=(), cards=frozenset({"amd"}), torch=CPU_BUILD), "for Linux alone"),
    "the system's Python": (replace(RIGHT, isolated=False), "virtual environment"),
    "a console of another code page": (replace(RIGHT, encoding="cp936"), "cp936"),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_is_no_fault_is_a_note(name: str) -> None:
    facts, what = NOTES[name]
    (found,) = findings(facts)
    assert found.level == "note" and what in found.what


def test_a_mac_that_torch_left_behind_has_no_command() -> None:
    """An Intel Mac: nothing that could be typed brings a torch that fits."""
    mac = replace(LINUX, system="Darwin", nvidia=(), cards=frozenset(), torch=TorchBuild("2.2.2"))
    (found,) = findings(mac)
    assert found.level == "wrong" and found.command is None and "Intel" in found.what
    assert findings(replace(mac, processor="arm64", torch=TorchBuild("2.13.0", mps=True))) == []


def test_an_extra_is_installed_by_its_packages_names() -> None:
    """There may be no checkout at hand, and the package may come from elsewhere than an index."""
    lacking = {"studio": (Lack("starlette>=1.0", None), Lack("uvicorn>=0.40", None)), "release": (Lack("x", None),)}
    facts = replace(RIGHT, lacks=lacking)
    assert [own.command for own in findings(facts)] == ['python -m pip install "starlette>=1.0" "uvicorn>=0.40"']


def test_faults_come_first() -> None:
    facts = replace(RIGHT, isolated=False, long_paths=False)
    assert [own.level for own in findings(facts)] == ["wrong", "note"]


def test_a_finding_as_json() -> None:
    made: Callable[..., Finding] = Finding
    assert made("note", "x").as_json() == {"level": "note", "what": "x", "command": None}


def test_the_page_about_installing_names_the_same_builds() -> None:
    """What ``doctor`` would have installed, and the start scripts install by it, stands in docs/installing.md."""
    page = (ROOT / "docs/installing.md").read_text(encoding="utf-8")
    machines = [
        RIGHT,
        replace(RIGHT, nvidia=(replace(CARD, driver=(560,)),)),
        replace(RIGHT, nvidia=(replace(CARD, driver=(576,), capability=(12, 0)),)),
        replace(LINUX, nvidia=(), cards=frozenset({"amd"})),
        replace(RIGHT, nvidia=(), cards=frozenset()),
    ]
    indexes = [wheels_for(facts) for facts in machines]
    assert indexes == ["cu130", "cu126", "cu128", "rocm6.4", "cpu"]
    assert all(f"{torch_wheels.INDEX}/{index}`" in page for index in indexes)
    for name in ("start-studio.bat", "start-studio.sh"):
        script = (ROOT / name).read_text(encoding="utf-8")
        assert "-m loratools.doctor" in script and f"--index-url {torch_wheels.INDEX}/" in script.replace('"', "")
