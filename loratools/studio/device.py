"""Which device pictures and jobs run on, found without loading torch."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from loratools.studio.api.models import Device

_ASKED = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
_PATIENCE = 10  # seconds


@lru_cache(maxsize=4)
def device(asked: str) -> Device:
    """The device ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` of this machine."""
    kind, _, number = asked.partition(":")
    if kind in ("auto", "cuda"):
        gpus = _gpus()
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


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _memory() -> int | None:
    """Bytes of the machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None
