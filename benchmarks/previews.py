"""Previews against their bars; run as ``python -m benchmarks.previews``.

On a GPU: a random model of SD 1.5's full size, random LoRAs of rank 32, 512x512, 20 steps of DPM++ 2M, CFG 7, fp16.
Random weights cost what trained ones do. ``--parts`` chooses parts (``--list`` names them), figures are kept as JSON in
``--keep`` as they come, and ``--report`` writes ``benchmarks/results/previews.md`` from all that is kept. ``--tiny``
runs every part on a CPU with tiny models, to see that it runs. ``--parts cpu`` measures the pocket base on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from loratools.adapter.file import read
from loratools.adapter.lowrank import LowRank
from loratools.adapter.names import lora_targets
from loratools.adapter.save import write
from loratools.base.branches import Branches
from loratools.base.graph import captured
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.patch import live_modules
from loratools.base.quiet import quiet
from loratools.base.sample import compiled_unet, plain_unet
from loratools.base.samplers import find_sampler
from loratools.base.text_model import load_tokenizer
from loratools.blocks.presets import load_presets
from loratools.blocks.vector import parse_vector
from loratools.ops.merge import merge_files
from loratools.ops.terms import Term
from loratools.pocket import weights_folder
from loratools.pocket.architecture import Widths, scheduler_config, text_config, unet_config, vae_config
from loratools.preview.engine import Engine, Job, Options, Stack, marks_of
from loratools.preview.memory import need
from loratools.preview.render import GridResult, render_grid
from loratools.preview.rows import Row
from loratools.preview.shard import Rank, Shard
from loratools.preview.store import Store, Wanted

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/previews.md"
PROMPT = "1girl, cowboy_shot, blue_hair, twintails, green_eyes, white_clothes, sailor_collar, waving, smile, grass"
PROMPTS = (
    PROMPT,
    "1girl, full_body, red_hair, long_hair, blue_eyes, black_clothes, dress, arms_up, open_mouth, sunset",
    "1girl, full_body, brown_hair, ponytail, brown_eyes, blue_clothes, hoodie, spread_arms, smile, indoors",
    "1girl, cowboy_shot, black_hair, short_hair, red_eyes, red_clothes, t-shirt, peace_sign, wink, simple_background",
)
SAMPLER, CFG = "DPM++ 2M", 7.0
SD15 = Widths(
    unet=(320, 640, 1280, 1280),
    heads=8,
    vae=(128, 256, 512, 512),
    vae_groups=32,
    text=768,
    text_layers=12,
    resolution=512,
)
SMALL = Widths(
    unet=(16, 16, 32, 32),
    unet_groups=8,
    heads=2,
    vae=(8, 8, 16, 16),
    vae_groups=4,
    text=16,
    text_layers=2,
    resolution=64,
)


@dataclass(frozen=True)
class Scale:
    """How large everything is: the model, its vocabulary, LoRA rank, epochs, weights, steps, and repetitions."""

    widths: Widths
    vocabulary: int
    rank: int
    epochs: int
    weights: tuple[float, ...]
    steps: int
    theirs: int  # epochs that diffusers renders; its time for a cell does not depend on which
    four: int  # epochs of the grid with four prompts
    shard: int  # epochs of the sharded grid
    repeats: int


FULL = Scale(SD15, 49408, 32, 10, tuple(n / 10 for n in range(11)), 20, 2, 2, 4, 8)
TINY = Scale(SMALL, 2000, 2, 2, (0.0, 0.5, 1.0), 2, 1, 1, 2, 2)


@dataclass(frozen=True)
class Figure:
    """One line of the report: what was measured, in what unit, and the bar that it should meet."""

    name: str
    value: float
    unit: str = "s"
    bar: str = ""
    met: bool | None = None
    note: str = ""

    def text(self) -> str:
        verdict = "" if self.met is None else ("  [met]" if self.met else "  [MISSED]")
        bar = f"   bar: {self.bar}" if self.bar else ""
        return f"{self.name:<68} {self.value:10.4g} {self.unit}{bar}{verdict}{'   ' + self.note if self.note else ''}"


Figures = Iterator[Figure]
Moment = tuple[float, int]  # seconds, and pictures that had come to rest by then


class Bench:
    """What the parts share: the model, LoRA files, and seconds that earlier parts measured."""

    def __init__(self, scale: Scale, device: torch.device, work: Path) -> None:
        self.scale, self.device, self.work = scale, device, work
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.seconds: dict[str, float] = {}

    @cached_property
    def base(self) -> Base:
        return random_base(self.scale, self.device, self.dtype)

    @cached_property
    def files(self) -> list[Path]:
        """The epochs' LoRA files, of kohya's layout, in fp16."""
        return [
            random_lora(self.base, self.work / f"style-{n:06d}.safetensors", self.scale.rank, n)
            for n in range(1, self.scale.epochs + 1)
        ]

    def rows(self, count: int) -> list[Row]:
        return [Row.of_file(read(path)) for path in self.files[:count]]

    def grid(self, rows: Sequence[Row], prompts: Sequence[str], name: str,
             options: Options | None = None) -> tuple[GridResult, list[Moment]]:  # fmt: skip
        """A rendered grid, and when how many of its pictures had come to rest, in seconds from the start."""
        start, at = time.perf_counter(), []
        result = render_grid(
            self.base,
            rows,
            self.scale.weights,
            prompts,
            out=self.work / name,
            steps=self.scale.steps,
            cfg=CFG,
            sampler=SAMPLER,
            options=options,
            force=True,
            on_picture=lambda done, total: at.append((time.perf_counter() - start, done)),
        )
        return result, at

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def clear(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def random_base(scale: Scale, device: torch.device, dtype: torch.dtype) -> Base:
    """A random model of SD 1's tree, made on the device; the tokenizer is the pocket's."""
    with quiet():
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

    widths = scale.widths
    tokenizer = load_tokenizer(weights_folder() / "tokenizer")
    vocabulary = max(scale.vocabulary, len(tokenizer))
    text = text_config(widths, vocabulary, tokenizer.bos_token_id, tokenizer.eos_token_id)
    text["num_attention_heads"] = max(1, widths.text // 64)
    torch.manual_seed(0)
    with quiet(), torch.device(device):
        unet = UNet2DConditionModel(**unet_config(widths)).to(dtype)
        vae = AutoencoderKL(**vae_config(widths, 0.18215)).to(dtype)
        encoder = CLIPTextModel(CLIPTextConfig(**text)).to(dtype)
    for part in (unet, vae, encoder):
        part.to(device).eval().requires_grad_(False)
    side = widths.resolution
    return Base(
        unet, vae, (encoder,), (tokenizer,), scheduler_config(), "sd1", "0" * 64, "random", (side, side), device, dtype
    )


def random_lora(base: Base, path: Path, rank: int, seed: int, strength: float = 0.3) -> Path:
    """A LoRA on every usual module, each difference about ``strength`` times the spread of its weight."""
    modules = live_modules(base)
    generator = torch.Generator(base.device).manual_seed(seed)
    deltas = {}
    for name in lora_targets("sd1", modules):
        weight: Any = modules[name].weight
        rows, columns = weight.shape[0], math.prod(weight.shape[1:])
        size = (strength * float(weight.float().std()) / math.sqrt(rank)) ** 0.5
        up = torch.randn(rows, rank, generator=generator, device=base.device) * size
        down = torch.randn(rank, columns, generator=generator, device=base.device) * size
        deltas[name] = LowRank(up.cpu(), down.cpu(), tuple(weight.shape))
    write(deltas, path, family="sd1", force=True)
    return path


def pipeline(base: Base) -> Any:
    """diffusers' own pipeline on a copy of the same weights."""
    with quiet():
        from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=copy.deepcopy(base.vae),
        text_encoder=copy.deepcopy(base.text_encoder),
        tokenizer=base.tokenizer,
        unet=copy.deepcopy(base.unet),
        scheduler=find_sampler(SAMPLER).scheduler(base.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


# ---- parts -----------------------------------------------------------------------------------------------------------


def memory(bench: Bench) -> Figures:
    """The peak of one picture at a time, under a cap of 6 GB less what CUDA's own context takes."""
    bench.files  # noqa: B018 made before the cap
    bench.clear()
    cuda = bench.device.type == "cuda"
    if cuda:
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(5.4e9 / whole)
        torch.cuda.reset_peak_memory_stats()
    said: list[str] = []
    stacks = stacks_of(bench.rows(1), (1.0, 0.5))
    with Engine(bench.base, Options(batch=1, sliced=True), say=said.append) as engine:
        names = set(stacks[0].deltas)
        told = need(bench.base, 1, bench.base.resolution, 1, engine.patcher.size_of(names))
        engine.render(jobs(bench, stacks, [PROMPT], [1]), Store(bench.work / "memory"))
    peak = torch.cuda.max_memory_reserved() if cuda else 0
    if cuda:
        torch.cuda.set_per_process_memory_fraction(1.0)
    yield Figure("memory, batch 1, sliced VAE: reserved peak", peak / 1e9, "GB", "<= 5.4 of a 6 GB card", peak <= 5.4e9)
    yield Figure("memory, batch 1: what we say before it starts", told.total / 1e9, "GB", note="; ".join(said))


def unet(bench: Bench) -> Figures:
    """The UNet alone, a CUDA graph replayed, s an image: what every other figure is measured against."""
    if bench.device.type != "cuda":
        bench.seconds |= {f"unet {batch}": 0.001 for batch in (1, 4, 8)}
        return
    for layout in (torch.contiguous_format, torch.channels_last):
        base = bench.base
        base.unet.to(memory_format=layout)
        for batch in (1, 4, 8):
            seconds = unet_seconds(bench, plain_unet(base), batch)
            name = "channels last" if layout == torch.channels_last else "as it is"
            if layout == torch.contiguous_format:
                bench.seconds[f"unet {batch}"] = seconds
            yield Figure(f"UNet graph alone, batch {batch}, {name}", seconds, "s/image")
    bench.base.unet.to(memory_format=torch.contiguous_format)
    branches = Branches(bench.base)
    branches.know([read(bench.files[0])])
    branches.reserve(16)
    with branches.attached():
        seconds = unet_seconds(bench, plain_unet(bench.base), 8)
    yield Figure("UNet graph, batch 8, every row with its own branches of rank 32", seconds, "s/image")


def compiled(bench: Bench) -> Figures:
    """torch.compile under the graph."""
    if bench.device.type != "cuda":
        return
    for batch in (1, 8):
        start = time.perf_counter()
        seconds = unet_seconds(bench, compiled_unet(bench.base), batch)
        spent = time.perf_counter() - start
        yield Figure(
            f"UNet graph over torch.compile, batch {batch}", seconds, "s/image", note=f"{spent:.0f} s of compiling"
        )


def unet_seconds(bench: Bench, run: Any, batch: int) -> float:
    """Seconds an image for all steps of the UNet alone under CFG."""
    side, context = bench.base.resolution[0] // 8, bench.base.text_encoder.config.hidden_size
    x = torch.randn(2 * batch, 4, side, side, device=bench.device, dtype=bench.dtype)
    t = torch.tensor(500, device=bench.device)
    hidden = torch.randn(2 * batch, 77, context, device=bench.device, dtype=bench.dtype)
    with torch.no_grad():
        graph, _ = captured(lambda: run(x, t, hidden, None), torch.cuda.graph_pool_handle())
    graph.replay()
    bench.sync()
    start = time.perf_counter()
    for _ in range(2 * bench.scale.steps):
        graph.replay()
    bench.sync()
    spent = time.perf_counter() - start
    del graph
    bench.clear()
    return spent / 2 / batch


def diffusers(bench: Bench) -> Figures:
    """diffusers: every epoch loaded once, ``set_adapters`` for every cell, one picture a call, saved as PNG."""
    pipe, scale = pipeline(bench.base), bench.scale
    pipe(PROMPT, num_inference_steps=2, guidance_scale=CFG)
    bench.sync()
    load = cell = 0.0
    cells = 0
    for n, path in enumerate(bench.files[: scale.theirs]):
        start = time.perf_counter()
        with quiet():
            pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=f"e{n}")
        bench.sync()
        load += time.perf_counter() - start
        for weight in scale.weights[1:]:
            start = time.perf_counter()
            pipe.set_adapters([f"e{n}"], [weight])
            made = pipe(
                PROMPT,
                num_inference_steps=scale.steps,
                guidance_scale=CFG,
                generator=torch.Generator("cpu").manual_seed(1),
            ).images[0]
            made.save(bench.work / f"theirs-{n}-{weight}.png")
            cell += time.perf_counter() - start
            cells += 1
    load, cell = load / scale.theirs, cell / cells
    distinct = 1 + scale.epochs * (len(scale.weights) - 1)
    bench.seconds["diffusers"] = scale.epochs * load + distinct * cell
    yield Figure("diffusers, one picture under set_adapters", cell, "s/image", note=f"mean of {cells}")
    yield Figure("diffusers, loading one epoch", load)
    yield Figure(
        f"diffusers, {scale.epochs} loads and {distinct} cells",
        bench.seconds["diffusers"],
        note="the two above, scaled",
    )
    del pipe
    bench.clear()


