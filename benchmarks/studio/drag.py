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
from dataclasses import dataclass, replace
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
from loratools.base.patching.patch import Patcher
from loratools.blocks.scheme import full_scheme
from loratools.preview.render.batch_denoiser import BatchDenoiser
from loratools.preview.render.decoder import Decoder
from loratools.preview.render.engine import Engine
from loratools.preview.render.prompt_cache import PromptCache
from loratools.preview.session import Session
from loratools.studio.live.engine import Answer
from loratools.studio.live.frame import Frame
from loratools.studio.live.painter import Painter
from loratools.studio.live.painter_options import PainterOptions
from loratools.studio.live.renderer import Renderer
from loratools.studio.live.stack import OpenFiles
from loratools.studio.live.wish import PictureWish, Quality, SamplingWish, TermWish

_WARM = 4  # pictures before the clock is read: kernels are chosen and graphs captured
_CONTEXT = 500 << 20  # bytes of a card that CUDA itself takes, and torch does not count


Goals = tuple[float, float, float | None]  # seconds: half and 95 of 100 of quick pictures, and whole ones


def _nothing() -> None:
    """For ways that do nothing between pictures, or do it by themselves."""


@dataclass(frozen=True)
class Way:
    """How a wish is drawn, and what is done before the next one, while nobody waits."""

    draw: Callable[[PictureWish], Frame]
    between: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Subject:
    """What is dragged: LoRAs on a base, and how many moves are timed."""

    name: str
    base: str
    loras: tuple[Path, ...]
    family: str
    steps: int
    moves: int
    warm: int = _WARM

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
    subject = _prepared("SDXL, 1024", base, work, scale, 16)
    yield from _subject(subject, base, None)
    for model in (base.unet, base.vae, *base.text_encoders):
        model.to("cpu")
    with _cap(device, 12):
        capped = replace(subject, name="SDXL, 1024, 12 GiB", moves=6, warm=2)
        yield from _subject(capped, base, None, ways=False)


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
        yield from _timed(subject, Way(ask), rng, (0.5, 1.0, None))
        yield from _hand(subject, renderer, rng, seconds=1.0 if tiny else 10.0)
    finally:
        renderer.close()
    yield from _processor(subject, rng)


def _processor(subject: Subject, rng: random.Random) -> Figures:
    """What pictures cost one core, however busy the machine is with other work."""
    painter, threads = Painter(PainterOptions("cpu"), lambda words: print(words.text)), torch.get_num_threads()
    way = Way(partial(painter.draw, on_step=lambda done, steps: None), painter.between)
    torch.set_num_threads(1)
    try:
        for quality, name in (("drag", "quick"), ("rest", "whole")):
            wishes = [subject.wish("drag" if quality == "drag" else "rest", rng) for _ in range(_WARM + 8)]
            taken = _seconds(way, wishes, subject.warm, clock=time.process_time)
            yield _bar(f"{subject.name}: a {name} picture in time of one core, half", quantile(taken, 0.5), None)
    finally:
        torch.set_num_threads(threads)
        painter.close()


def _subject(subject: Subject, base: Base, goals: Goals | None, *, ways: bool = True) -> Figures:
    """A base that is in this process already, drawn by the renderer's painter in this process.

    Args:
        ways: whether other ways to draw, and the parts of a picture's time, are measured too.
    """
    said: list[str] = []
    with mock.patch.object(Session, "load_unet", lambda self, name, request: base):
        painter = Painter(PainterOptions(), lambda words: said.append(words.text))
        way = Way(partial(painter.draw, on_step=lambda done, steps: None), painter.between)
        rng = random.Random(1)
        try:
            yield from _timed(subject, way, rng, goals)
            if ways:
                yield from _ways(subject, way, rng)
                yield from _parts(subject, way, rng, base.device)
        finally:
            painter.close()
    peak = torch.cuda.max_memory_reserved() / 2**30 if base.device.type == "cuda" else 0.0
    yield Figure(f"{subject.name}: memory reserved at most", peak, "GiB", note=" | ".join(said))


