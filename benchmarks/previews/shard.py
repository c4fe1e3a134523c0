"""The part of the previews benchmark that shares a grid between processes, and what each of them runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.previews.bench import PROMPTS, ROOT, TINY, Bench, Figure, Figures, Moment, jobs, stacks_of, steady
from loratools.launch import Rank
from loratools.preview.plan.jobs import Stack
from loratools.preview.render.claims import FileClaims
from loratools.preview.render.drawer import render_jobs
from loratools.preview.render.engine import Engine
from loratools.preview.render.picture_store import PictureStore


def shard(bench: Bench) -> Figures:
    """The four-prompt grid by one process and by two, once all are ready: loading and capture are not counted."""
    bench.files  # noqa: B018 the workers read them
    spent, pace = {}, {}
    for world in (1, 2):
        out = bench.work / f"shard-{world}"
        launch(bench, out, world)
        done = [json.loads(path.read_text()) for path in out.glob("done-*.json")]
        spent[world] = max(each["end"] for each in done) - min(each["start"] for each in done)
        pace[world] = sum(1 / steady(each["at"]) for each in done)
        shares = ", ".join(f"{each['rendered']}, the first after {each['at'][0][0]:.2f} s" for each in done)
        yield Figure(
            f"sharded grid, {world} process{'es' if world > 1 else ''}", spent[world], note=f"pictures: {shares}"
        )
    ratio = pace[2] / pace[1]
    yield Figure("two GPUs against one, at a steady pace", ratio, "x", ">= 1.8", ratio >= 1.8)
    yield Figure(
        "two GPUs against one, the files' reading and the waiting at the end included", spent[1] / spent[2], "x"
    )


def launch(bench: Bench, out: Path, world: int, job: str = "shard") -> None:
    """Start ``world`` processes of this script, one a GPU, that share a ``job`` in ``out``, and wait for all."""
    out.mkdir(parents=True, exist_ok=True)
    own = ["-m", "benchmarks.previews", "--worker", str(out), "--worker-job", job, "--work", str(bench.work)]
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
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    ranks = [{"RANK": str(n), "LOCAL_RANK": str(n), **shared} for n in range(world)]
    running = [subprocess.Popen([sys.executable, *own], cwd=ROOT, env={**os.environ, **rank}) for rank in ranks]
    if [code for code in [process.wait() for process in running] if code]:
        raise SystemExit("a worker failed")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def work_shard(bench: Bench, out: Path) -> None:
    """One process of the sharded grid: ready together, then rendering until nothing lacks."""
    rank, rows = Rank.here(), bench.rows(bench.scale.shard)
    all_jobs = jobs(bench, [Stack(), *stacks_of(rows, bench.scale.weights[1:])], PROMPTS, [1], out.name)
    with Engine(bench.base) as engine:
        own = bench.work / f"{out.name}-warm-{rank.rank}"
        warm = stacks_of(rows[:2], [1.5])  # of no picture in the grid; their batch is as wide as the grid's
        render_jobs(engine, jobs(bench, warm, PROMPTS, [1], own.name), PictureStore(own))
        (out / f"ready-{rank.rank}").touch()
        while len(list(out.glob("ready-*"))) < rank.world:
            time.sleep(0.01)
        start, at = time.time(), list[Moment]()

        def note(count: int) -> None:
            if count:
                at.append((time.time() - start, count + (at[-1][1] if at else 0)))

        rendered = render_jobs(
            engine, all_jobs, PictureStore(out), on_done=note, claims=FileClaims(out, rank, pause=0.05)
        )
        end = time.time()
    record = {"start": start, "end": end, "rendered": rendered, "at": at}
    (out / f"done-{rank.rank}.json").write_text(json.dumps(record))