def grid(bench: Bench) -> Figures:
    """The epochs x weights grid, one prompt and one seed: every stack has one picture, and eight share a batch."""
    scale = bench.scale
    start = time.perf_counter()
    result, at = bench.grid(bench.rows(scale.epochs), [PROMPT], "grid")
    whole = time.perf_counter() - start
    count, alone = result.rendered, bench.seconds.get("unet 8", math.nan)
    settled = steady(at)
    yield Figure(
        f"ours, {count} cells, pictures on disk, sheet and page", whole, note="reading files and capture included"
    )
    yield Figure("ours, the same until the last picture is on disk", at[-1][0])
    yield Figure("ours, a cell at a steady pace", settled, "s/image")
    if "diffusers" in bench.seconds:
        ratio = bench.seconds["diffusers"] / whole
        yield Figure("ours against diffusers, end to end", ratio, "x", ">= 4", ratio >= 4)
    ratio = at[-1][0] / count / alone
    yield Figure("ours against the pure UNet graph at batch 8, all told", ratio, "x", "<= 1.3", ratio <= 1.3)
    yield Figure(
        "ours against the pure UNet graph at batch 8, steady", settled / alone, "x", "<= 1.3", settled / alone <= 1.3
    )
    rows, alone = bench.rows(scale.four), bench.seconds.get("unet 1", math.nan)
    _, at = bench.grid(rows, [PROMPT], "patched", Options(mixed=False))
    yield Figure("the same by patching every cell, at batch 1, steady", steady(at), "s/image")
    yield Figure("patching against the pure UNet graph at batch 1, steady", steady(at) / alone, "x")


