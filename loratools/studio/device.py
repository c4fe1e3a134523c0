"""Which device pictures and jobs run on, found without loading torch."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from loratools.studio.api.models import Device

_ASKED = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_PATIENCE = 10  # seconds
_CARDS = Path("/sys/class/drm")


@lru_cache(maxsize=4)
def device(asked: str) -> Device:
    """The device ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` of this machine."""
    kind, _, number = asked.partition(":")
    if kind in ("auto", "cuda"):
        gpus = _gpus() or _amds_gpus()
        place = int(number) if number.isdigit() else 0
        if place < len(gpus):
            name, memory = gpus[place]
            return Device(kind="cuda", name=name, memory=memory)
        if kind == "cuda":
            return Device(kind="cuda", name=asked, memory=None)
    if kind == "mps" or (kind == "auto" and platform.system() == "Darwin" and platform.machine() == "arm64"):
        return Device(kind="mps", name=platform.processor() or "Apple GPU", memory=_memory())
    return Device(kind="cpu", name=_processor(), memory=_memory())


def _gpus() -> list[tuple[str, int]]:
    """Names and bytes of NVIDIA's GPUs; none without its tool."""
    if shutil.which(_ASKED[0]) is None:
        return []
    try:
        done = subprocess.run(_ASKED, capture_output=True, encoding="utf-8", timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        name, _, memory = line.rpartition(",")
        if memory.strip().isdigit():
            found.append((name.strip(), int(memory) * 2**20))
    return found


def _amds_gpus(cards: Path = _CARDS) -> list[tuple[str, int]]:
    """Names and bytes of AMD's GPUs, as Linux' driver tells them; none where torch was not built for them."""
    with contextlib.suppress(PackageNotFoundError):
        if "rocm" in version("torch"):
            memories = sorted(cards.glob("card*/device/mem_info_vram_total"))
            return [(f"AMD GPU {place}", int(own.read_text(encoding="ascii"))) for place, own in enumerate(memories)]
    return []


def _processor() -> str:
    """Its name and how many cores it has, without a word that a translation would need: ``AMD EPYC × 2``."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name} × {os.cpu_count()}"


def _memory() -> int | None:
    """Bytes of the machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
