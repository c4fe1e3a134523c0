"""Parts of the previews benchmark that draw as a search does: generations of vectors of one LoRA on a few pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.previews.bench import PROMPTS, TINY, Bench, Figure, Figures, random_lora
from benchmarks.previews.random_models import xl_base
from benchmarks.previews.shard import launch
from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.sampling.cuda_graph import UNetGraphs
from loratools.base.sampling.sample import AddedConditions, plain_unet
from loratools.blocks.scheme import full_scheme
from loratools.launch import Rank
from loratools.ops.merging.combine import combine
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack
from loratools.preview.plan.vector_stacks import vector_stacks
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, Pixels, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.train.distributed import join, leave

STEPS, CFG, SAMPLER = 12, 5.0, "DDIM"
VECTORS = 12  # a generation
TRIED = 4  # of them where ways are compared
SEEDS = (1, 2, 3)
_CALLS = 2 * STEPS  # of the UNet alone


@dataclass(frozen=True)
class Way:
    """How a population is drawn, and what that is called."""

    text: str
    options: EngineOptions


WAYS = (
    Way("each stack patched, batch 12", EngineOptions(batch=12, mixed=False)),
    Way("as it chooses, batch 8", EngineOptions()),
    Way("mixed stacks, batch 8", EngineOptions(batch=8, mixed=True)),
    Way("mixed stacks, batch 16", EngineOptions(batch=16, mixed=True)),
    Way("mixed stacks, batch 16, compiled", EngineOptions(batch=16, mixed=True, compiled=True)),
)
AS_IT_CHOOSES = WAYS[1]


def search(bench: Bench) -> Figures:
    """1,000 pictures of SD 1.5's size at 12 steps, as it chooses: 7 generations of 12 vectors x 4 prompts x 3 seeds."""
    yield from _generations(bench, bench.base, AS_IT_CHOOSES, 2 if bench.scale is TINY else 7, bar=90.0)


def search_xl(bench: Bench) -> Figures:
    """The same at SDXL's size and 1024 x 1024: 2 generations of 2 vectors."""
    base = xl_base(bench)
    yield from _generations(bench, base, Way("batch 4", EngineOptions(batch=4)), 2, vectors=2)


def search_ways(bench: Bench) -> Figures:
    """Two generations of SD 1.5's size in each way of drawing them, and the UNet's graph alone beside it."""
    few, base = replace(Population.of(bench, bench.base), vectors=TRIED), bench.base
    ways = WAYS[:2] if bench.scale is TINY else WAYS
    alone = {batch: graph_seconds(base, batch) for batch in sorted({way.options.batch for way in ways})}
    for batch, seconds in alone.items():
        yield Figure(f"{base.name}, {STEPS} steps: UNet graph alone, batch {batch}", seconds, "s/image")
    for way in ways:
        run = few.draw(base, way.options, generations=2)
        ratio = run.steady / alone[way.options.batch]
        note = f"{ratio:.2f} x the UNet graph; the first generation took {run.seconds[0]:.1f} s"
        yield Figure(f"{base.name}, {way.text}: second generation", run.steady, "s/image", note=note)
        bench.clear()


def _generations(
    bench: Bench, base: Base, way: Way, count: int, *, vectors: int = VECTORS, bar: float | None = None
) -> Figures:
    """The whole pattern in one way, and the UNet's graph alone beside it; a figure for each generation as it is done,
    so that a run which is cut off says how far it came."""
    population = Population.of(bench, base)
    population = replace(population, vectors=min(vectors, population.vectors))
    alone = graph_seconds(base, way.options.batch)
    yield Figure(f"{base.name}, {STEPS} steps: UNet graph alone, batch {way.options.batch}", alone, "s/image")
    run = Run()
    for run in population.drawn(base, way.options, count):
        yield Figure(f"{base.name}, {way.text}: {run.count} pictures, capture and all", sum(run.seconds))
    total = sum(run.seconds)
    yield Figure(
        f"{base.name}, {way.text}: all {run.count} pictures in {count} generations",
        total,
        bar=f"<= {bar:g} for 1,000" if bar else "",
        met=total <= bar * run.count / 1000 if bar else None,
        note=f"{total / run.count:.4f} s/image, of which the measure {run.measuring / run.count:.4f}",
    )
    ratio = run.steady / alone
    yield Figure(f"{base.name}, {way.text}: steady, against the UNet graph", ratio, "x", "<= 1.25", ratio <= 1.25)