def four(bench: Bench) -> Figures:
    """Four prompts: every stack has a batch of four."""
    start = time.perf_counter()
    result, at = bench.grid(bench.rows(bench.scale.four), PROMPTS, "four")
    each = (time.perf_counter() - start) / result.rendered
    settled, alone = steady(at), bench.seconds.get("unet 4", math.nan)
    yield Figure(f"four prompts, {result.rendered} pictures, all told", each, "s/image")
    yield Figure("four prompts, at a steady pace", settled, "s/image", "<= 0.16", settled <= 0.16)
    yield Figure(
        "four prompts against the pure UNet graph at batch 4, steady",
        settled / alone,
        "x",
        "<= 1.3",
        settled / alone <= 1.3,
    )


def steady(at: Sequence[Moment]) -> float:
    """Seconds a picture after the first quarter of the reports: capture and warm-up are over then."""
    first, last = at[len(at) // 4], at[-1]
    return (last[0] - first[0]) / max(1, last[1] - first[1])


def edit(bench: Bench) -> Figures:
    """One weight, or one block's value, changed on a loaded model, against rendering the same picture again."""
    adapter = read(bench.files[0])
    vectors = [parse_vector("1," * 8 + f"{value:g}" + ",1" * 8, load_presets(), "sd1") for value in (0.5, 0.7)]
    blocks = []
    for vector in vectors:
        row = Row.of_terms([Term(adapter, 1.0, vector, label="style")], "style")
        blocks.append(Stack(row.deltas, 1.0, row.digest(), marks_of(row.deltas)))
    whole = stacks_of([Row.of_file(adapter)], (0.9, 0.8))
    with Engine(bench.base, Options(batch=1)) as engine:
        plain = alternate(bench, engine, [Stack(), Stack()], "plain")
        weight = alternate(bench, engine, whole, "weight")
        block = alternate(bench, engine, blocks, "block")
    yield Figure("plain render of one picture, on disk", plain, "s")
    for name, seconds in (("one weight", weight), ("one block's value", block)):
        over = 100 * (seconds / plain - 1)
        yield Figure(f"{name} changed and rendered, over the plain render", over, "%", "<= 10", over <= 10)


def alternate(bench: Bench, engine: Engine, stacks: Sequence[Stack], name: str) -> float:
    """Median seconds of a call that renders one picture, the stacks in turn; the first round is not counted."""
    spent = []
    for n in range(2 + bench.scale.repeats):
        own = jobs(bench, [stacks[n % 2]], [PROMPT], [n], name)
        store = Store(bench.work / name)
        bench.sync()
        start = time.perf_counter()
        engine.render(own, store)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent[2:]))


