"""The progress bar of a run: loss, its moving average, speed, time left, and memory."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from loratools.progress import tqdm_bar

_SMOOTHING = 0.95


class Average:
    """An exponential moving average, the newest value with a weight of 0.05; ``value`` is NaN before the first."""

    def __init__(self, value: float = math.nan) -> None:
        self.value = value

    def add(self, new: float) -> float:
        """Add the value ``new``; returns the average after it."""
        self.value = new if math.isnan(self.value) else _SMOOTHING * self.value + (1 - _SMOOTHING) * new
        return self.value


class Progress:
    """One line on stderr; silent unless ``shown`` and stderr is a terminal. tqdm itself adds steps/s and the ETA."""

    def __init__(self, bar: Any, device: torch.device) -> None:
        self._bar, self._device = bar, device
        self._samples, self._seconds = Average(), Average()

    def step(self, title: str, loss: float, average: float, samples: int, seconds: float) -> None:
        """Show one more step, of ``samples`` images."""
        if self._bar.disable:
            return
        speed = self._samples.add(samples) / max(self._seconds.add(seconds), 1e-9)
        held = memory(self._device) / 2**30
        self._bar.set_description(title, refresh=False)
        self._bar.set_postfix_str(
            f"loss {loss:.4f}, average {average:.4f}, {speed:.1f} images/s, {held:.1f} GiB", refresh=False
        )
        self._bar.update(1)

    def doing(self, what: str) -> None:
        """Show what is done until the next step."""
        if not self._bar.disable:
            self._bar.set_description(what)


@contextlib.contextmanager
def progress_bar(shown: bool, device: torch.device, *, total: int, done: int) -> Iterator[Progress]:
    """A bar over ``total`` steps of which ``done`` are behind."""
    with bar(shown, total=total, initial=done, unit="step") as shown_bar:
        yield Progress(shown_bar, device)


def bar(shown: bool, *, total: int, unit: str, initial: int = 0, desc: str | None = None) -> Any:
    """A tqdm bar on stderr, if that is a terminal and ``shown``."""
    return tqdm_bar(shown=shown, dynamic_ncols=True, total=total, unit=unit, initial=initial, desc=desc)


def memory(device: torch.device) -> int:
    """Bytes: the most that the GPU has held, or what this process holds of the machine's memory; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (ImportError, OSError, ValueError, IndexError):
        return _peak()


def _peak() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
