"""From a moved slider to its picture: the quick picture while it is dragged, and the whole one when it rests.

A slider's move is one block of 17 to another value, as from the page: the stack is summed, the moved modules are
patched, and the picture is sampled, decoded and compressed. Random weights cost what trained ones do.
"""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.previews.bench import FULL, PROMPT, TINY, Figure, Figures, Scale, random_base, random_lora
from benchmarks.previews.random_models import random_xl_base
from benchmarks.studio.quantile import quantile
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.blocks.scheme import full_scheme
from loratools.preview.render.engine import Engine
from loratools.preview.session import Session
from loratools.studio.live.engine import Answer
from loratools.studio.live.frame import Frame
from loratools.studio.live.painter import Painter
from loratools.studio.live.painter_options import PainterOptions
from loratools.studio.live.renderer import Renderer
from loratools.studio.live.wish import PictureWish, Quality, SamplingWish, TermWish

_WARM = 4  # pictures before the clock is read: kernels are chosen and graphs captured
_CONTEXT = 500 << 20  # bytes of a card that CUDA itself takes, and torch does not count


@dataclass(frozen=True)
class Subject:
    """What is dragged: LoRAs on a base, and how many moves are timed."""

    name: str
    base: str
    loras: tuple[Path, ...]
    family: str
    steps: int
    moves: int

    def wish(self, quality: Quality, rng: random.Random, *, whole: bool = False) -> PictureWish:
        """A slider somewhere else: one block's, or the whole strength's."""
        names = full_scheme(self.family).names
        vector = dict.fromkeys(names, 1.0)
        if not whole:
            vector[rng.choice(names)] = rng.uniform(-1, 2)
        terms = tuple(TermWish(lora, rng.uniform(0.2, 1.2) if whole else 0.8, vector) for lora in self.loras)
        return PictureWish(terms, self.base, SamplingWish(PROMPT, seed=1, steps=self.steps), quality)


def sd15(work: Path, device: torch.device, *, tiny: bool) -> Figures:
    """SD 1.5 at 512 x 512, fp16, LoRAs of rank 32: a quick picture in <= 100 ms (half) and <= 160 ms (95 of 100), the
    whole one of 20 steps in <= 350 ms."""
    scale = TINY if tiny else FULL
    base = random_base(scale, device, _dtype(device))
    goals = (0.1, 0.16, 0.35) if not tiny else None
    yield from _subject(_prepared("SD 1.5, 512", base, work, scale, 60), base, goals)


def sdxl(work: Path, device: torch.device, *, tiny: bool) -> Figures:
    """SDXL at 1024 x 1024, fp16, with all of the GPU and with 12 GiB of it."""
    scale = TINY if tiny else FULL
    base = random_xl_base(scale, device, _dtype(device))
    subject = _prepared("SDXL, 1024", base, work, scale, 24)
    yield from _subject(subject, base, None)
    for model in (base.unet, base.vae, *base.text_encoders):
        model.to("cpu")
    with _cap(device, 12):
        capped = Subject("SDXL, 1024, 12 GiB", subject.base, subject.loras, subject.family, subject.steps, 12)
        yield from _subject(capped, base, None)


def pocket(work: Path, device: torch.device, *, tiny: bool) -> Figures:
    """The pocket base on a CPU through the renderer's process, as the page has it: a quick picture in <= 500 ms (half)
    and <= 1 s (95 of 100)."""
    base = load_base("pocket", device="cpu")
    lora = random_lora(base, work / "pocket.safetensors", 8, 1)
    subject = Subject("pocket, CPU", "pocket", (lora,), "sd1", 20, 4 if tiny else 60)
    renderer = Renderer(PainterOptions("cpu"))
    try:
        start = time.perf_counter()
        ask = _Asking(renderer)
        rng = random.Random(1)
        ask(subject.wish("drag", rng))
        yield Figure("pocket, CPU: the first picture, its process started and its base loaded", _since(start))
        yield from _timed(subject, ask, rng, (0.5, 1.0, None))
        yield from _hand(subject, renderer, rng, seconds=1.0 if tiny else 10.0)
    finally:
        renderer.close()
    yield from _processor(subject, rng)


def _processor(subject: Subject, rng: random.Random) -> Figures:
    """What pictures cost one core, however busy the machine is with other work."""
    painter, threads = Painter(PainterOptions("cpu"), lambda words: print(words.text)), torch.get_num_threads()
    draw = partial(painter.draw, on_step=lambda done, steps: None)
    torch.set_num_threads(1)
    try:
        for quality, name in (("drag", "quick"), ("rest", "whole")):
            wishes = [subject.wish("drag" if quality == "drag" else "rest", rng) for _ in range(_WARM + 8)]
            taken = _seconds(draw, wishes, clock=time.process_time)
            yield _bar(f"{subject.name}: a {name} picture in time of one core, half", quantile(taken, 0.5), None)
    finally:
        torch.set_num_threads(threads)
        painter.close()


def _subject(subject: Subject, base: Base, goals: tuple[float, float, float | None] | None) -> Figures:
    """A base that is in this process already, drawn by the renderer's painter in this process."""
    said: list[str] = []
    with mock.patch.object(Session, "load_unet", lambda self, name, request: base):
        painter = Painter(PainterOptions(), lambda words: said.append(words.text))
        draw = partial(painter.draw, on_step=lambda done, steps: None)
        rng = random.Random(1)
        try:
            yield from _timed(subject, draw, rng, goals)
            yield from _ways(subject, draw, rng)
        finally:
            painter.close()
    peak = torch.cuda.max_memory_reserved() / 2**30 if base.device.type == "cuda" else 0.0
    yield Figure(f"{subject.name}: memory reserved at most", peak, "GiB", note=" | ".join(said))