def patching(bench: Bench) -> Figures:
    """What a move itself costs: all modules to another weight, another epoch, and back; and W0 after a thousand."""
    from loratools.base.patch import Patcher

    modules = live_modules(bench.base)
    rows = bench.rows(2)
    before = {name: modules[name].weight.clone() for name in rows[0].deltas}  # type: ignore[operator]
    patcher = Patcher(bench.base)
    for row in rows:
        patcher.move(row.deltas, 1.0, marks_of(row.deltas))
    bench.sync()
    start = time.perf_counter()
    count = 200 if bench.device.type == "cuda" else 2
    for n in range(count):
        patcher.move(rows[0].deltas, 0.1 + 0.001 * n, marks_of(rows[0].deltas))
    bench.sync()
    yield Figure(
        f"a move of {len(before)} modules to another weight", 1000 * (time.perf_counter() - start) / count, "ms"
    )
    start = time.perf_counter()
    for n in range(count):
        patcher.move(rows[n % 2].deltas, 1.0, marks_of(rows[n % 2].deltas))
    bench.sync()
    yield Figure("a move to another epoch whose factors are kept", 1000 * (time.perf_counter() - start) / count, "ms")
    for n in range(1000 - 2 * count if bench.device.type == "cuda" else 2):
        patcher.move(rows[n % 2].deltas, (n % 7) / 3 - 1, marks_of(rows[n % 2].deltas))
    patcher.restore()
    same = all(torch.equal(modules[name].weight, value) for name, value in before.items())  # type: ignore[arg-type]
    yield Figure("W0 bit-identical after a thousand moves (1 = yes)", float(same), "", "1", same)
    start = time.perf_counter()
    fresh = Row.of_file(read(bench.files[-1]))
    patcher.move(fresh.deltas, 1.0, marks_of(fresh.deltas))
    bench.sync()
    yield Figure("a move to an epoch that is still on disk", 1000 * (time.perf_counter() - start), "ms")
    patcher.forget()