def _timed(subject: Subject, way: Way, rng: random.Random, goals: Goals | None) -> Figures:
    middle, most, whole = goals or (None, None, None)
    frames: list[Frame] = []

    def taken(quality: Quality, moves: int, *, strength: bool = False) -> list[float]:
        wishes = [subject.wish(quality, rng, whole=strength) for _ in range(moves + subject.warm)]
        return _seconds(way, wishes, subject.warm, frames)

    def rows(name: str, seconds: list[float], half: float | None, nearly: float | None) -> Figures:
        last = frames[-1]
        size = f"{last.width}x{last.height}, {statistics.mean(len(own.data) for own in frames) / 1000:.0f} kB"
        yield _bar(f"{subject.name}: {name}, half in", quantile(seconds, 0.5), half, size)
        yield _bar(f"{subject.name}: {name}, 95 of 100 in", quantile(seconds, 0.95), nearly, f"of {len(seconds)}")
        frames.clear()

    yield from rows("a block is dragged", taken("drag", subject.moves), middle, most)
    yield from rows("the strength is dragged", taken("drag", subject.moves // 2, strength=True), middle, most)
    steps = f"the whole picture, {subject.steps} steps"
    few = subject.moves // 4
    yield from rows(steps, taken("rest", few), whole, whole)
    yield from rows(f"{steps}, after the strength was moved", taken("rest", few, strength=True), whole, whole)


def _ways(subject: Subject, way: Way, rng: random.Random) -> Figures:
    """The same where every picture patches all modules, as a grid's would: what holding a stack is worth."""
    pictures = Engine.pictures

    def restored(engine: Engine, jobs: Any, **given: Any) -> Any:
        return pictures(engine, jobs, **{**given, "hold": False})

    with mock.patch.object(Engine, "pictures", restored):
        wishes = [subject.wish("drag", rng) for _ in range(subject.moves // 4 + subject.warm)]
        taken = _seconds(way, wishes, subject.warm)
    yield _bar(f"{subject.name}: dragged with all modules patched each time, half in", quantile(taken, 0.5), None)


def _parts(subject: Subject, way: Way, rng: random.Random, device: torch.device) -> Figures:
    """Where the time of a strength's picture goes, each part alone: the device is waited for before and after it."""
    with contextlib.ExitStack() as watched:
        taken = {
            name: watched.enter_context(_watched(owner, method, device))
            for name, owner, method in (
                ("the stack is summed", OpenFiles, "stack"),
                ("weights are patched", Patcher, "patch"),
                ("prompts are encoded", PromptCache, "read"),
                ("the UNet's steps", BatchDenoiser, "_denoise"),
                ("decoding", Decoder, "_decode"),
            )
        }
        for quality, name in (("drag", "quick"), ("rest", "whole")):
            wishes = [
                subject.wish("drag" if quality == "drag" else "rest", rng, whole=True) for _ in range(subject.warm + 6)
            ]
            all_in = _seconds(way, wishes, subject.warm)
            parts = {part: statistics.median(seconds[subject.warm :]) for part, seconds in taken.items()}
            parts["everything else"] = max(0.0, statistics.median(all_in) - sum(parts.values()))
            for part, seconds in parts.items():
                yield _bar(f"{subject.name}: of a {name} picture after the strength moved: {part}", seconds, None)
            for own in taken.values():
                own.clear()


@contextlib.contextmanager
def _watched(owner: type, method: str, device: torch.device) -> Iterator[list[float]]:
    """The seconds that each call of ``method`` takes inside the block."""
    own, taken = getattr(owner, method), list[float]()

    def watched(*given: Any, **named: Any) -> Any:
        _sync(device)
        start = time.perf_counter()
        result = own(*given, **named)
        _sync(device)
        taken.append(_since(start))
        return result

    with mock.patch.object(owner, method, watched):
        yield taken


def _sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
    way: Way,
    wishes: Sequence[PictureWish],
    warm: int,
    frames: list[Frame] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """What each picture took; the first ``warm`` are not counted."""
    taken = []
    for wish in wishes:
        start = clock()
        frame = way.draw(wish)
        taken.append(clock() - start)
        way.between()
        if frames is not None:
            frames.append(frame)
    return taken[min(warm, len(taken) - 1) :]


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
