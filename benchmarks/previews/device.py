"""Parts of the previews benchmark that work on the loaded model: memory, the UNet alone, patching, editing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.previews.bench import PROMPT, Bench, Figure, Figures, jobs, stacks_of
from loratools.adapter.files.file import read
from loratools.base.patching.batched_lora import BatchedLora
from loratools.base.patching.patch import Patcher, live_modules
from loratools.base.sampling.cuda_graph import capture_graph
from loratools.base.sampling.sample import plain_unet
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack, content_keys_of
from loratools.preview.render.drawer import render_jobs
from loratools.preview.render.engine import Engine
from loratools.preview.render.memory import need
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.rows import GridRow

_CAP = 5.4e9  # bytes: a 6 GB card less CUDA's own context


def memory(bench: Bench) -> Figures:
    """The peak of one picture at a time, under a cap of 6 GB less what CUDA's own context takes."""
    options = EngineOptions(batch=1, sliced=True)
    rows = bench.rows(len(bench.files))
    needed = need(bench.base, 1, bench.base.resolution, 1, Patcher(bench.base).saved_bytes(rows[0].deltas))
    peak, said = peak_of(bench, options, stacks_of(rows[:1], (1.0, 0.5)), "memory")
    yield Figure("memory, batch 1, sliced VAE: reserved peak", peak / 1e9, "GB", "<= 5.4 of a 6 GB card", peak <= _CAP)
    yield Figure("memory, batch 1: what we say before it starts", needed.total / 1e9, "GB", note=said)
    peak, said = peak_of(bench, options, stacks_of(rows, (1.0,)), "memory-epochs")
    yield Figure(f"the same, {len(rows)} epochs one after another", peak / 1e9, "GB", "<= 5.4", peak <= _CAP)
    models = (bench.base.unet, bench.base.vae, *bench.base.text_encoders)
    for model in models:
        model.to("cpu")
    peak, said = peak_of(
        bench, EngineOptions(1, offload=True, sliced=True), stacks_of(rows[:2], (1.0,)), "memory-offload"
    )
    for model in models:
        model.to(bench.device)
    yield Figure("the same, two epochs with --offload", peak / 1e9, "GB", note=said)


def peak_of(bench: Bench, options: EngineOptions, stacks: Sequence[Stack], name: str) -> tuple[int, str]:
    """Bytes that a 6 GB card has to give while a picture of each stack is made, and what the engine says; one picture
    more than the card has is an error."""
    bench.clear()
    cuda = bench.device.type == "cuda"
    if cuda:
        whole = torch.cuda.get_device_properties(bench.device).total_memory
        torch.cuda.set_per_process_memory_fraction(_CAP / whole)
        torch.cuda.reset_peak_memory_stats()
    said: list[str] = []
    with Engine(bench.base, options, say=said.append) as engine:
        render_jobs(engine, jobs(bench, stacks, [PROMPT], [1]), PictureStore(bench.work / name))
    peak = torch.cuda.max_memory_reserved() if cuda else 0
    if cuda:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return peak, "; ".join(said)


def unet(bench: Bench) -> Figures:
    """The UNet alone, a CUDA graph replayed, s an image: what every other figure is measured against."""
    if bench.device.type != "cuda":
        bench.seconds |= {f"unet {batch}": 0.001 for batch in (1, 4, 8)}
        return
    for batch in (1, 4, 8):
        seconds = bench.seconds[f"unet {batch}"] = unet_seconds(bench, plain_unet(bench.base), batch)
        yield Figure(f"UNet graph alone, batch {batch}", seconds, "s/image")
    for shared, text in ((False, "every row with its own branches"), (True, "rows that share their branches' factors")):
        branches = BatchedLora(bench.base, shared=shared)
        branches.register([[Stack(read(bench.files[0])).unet_part]])
        branches.reserve(16)
        with branches.attached():
            seconds = unet_seconds(bench, plain_unet(bench.base), 8)
        branches.free()
        yield Figure(f"UNet graph, batch 8, {text} of rank {bench.scale.rank}", seconds, "s/image")


