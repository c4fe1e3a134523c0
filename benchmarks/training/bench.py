"""What the parts of the training benchmark share: its options, its rows, and a base with pictures to train on."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import full_size
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.data.read import read_dataset
from loratools.train.distributed import Ranks
from loratools.train.setup import at_base_resolution, setup_run, setup_trainable
from loratools.train.step.step import DenoisingStep
from loratools.train.trainer import Trainer, attached, make_runner

ROOT = Path(__file__).parents[2]
GIB = 2**30


@dataclass(frozen=True)
class Options:
    """What the command line asks for; ``device`` and ``size`` follow from ``tiny`` unless they are set."""

    out: Path
    work: Path
    sd_scripts: str
    steps: int
    check_steps: int
    cpu_steps: int
    batches: tuple[int, ...]
    dim: int
    processes: int
    peer_timeout: int
    tiny: bool
    device: str = "auto"

    @property
    def size(self) -> int:
        """Side of SD1.5's pictures."""
        return 64 if self.tiny else 512

    @property
    def sd15(self) -> Path:
        """The folder of the random SD1.5 base."""
        return self.work / "sd15"

    @property
    def sdxl(self) -> Path:
        """The folder of the random SDXL base."""
        return self.work / "sdxl"


class Rows:
    """A part's rows: printed and written as they come."""

    def __init__(self, out: Path, part: str) -> None:
        self._path, self._part = out / f"{part}.json", part
        self._rows: list[dict[str, Any]] = []
        out.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, **values: Any) -> None:
        """One row."""
        row = {"name": name, "device": device_name(), **values}
        print(self._part, json.dumps(row), flush=True)
        self._rows.append(row)
        self._path.write_text(json.dumps(self._rows, indent=1))


class Bench:
    """A base and pictures, loaded once; every measurement trains a fresh network on them."""

    def __init__(
        self,
        base: Path,
        work: Path,
        options: Options,
        size: int,
        ranks: Ranks = Ranks(),  # noqa: B008
        *,
        count: int = 8,
        **different: Any,
    ) -> None:
        self.steps, self.count = options.steps, count
        images = full_size.pictures(work / f"pictures{size}x{count}", size, count)
        settings = {
            "base": str(base), "images": str(images), "out": str(work / "out"), "name": "bench", "epochs": 1,
            "resolution": size, "learning_rate": 1e-4, "lr_scheduler": "constant", "mixed_precision": "bf16",
            "device": options.device, "log_every": 5, "noise_offset": 0.0, **different,
        }  # fmt: skip
        if settings.get("network_type") != "full":
            settings |= {"dim": options.dim, "alpha": options.dim}
        self.config = make_config(settings, "benchmark")
        self.run = setup_run(self.config, ranks)
        self.store = Trainer(self.run).latents()

    def trained(self, batch: int, steps: int, *, by_rule: bool = False, **settings: Any) -> Iterator[Any]:
        """The steps of a fresh network, whose run is then at ``self.run``; ``by_rule`` has cuDNN time nothing."""
        run, config = self.run, self._config(batch, steps, settings)
        dataset = at_base_resolution(read_dataset(config, config.resolution or (512, 512)), config, run.base)
        trained = setup_trainable(config, run.base, run.precision)
        self.run = run = replace(run, config=config, dataset=dataset, trained=trained)
        with attached(run):
            torch.backends.cudnn.benchmark &= not by_rule
            step = DenoisingStep(run.base, trained.network, run.schedule, config, run.precision)
            yield from make_runner(run, self.store, step).epoch(1, 0)

    def _config(self, batch: int, steps: int, settings: Mapping[str, Any]) -> TrainConfig:
        wanted = {"batch_size": batch, "repeats": -(-batch * steps // self.count), "graph": "off", **settings}
        return self.config.model_copy(update=wanted)

    def measure(self, batch: int, steps: int | None = None, **settings: Any) -> dict[str, Any]:
        """Seconds a step once it runs evenly, what the beginning cost on top, and the peak of allocated memory."""
        fresh_memory()
        steps, begun = steps or self.steps, time.perf_counter()
        done = list(self.trained(batch, steps, **settings))
        total = time.perf_counter() - begun
        later = [record.seconds for record in done[len(done) // 2 :]]
        steady = statistics.median(later)
        return {
            "batch": batch,
            "s_per_step": steady,
            "images_per_s": batch / steady,
            "peak_gib": peak_gib(),
            "start_s": total - steady * len(done),
            "steps": len(done),
            "loss": done[-1].loss,
        }


def fresh_memory() -> None:
    """Free what earlier parts left, and measure the peak from here on."""
    gc.collect()  # a base of an earlier part, kept by a cycle, would count
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> float:
    """The peak of allocated memory since :func:`fresh_memory`, in GiB; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0


def device_name() -> str:
    """The GPU's name, or how many threads of the CPU torch uses."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