def _timed(
    subject: Subject,
    draw: Callable[[PictureWish], Frame],
    rng: random.Random,
    goals: tuple[float, float, float | None] | None,
) -> Figures:
    middle, most, whole = goals or (None, None, None)
    frames: list[Frame] = []
    taken = _seconds(draw, [subject.wish("drag", rng) for _ in range(subject.moves + _WARM)], frames)
    size = f"{frames[-1].width}x{frames[-1].height}, {statistics.mean(len(own.data) for own in frames) / 1000:.0f} kB"
    yield _bar(f"{subject.name}: a block is dragged, half of the pictures in", quantile(taken, 0.5), middle, size)
    yield _bar(f"{subject.name}: a block is dragged, 95 of 100 pictures in", quantile(taken, 0.95), most)
    taken = _seconds(draw, [subject.wish("drag", rng, whole=True) for _ in range(subject.moves // 2 + 1)])
    yield _bar(f"{subject.name}: the strength is dragged, half of the pictures in", quantile(taken, 0.5), middle)
    yield _bar(f"{subject.name}: the strength is dragged, 95 of 100 pictures in", quantile(taken, 0.95), most)
    taken = _seconds(draw, [subject.wish("rest", rng) for _ in range(subject.moves // 5 + 1 + _WARM)])
    yield _bar(f"{subject.name}: the whole picture, {subject.steps} steps, half in", quantile(taken, 0.5), whole)
    yield _bar(f"{subject.name}: the whole picture, {subject.steps} steps, 95 of 100 in", quantile(taken, 0.95), whole)


def _ways(subject: Subject, draw: Callable[[PictureWish], Frame], rng: random.Random) -> Figures:
    """The same where every picture patches all modules, as a grid's would: what holding a stack is worth."""
    pictures = Engine.pictures

    def restored(engine: Engine, jobs: Any, **given: Any) -> Any:
        return pictures(engine, jobs, **{**given, "hold": False})

    with mock.patch.object(Engine, "pictures", restored):
        taken = _seconds(draw, [subject.wish("drag", rng) for _ in range(subject.moves // 3 + 1 + _WARM)])
    yield _bar(f"{subject.name}: dragged with all modules patched each time, half in", quantile(taken, 0.5), None)


def _hand(subject: Subject, renderer: Renderer, rng: random.Random, seconds: float) -> Figures:
    """A hand that moves 60 times a second without rest: pictures a second, and how old the value of each is."""
    sent: dict[int, float] = {}
    ages: list[float] = []

    def came(stream: int, seq: int, answer: Answer) -> None:
        if isinstance(answer, Frame):
            ages.append(time.perf_counter() - sent[seq])

    page, start = renderer.connect(came), time.perf_counter()
    for seq in range(1, int(60 * seconds) + 1):
        sent[seq] = time.perf_counter()
        page.draw(2, seq, subject.wish("drag", rng))
        time.sleep(max(0.0, start + seq / 60 - time.perf_counter()))
    taken = _since(start)
    page.close()
    yield Figure(f"{subject.name}: pictures a second under a hand that never rests", len(ages) / taken, "/s")
    yield Figure(f"{subject.name}: how old the value is that they show, half", quantile(ages, 0.5) * 1e3, "ms")


class _Asking:
    """Asks an engine for one picture and waits for it."""

    def __init__(self, renderer: Renderer) -> None:
        self._page = renderer.connect(self._came)
        self._there, self._answer, self._seq = threading.Event(), list[Answer](), 0

    def __call__(self, wish: PictureWish) -> Frame:
        self._there.clear()
        self._seq += 1
        self._page.draw(2, self._seq, wish)
        if not self._there.wait(600) or not isinstance(self._answer[-1], Frame):
            raise RuntimeError(f"no picture came: {self._answer[-1:]}")
        return self._answer[-1]

    def _came(self, stream: int, seq: int, answer: Answer) -> None:
        if isinstance(answer, Frame) or answer.type == "failed":
            self._answer.append(answer)
            self._there.set()


def _prepared(name: str, base: Base, work: Path, scale: Scale, moves: int) -> Subject:
    lora = random_lora(base, work / f"{base.name}.safetensors", scale.rank, 1)
    steps = base.defaults.steps if scale is FULL else scale.steps
    return Subject(name, base.name, (lora,), base.family, steps, moves if scale is FULL else 3)


def _seconds(
    draw: Callable[[PictureWish], Frame],
    wishes: Sequence[PictureWish],
    frames: list[Frame] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """What each picture took; those at the beginning are not counted."""
    taken = []
    for wish in wishes:
        start = clock()
        frame = draw(wish)
        taken.append(clock() - start)
        if frames is not None:
            frames.append(frame)
    return taken[min(_WARM, len(taken) - 1) :]


def _bar(name: str, seconds: float, goal: float | None, note: str = "") -> Figure:
    bar = "" if goal is None else f"<= {goal * 1e3:.0f} ms"
    return Figure(name, seconds * 1e3, "ms", bar, None if goal is None else seconds <= goal, note)


def _since(start: float) -> float:
    return time.perf_counter() - start


def _dtype(device: torch.device) -> torch.dtype:
    return torch.float16 if device.type == "cuda" else torch.float32


@contextlib.contextmanager
def _cap(device: torch.device, gib: int) -> Iterator[None]:
    """At most ``gib`` GiB of the GPU, less what CUDA itself takes."""
    if device.type != "cuda":
        yield
        return
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(((gib << 30) - _CONTEXT) / total, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