def layout(bench: Bench) -> Figures:
    """The UNet graph with weights and pictures laid out channels last."""
    if bench.device.type != "cuda":
        return
    bench.base.unet.to(memory_format=torch.channels_last)
    for batch in (1, 4, 8):
        seconds = unet_seconds(bench, plain_unet(bench.base), batch)
        yield Figure(f"UNet graph alone, channels last, batch {batch}", seconds, "s/image")
    bench.base.unet.to(memory_format=torch.contiguous_format)


def compiled(bench: Bench) -> Figures:
    """The whole UNet through torch.compile under the graph: the limit of what compiling can give."""
    if bench.device.type != "cuda":
        return
    whole = torch.compile(bench.base.unet, dynamic=False)
    for batch in (1, 8):
        start = time.perf_counter()
        seconds = unet_seconds(bench, lambda x, t, hidden, _: whole(x, t, hidden, return_dict=False)[0], batch)
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
        graph, _ = capture_graph(lambda: run(x, t, hidden, None), torch.cuda.graph_pool_handle())
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


def patching(bench: Bench) -> Figures:
    """What a move itself costs: all modules to another weight, another epoch, and back; and W0 after a thousand."""

    modules = live_modules(bench.base)
    rows = bench.rows(2)
    before = {name: modules[name].weight.clone() for name in rows[0].deltas}  # type: ignore[operator]
    patcher = Patcher(bench.base)
    for row in rows:
        patcher.patch(row.deltas, 1.0, content_keys_of(row.deltas))
    bench.sync()
    start = time.perf_counter()
    count = 200 if bench.device.type == "cuda" else 2
    for n in range(count):
        patcher.patch(rows[0].deltas, 0.1 + 0.001 * n, content_keys_of(rows[0].deltas))
    bench.sync()
    yield Figure(
        f"a move of {len(before)} modules to another weight", 1000 * (time.perf_counter() - start) / count, "ms"
    )
    start = time.perf_counter()
    for n in range(count):
        patcher.patch(rows[n % 2].deltas, 1.0, content_keys_of(rows[n % 2].deltas))
    bench.sync()
    yield Figure("a move to another epoch whose factors are kept", 1000 * (time.perf_counter() - start) / count, "ms")
    for n in range(1000 - 2 * count if bench.device.type == "cuda" else 2):
        patcher.patch(rows[n % 2].deltas, (n % 7) / 3 - 1, content_keys_of(rows[n % 2].deltas))
    patcher.restore()
    same = all(torch.equal(modules[name].weight, value) for name, value in before.items())  # type: ignore[arg-type]
    yield Figure("W0 bit-identical after a thousand moves (1 = yes)", float(same), "", "1", same)
    start = time.perf_counter()
    fresh = GridRow.of_file(read(bench.files[-1]))
    patcher.patch(fresh.deltas, 1.0, content_keys_of(fresh.deltas))
    bench.sync()
    yield Figure("a move to an epoch that is still on disk", 1000 * (time.perf_counter() - start), "ms")
    patcher.free()


def edit(bench: Bench) -> Figures:
    """One weight, or one block's value, changed on a loaded model, against rendering the same picture again."""
    adapter = read(bench.files[0])
    vectors = [parse_vector("1," * 8 + f"{value:g}" + ",1" * 8, load_presets(), "sd1") for value in (0.5, 0.7)]
    blocks = []
    for vector in vectors:
        row = GridRow.of_terms([Term(adapter, 1.0, vector, label="style")], "style")
        blocks.append(Stack(row.deltas, 1.0, row.digest(), content_keys_of(row.deltas)))
    whole = stacks_of([GridRow.of_file(adapter)], (0.9, 0.8))
    with Engine(bench.base, EngineOptions(batch=1)) as engine:
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
        store = PictureStore(bench.work / name)
        bench.sync()
        start = time.perf_counter()
        render_jobs(engine, own, store)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent[2:]))