@dataclass
class Run:
    """What drawing took: the seconds of each generation, how many pictures, and seconds spent in the measure."""

    seconds: list[float] = field(default_factory=list)
    count: int = 0
    measuring: float = 0.0

    @property
    def steady(self) -> float:
        """Seconds a picture after the first generation, in which graphs are captured."""
        later = self.seconds[1:] or self.seconds
        return sum(later) / len(later) / (self.count / len(self.seconds))


@dataclass(frozen=True)
class Population:
    """Vectors of one LoRA that change in every block, and the pictures that each is drawn for."""

    lora: Path
    jobs: tuple[PictureJob, ...]
    vectors: int = VECTORS

    @staticmethod
    def of(bench: Bench, base: Base) -> Population:
        """Of a random LoRA on ``base``, of the bench's rank; the pictures are of the base's size."""
        path = bench.work / f"{base.name}-search.safetensors"
        if not path.is_file():
            random_lora(base, path, bench.scale.rank, 1)
        small = bench.scale is TINY
        settings = SamplingSettings(2 if small else STEPS, CFG, SAMPLER, base.resolution)
        pictures = tuple(PictureJob(prompt, seed, settings) for prompt, seed in product(PROMPTS, SEEDS))
        return Population(path, pictures[:2] if small else pictures, 3 if small else VECTORS)

    def stacks(self, generation: int) -> list[Stack]:
        """A generation's stacks; the text encoder's weight stays, as a search usually has it."""
        adapter = read(self.lora)
        names = [name for name in full_scheme(adapter.family).names if name != "BASE"]
        random = np.random.default_rng(generation)
        rows = random.normal(0.9, 0.25, (self.vectors, len(names))).clip(0, 1.4)
        return vector_stacks(
            combine([Term(adapter, label="search")]), [dict(zip(names, row, strict=True)) for row in rows]
        )

    def draw(self, base: Base, options: EngineOptions, generations: int, rank: Rank | None = None) -> Run:
        """Draw generations and read each picture while the next ones are drawn."""
        return list(self.drawn(base, options, generations, rank))[-1]

    def drawn(self, base: Base, options: EngineOptions, generations: int, rank: Rank | None = None) -> Iterator[Run]:
        """The same; what it has taken so far after each generation."""
        run, means = Run(), []
        with PopulationRenderer(base, options, say=lambda text: print("   said:", text), rank=rank) as renderer:
            for generation in range(generations):
                start = time.perf_counter()
                for picture in renderer.draw(self.stacks(generation), self.jobs, ordered=False):
                    begun = time.perf_counter()
                    means.append(measure(picture.pixels))
                    run.measuring += time.perf_counter() - begun
                    run.count += 1
                run.seconds.append(time.perf_counter() - start)
                if not np.isfinite(means).all():
                    raise ValueError("a picture has no finite mean")
                yield run