def merge(bench: Bench) -> Figures:
    """A live stack against its merged fp16 file, on the random model and on the pocket base."""
    bases = {"random SD 1.5": bench.base}
    if (weights_folder() / "model_index.json").is_file():
        bases["pocket"] = load_base("pocket", device=str(bench.device), dtype=None)
    presets = load_presets()
    for name, base in bases.items():
        paths = [random_lora(base, bench.work / f"{name}-{n}.safetensors", 8, n, 0.15) for n in (1, 2)]
        terms = [
            Term(read(path), weight, parse_vector(vector, presets, "sd1"), label=path.stem)
            for path, weight, vector in zip(paths, (1.0, -0.5), ("GP1", "GP2"), strict=True)
        ]
        merged = bench.work / f"{name}-merged.safetensors"
        merge_files(terms, merged, force=True)
        rows = [Row.of_terms(terms, "live"), Row.of_file(read(merged))]
        result = render_grid(
            base,
            rows,
            (1.0,),
            PROMPTS[:2],
            out=bench.work / f"merge-{name}",
            seeds=(1, 2),
            sampler=SAMPLER,
            steps=bench.scale.steps,
            cfg=CFG,
            force=True,
        )
        live, file, plain = (
            np.stack([np.asarray(Image.open(path)).astype(float) for path in paths])
            for paths in (result.paths("live", 1.0), result.paths(rows[1].label, 1.0), result.paths("live", 0.0))
        )
        mean = float(np.abs(live - file).mean())
        yield Figure(
            f"preview against merge, {name}: mean difference",
            mean,
            "/255",
            "<= 1",
            mean <= 1,
            f"the stack itself moves the picture by {np.abs(live - plain).mean():.3g}",
        )


