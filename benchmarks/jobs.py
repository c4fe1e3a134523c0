"""Cases of a benchmark in processes of their own, several at once, spread over the GPUs that there are.

What is done stays as one small file a case (see :class:`Results`), so that a call on a bare machine, with nothing but
those files, goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from loratools.errors import LoratoolsError
from loratools.files import write_text

_VISIBLE = "CUDA_VISIBLE_DEVICES"

RunCase = Callable[[str, Path, str], dict[str, Any]]
"""A case's name, its folder of work and its device -> its result as JSON values; importable, for other processes."""


@dataclass(frozen=True)
class Results:
    """Finished cases, each ``NAME.json`` in one of two folders.

    Attributes:
        tree: those of the checkout, of earlier calls.
        keep: where this call writes; other files of a case may lie beside its own.
    """

    tree: Path
    keep: Path

    def read(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Those of ``names`` that are finished, in that order."""
        done: dict[str, dict[str, Any]] = {}
        for name in names:
            path = self.file(name, ".json")
            if path is not None:
                done[name] = json.loads(path.read_text(encoding="utf-8"))
        return done

    def file(self, name: str, suffix: str) -> Path | None:
        """A case's file, the newest call's first; None where there is none."""
        paths = [folder / f"{name}{suffix}" for folder in (self.keep, self.tree)]
        return next((path for path in paths if path.is_file()), None)

    def write(self, name: str, result: Mapping[str, Any]) -> None:
        """Keep a finished case."""
        write_text(self.keep / f"{name}.json", json.dumps(result, indent=1) + "\n")


@dataclass(frozen=True)
class Limits:
    """How much is done at once, where, and until when; see :func:`add_options`."""

    jobs: int
    device: str
    minutes: float | None

    @property
    def seconds(self) -> float:
        """Until nothing more is begun."""
        return math.inf if self.minutes is None else 60 * self.minutes


def add_options(parser: argparse.ArgumentParser) -> None:
    """``--jobs``, ``--device`` and ``--minutes``."""
    parser.add_argument("--jobs", type=int, default=1, help="cases at once; on a GPU the pocket leaves room for many")
    parser.add_argument("--device", default="auto", help="auto and cuda take all GPUs that there are, in turn")
    parser.add_argument("--minutes", type=float, help="begin no case that may not be done by then")


def limits_of(args: argparse.Namespace) -> Limits:
    """What :func:`add_options` read."""
    return Limits(max(1, args.jobs), args.device, args.minutes)


def run_cases(names: Sequence[str], run: RunCase, work: Path, results: Results, limits: Limits) -> None:
    """Run the cases that are not finished, and keep each as it ends; those that fail are printed, and left.

    A case takes as long as the longest so far: with less time left none is begun, and the rest is for another call.
    """
    begun, longest = time.monotonic(), 0.0
    waiting = [name for name in names if results.file(name, ".json") is None]
    places = [_Place(number, limits) for number in range(min(limits.jobs, len(waiting)))]
    running: dict[Future[dict[str, Any]], tuple[str, _Place, float]] = {}
    try:
        while waiting or running:
            free = [place for place in places if all(place is not other for _, other, _ in running.values())]
            for place in free:
                if waiting and limits.seconds - (time.monotonic() - begun) > longest:
                    name = waiting.pop(0)
                    running[place.start(run, name, work / name)] = name, place, time.monotonic()
            if not running:
                print(f"{len(waiting)} cases are left for another call: {', '.join(waiting)}", flush=True)
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, place, started = running.pop(future)
                longest = max(longest, time.monotonic() - started)
                if _kept(future, name, place, results):
                    print(f"{name}: done after {time.monotonic() - started:.0f} s on {place.device}", flush=True)
    finally:
        for place in places:
            place.close()


def _kept(future: Future[dict[str, Any]], name: str, place: _Place, results: Results) -> bool:
    try:
        results.write(name, future.result())
    except LoratoolsError as error:
        print(f"{name}: failed: {error}", flush=True)
        return False
    except BrokenProcessPool:
        print(f"{name}: its process died", flush=True)
        place.restart()
        return False
    except Exception as error:  # a fault of this case's code or of the machine; what the other cases drew must not go
        print(f"{name}: failed: {''.join(traceback.format_exception(error))}", flush=True)
        return False
    return True


class _Place:
    """A process that runs one case after another, on a GPU of its own choice for its whole life."""

    def __init__(self, number: int, limits: Limits) -> None:
        gpus = _gpus(limits.device)
        self.gpu = gpus[number % len(gpus)] if gpus else None
        self.device = limits.device if self.gpu is None else f"GPU {self.gpu}"
        self._asked = limits.device if self.gpu is None else "cuda"
        self._threads = max(1, (os.cpu_count() or 1) // max(1, limits.jobs))
        self._pool = self._made()

    def start(self, run: RunCase, name: str, work: Path) -> Future[dict[str, Any]]:
        return self._pool.submit(run, name, work, self._asked)

    def restart(self) -> None:
        self.close()
        self._pool = self._made()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _made(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, get_context("spawn"), _settle, (self.gpu, self._threads))


def _settle(gpu: str | None, threads: int) -> None:
    """In a new process: let it see its own GPU alone, before CUDA starts, and use so many CPU threads, unless
    OMP_NUM_THREADS says how many."""
    if gpu is not None:
        os.environ[_VISIBLE] = gpu
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)


def _gpus(device: str) -> list[str]:
    """Numbers of the GPUs that ``auto`` and ``cuda`` stand for, as CUDA_VISIBLE_DEVICES names them; else none."""
    import torch

    if device not in ("auto", "cuda"):
        return []
    named = os.environ.get(_VISIBLE)
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