def measure(pixels: Pixels) -> float:
    """A cheap measure of a picture (height, width, 3): the spread of its colours over tiles."""
    height, width = (side // 8 * 8 for side in pixels.shape[:2])
    tiles = pixels[:height, :width].reshape(8, height // 8, 8, width // 8, 3)
    return float(tiles.mean((1, 3), dtype=np.float32).std())


def graph_seconds(base: Base, batch: int) -> float:
    """Seconds an image of the UNet alone, for all steps under CFG: its graph replayed on CUDA."""
    device, dtype, rows = base.device, base.dtype, 2 * batch
    height, width = (side // base.vae_scale_factor for side in base.resolution)
    x = torch.randn(rows, 4, height, width, device=device, dtype=dtype)
    hidden = torch.randn(rows, 77, base.unet.config.cross_attention_dim, device=device, dtype=dtype)
    added: AddedConditions = None
    if base.family == "sdxl":
        pooled = torch.randn(rows, base.text_encoders[1].config.projection_dim, device=device, dtype=dtype)
        added = {"text_embeds": pooled, "time_ids": torch.ones(rows, 6, device=device, dtype=dtype)}
    on_cuda, t = device.type == "cuda", torch.tensor(500, device=device)
    run = UNetGraphs(plain_unet(base)) if on_cuda else plain_unet(base)
    with torch.no_grad():
        run(x, t, hidden, added)
        if on_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(_CALLS if on_cuda else 1):
            run(x, t, hidden, added)
        if on_cuda:
            torch.cuda.synchronize()
    return (time.perf_counter() - start) / (_CALLS if on_cuda else 1) * STEPS / batch


def search_cpu(bench: Bench) -> Figures:
    """The same pattern on the pocket base and a CPU: pictures a second by batch, and what fits a whole tune."""
    small = bench.scale is TINY
    base = load_base("pocket", device="cpu", dtype="fp32")
    population = Population.of(bench, base)
    batches = (2, 4) if small else (4, 8, 24)
    spent: dict[int, list[float]] = {batch: [] for batch in batches}
    for n, batch in product(range(1 if small else 3), batches):  # interleaved: other work on the machine hits all alike
        spent[batch].append(sum(_one(base, population, n, batch)) / len(population.jobs))
    for batch, each in spent.items():
        yield Figure(
            f"pocket, CPU, {torch.get_num_threads()} threads, a stack at batch {batch}",
            1 / median(each),
            "pictures/s",
            note=", ".join(f"{1 / seconds:.2f}" for seconds in each),
        )
    quickest = min(median(each) for each in spent.values())
    for text, minutes in (("a tune", 25), ("--quick", 8)):
        yield Figure(f"pocket, CPU: pictures that fit {minutes} minutes, {text}", 60 * minutes / quickest, "pictures")


def _one(base: Base, population: Population, generation: int, batch: int) -> Iterator[float]:
    """Seconds of drawing all jobs of one stack."""
    with PopulationRenderer(base, EngineOptions(batch=batch, mixed=False)) as renderer:
        start = time.perf_counter()
        for picture in renderer.draw(population.stacks(generation)[:1], population.jobs):
            measure(picture.pixels)
        yield time.perf_counter() - start


def search_shared(bench: Bench) -> Figures:
    """300 pictures of vectors of one LoRA by one process and by two, every picture in every process."""
    population = Population.of(bench, bench.base)  # its file is there before the processes are
    vectors = 2 if bench.scale is TINY else 25
    loaded, launched = {}, {}
    for world in (1, 2):
        out, start = bench.work / f"search-shared-{world}", time.time()
        launch(bench, out, world, "search")
        ends = [json.loads(path.read_text()) for path in sorted(out.glob("done-*.json"))]
        launched[world] = max(end["end"] for end in ends) - start
        loaded[world] = max(end["end"] for end in ends) - min(end["loaded"] for end in ends)
        yield Figure(
            f"{vectors * len(population.jobs)} pictures, {world} process{'es' if world > 1 else ''}",
            loaded[world],
            note=f"from a loaded base, capture and all; {launched[world]:.1f} s from the start",
        )
    ratio = loaded[1] / loaded[2]
    yield Figure("two processes against one, from a loaded base", ratio, "x", ">= 1.9", ratio >= 1.9)
    yield Figure("two processes against one, imports and the base's loading counted", launched[1] / launched[2], "x")


def work_search(bench: Bench, out: Path) -> None:
    """One process of a shared population."""
    ranks, _ = join("cpu" if bench.device.type == "cpu" else "auto")
    base = bench.base
    population = replace(Population.of(bench, base), vectors=2 if bench.scale is TINY else 25)
    ranks.wait()
    loaded = time.time()
    run = population.draw(base, WAYS[3].options, generations=1, rank=ranks)
    record = {"loaded": loaded, "end": time.time(), "count": run.count}
    leave(ranks)
    (out / f"done-{ranks.rank}.json").write_text(json.dumps(record))