def shard(bench: Bench) -> Figures:
    """The four-prompt grid by one process and by two, once all are ready: loading and capture are not counted."""
    bench.files  # noqa: B018 the workers read them
    spent = {}
    for world in (1, 2):
        out = bench.work / f"shard-{world}"
        launch(bench, out, world)
        told = [json.loads(path.read_text()) for path in out.glob("done-*.json")]
        spent[world] = max(each["end"] for each in told) - min(each["start"] for each in told)
        shares = ", ".join(str(each["rendered"]) for each in told)
        yield Figure(
            f"sharded grid, {world} process{'es' if world > 1 else ''}", spent[world], note=f"pictures: {shares}"
        )
    ratio = spent[1] / spent[2]
    yield Figure("two GPUs against one", ratio, "x", ">= 1.8", ratio >= 1.8)


def launch(bench: Bench, out: Path, world: int) -> None:
    """Start ``world`` processes of this script, one a GPU, that share one grid in ``out``, and wait for all."""
    out.mkdir(parents=True, exist_ok=True)
    own = ["-m", "benchmarks.previews", "--worker", str(out), "--work", str(bench.work)]
    own += ["--tiny"] if bench.scale is TINY else []
    if torch.cuda.device_count() >= world > 1:
        start = [
            "-m",
            "accelerate.commands.launch",
            "--multi_gpu",
            "--num_processes",
            str(world),
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
        ]
        subprocess.run([sys.executable, *start, *own], check=True, cwd=ROOT)
        return
    ranks = [{"RANK": str(n), "WORLD_SIZE": str(world), "LOCAL_RANK": str(n)} for n in range(world)]
    running = [subprocess.Popen([sys.executable, *own], cwd=ROOT, env={**os.environ, **rank}) for rank in ranks]
    if [code for code in [process.wait() for process in running] if code]:
        raise SystemExit("a worker failed")


def work_shard(bench: Bench, out: Path) -> None:
    """One process of the sharded grid: ready together, then rendering until nothing lacks."""
    rank = Rank.here()
    all_jobs = jobs(
        bench, [Stack(), *stacks_of(bench.rows(bench.scale.shard), bench.scale.weights[1:])], PROMPTS, [1], out.name
    )
    with Engine(bench.base) as engine:
        own = bench.work / f"{out.name}-warm-{rank.rank}"
        engine.render(jobs(bench, [Stack()], PROMPTS, [1], own.name), Store(own))
        (out / f"ready-{rank.rank}").touch()
        while len(list(out.glob("ready-*"))) < rank.world:
            time.sleep(0.01)
        start = time.time()
        rendered = engine.render(all_jobs, Store(out), claims=Shard(out, rank, pause=0.05))
        end = time.time()
    (out / f"done-{rank.rank}.json").write_text(json.dumps({"start": start, "end": end, "rendered": rendered}))


