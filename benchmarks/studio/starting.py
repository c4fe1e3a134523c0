"""How soon the server answers, and what it takes while nobody asks anything."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx
import torch

from benchmarks.checkout import ROOT, own_environment
from benchmarks.previews.bench import Figure, Figures

_LORAS = 300
_IDLE = 20.0  # seconds
_TICKS = 100  # of the clock of /proc, in a second


@dataclass(frozen=True)
class Used:
    """What a process has used: seconds of a processor, and MB that it holds."""

    seconds: float
    megabytes: float

    @staticmethod
    def of(process: int) -> Used:
        """So far, by /proc."""
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
        return Used((int(fields[11]) + int(fields[12])) / _TICKS, pages * resource.getpagesize() / 1e6)


def starts(work: Path, device: torch.device, *, tiny: bool) -> Figures:
    """The server over a folder of 300 LoRA files: it answers in less than a second and idles in less than 150 MB; the
    seconds of a processor say what an idle machine would take."""
    _make_loras(work, 20 if tiny else _LORAS)
    for name in ("never opened before", "opened before"):
        yield from _start(work, name, 2.0 if tiny else _IDLE)


def _start(work: Path, name: str, idle: float) -> Figures:
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "loratools", "studio", str(work), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=own_environment(),
        cwd=ROOT,
    )
    try:
        address, _, token = str(process.stdout.readline() if process.stdout else "").strip().partition("/#")
        while not _answers(address):
            time.sleep(0.01)
        took, used = time.perf_counter() - begun, Used.of(process.pid)
        yield Figure(f"{name}: until it answers", took)
        yield Figure(f"{name}: processor time until then", used.seconds, "s", "< 1", used.seconds < 1)
        with httpx.Client(base_url=address, headers={"origin": address}, timeout=60) as client:
            client.post("/api/session", json={"token": token}).raise_for_status()
            while len(client.get("/api/loras").json()) < len(list(work.glob("*.safetensors"))):
                time.sleep(0.1)
            yield Figure(f"{name}: until all files are listed", time.perf_counter() - begun)
            begun_idle, before = time.perf_counter(), Used.of(process.pid)
            time.sleep(idle)
            after = Used.of(process.pid)
        share = 100 * (after.seconds - before.seconds) / (time.perf_counter() - begun_idle)
        yield Figure(f"{name}: idle, of one core", share, "%")
        yield Figure(f"{name}: idle, memory", after.megabytes, "MB", "< 150", after.megabytes < 150)
    finally:
        process.kill()
        process.wait()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz").text == "ok"
    except httpx.TransportError:
        return False


def _make_loras(folder: Path, count: int) -> None:
    from tests.loras import lora_tensors, save

    first = save(folder / "lora-0.safetensors", lora_tensors(rank=2))
    for number in range(1, count):
        shutil.copyfile(first, folder / f"lora-{number}.safetensors")