def cpu(bench: Bench) -> Figures:
    """The pocket base on a CPU against a diffusers loop, at batch 1 and at an equal batch."""
    base = load_base("pocket", device="cpu", dtype="fp32")
    steps = 2 if bench.scale is TINY else base.defaults.steps
    files = [random_lora(base, bench.work / f"cpu-{n}.safetensors", 8, n, 0.15) for n in (1, 2)]
    weights, seeds = (0.0, 0.5, 1.0), (1, 2, 3, 4)
    pipe = pipeline(base)
    pipe(PROMPT, num_inference_steps=1, guidance_scale=CFG)
    for name, prompts, own, size in (
        ("one prompt, one seed", PROMPTS[:1], seeds[:1], 1),
        ("two prompts, four seeds", PROMPTS[:2], seeds, 8),
    ):
        start = time.perf_counter()
        rows = [Row.of_file(read(path)) for path in files]
        result = render_grid(
            base,
            rows,
            weights,
            prompts,
            out=bench.work / f"cpu-{size}",
            seeds=own,
            steps=steps,
            cfg=CFG,
            sampler=SAMPLER,
            force=True,
        )
        ours = (time.perf_counter() - start) / result.rendered
        yield Figure(f"pocket on a CPU, ours, {name}, end to end", ours, "s/image", note=f"{result.rendered} pictures")
        for batch in sorted({1, size}):
            theirs = diffusers_loop(bench, pipe, files, weights, prompts, own, steps, batch)
            bar = 1.5 if batch == 1 else 1.0
            yield Figure(
                f"pocket on a CPU, {name}: against diffusers at batch {batch}",
                theirs / ours,
                "x",
                f">= {bar}",
                theirs / ours >= bar,
                f"diffusers {theirs:.3g} s/image",
            )


def diffusers_loop(
    bench: Bench,
    pipe: Any,
    files: Sequence[Path],
    weights: Sequence[float],
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    batch: int,
) -> float:
    """Seconds a picture of a loop that loads each epoch once and sets adapters for each distinct cell."""
    start, count = time.perf_counter(), 0
    pairs = [(prompt, seed) for prompt in prompts for seed in seeds]
    for n, path in enumerate(files):
        with quiet():
            pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name="x")
        for weight in weights if n == 0 else weights[1:]:
            pipe.set_adapters(["x"], [weight])
            for at in range(0, len(pairs), batch):
                part = pairs[at : at + batch]
                made = pipe(
                    [prompt for prompt, _ in part],
                    num_inference_steps=steps,
                    guidance_scale=CFG,
                    generator=[torch.Generator().manual_seed(seed) for _, seed in part],
                ).images
                for m, image in enumerate(made):
                    image.save(bench.work / f"loop-{n}-{weight}-{at + m}.png")
                count += len(part)
        pipe.unload_lora_weights()
    return (time.perf_counter() - start) / count


# ---- machinery -------------------------------------------------------------------------------------------------------


def stacks_of(rows: Sequence[Row], weights: Sequence[float]) -> list[Stack]:
    return [Stack(row.deltas, weight, row.label, marks_of(row.deltas)) for row in rows for weight in weights]


def jobs(
    bench: Bench, stacks: Sequence[Stack], prompts: Sequence[str], seeds: Sequence[int], name: str = "jobs"
) -> list[Job]:
    """A picture for every stack, prompt and seed, of the base's size."""
    made = []
    for stack in stacks:
        for n, prompt in enumerate(prompts):
            for seed in seeds:
                key = f"{stack.key}-{n}-{seed}"
                place = bench.work / name / "cells" / stack.digest / f"{stack.weight:g}-{n}-{seed}.png"
                made.append(
                    Job(
                        stack,
                        prompt,
                        seed,
                        Wanted(place, key, "", {"key": key}),
                        bench.scale.steps,
                        CFG,
                        SAMPLER,
                        bench.base.resolution,
                    )
                )
    return made


PARTS: Mapping[str, Callable[[Bench], Figures]] = {
    "memory": memory,
    "unet": unet,
    "patching": patching,
    "grid": grid,
    "four": four,
    "edit": edit,
    "merge": merge,
    "diffusers": diffusers,
    "compiled": compiled,
    "shard": shard,
    "cpu": cpu,
}
USUAL = ("memory", "unet", "patching", "diffusers", "grid", "four", "edit", "merge")


def machine(device: torch.device) -> str:
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    return f"{name}, torch {torch.__version__}"


def report(keep: Path) -> None:
    """Write the results page from every part that is kept."""
    lines = [
        "# Previews",
        "",
        "Written by `python -m benchmarks.previews --report` from its own runs; see it for what each part does.",
        "",
    ]
    for part in PARTS:
        path = keep / f"{part}.json"
        if not path.is_file():
            continue
        told = json.loads(path.read_text())
        lines += [
            f"## {part}",
            "",
            f"{(PARTS[part].__doc__ or '').splitlines()[0]} ({told['machine']}, {told['seconds']:.0f} s)",
            "",
            "| | | bar | |",
            "|---|---|---|---|",
        ]
        for each in (Figure(**row) for row in told["figures"]):
            verdict = {None: "", True: "met", False: "**missed**"}[each.met]
            last = " ".join([verdict, each.note]).strip()
            lines.append(f"| {each.name} | {each.value:.4g} {each.unit} | {each.bar} | {last} |")
        lines.append("")
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text("\n".join(lines), encoding="utf-8")
    print(RESULT)


def run_part(name: str, bench: Bench, keep: Path | None) -> bool:
    """Run one part, print its figures as they come and keep them; an error ends the part, not the run."""
    start, figures = time.perf_counter(), []
    print(f"== {name}", flush=True)
    done = True
    try:
        for figure in PARTS[name](bench):
            figures.append(figure)
            print(figure.text(), flush=True)
    except Exception as error:  # the other parts' time on the machine is not to be lost
        import traceback

        traceback.print_exc()
        figures.append(Figure(f"{name} failed: {type(error).__name__}", math.nan))
        done = False
    spent = time.perf_counter() - start
    print(f"   {spent:.1f} s", flush=True)
    if keep and figures:
        keep.mkdir(parents=True, exist_ok=True)
        told = {"machine": machine(bench.device), "seconds": spent, "figures": [asdict(each) for each in figures]}
        (keep / f"{name}.json").write_text(json.dumps(told, indent=1))
        (keep / "seconds.json").write_text(json.dumps(bench.seconds))
    bench.clear()
    return done


def main() -> None:
    """Parse, run the parts that are asked for, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(USUAL), help="comma-separated; all for every one")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="tiny models on a CPU: does it run")
    parser.add_argument("--keep", type=Path, help="folder for figures as JSON")
    parser.add_argument("--work", type=Path, help="folder for pictures and LoRA files; temporary by default")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.list:
        print("\n".join(f"{name:<10} {(part.__doc__ or '').splitlines()[0]}" for name, part in PARTS.items()))
        return
    scale = TINY if told.tiny else FULL
    cuda = torch.cuda.is_available() and not told.tiny
    device = torch.device(f"cuda:{Rank.here().local % torch.cuda.device_count()}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
    with contextlib.ExitStack() as stack:
        work = told.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(scale, device, work)
        if told.worker:
            work_shard(bench, told.worker)
            return
        if told.keep and (told.keep / "seconds.json").is_file():
            bench.seconds = json.loads((told.keep / "seconds.json").read_text())
        names = list(PARTS) if told.parts == "all" else [name for name in told.parts.split(",") if name]
        print(machine(device), flush=True)
        failed = [name for name in names if not run_part(name, bench, told.keep)]
    if told.report and told.keep:
        report(told.keep)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
