"""The run: from a config to one file an epoch."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from loratools.adapter.metadata import Provenance
from loratools.adapter.save import write
from loratools.base.load import DTYPES, load_base, pick_device
from loratools.base.model import Base
from loratools.base.vae import load_vae
from loratools.errors import TrainingError
from loratools.files import locked
from loratools.train import objective, seeds
from loratools.train.base_adapters import BaseAdapters
from loratools.train.checkpoint import RunFolder, RunLog, State, check_resumable, load_state, save_state
from loratools.train.config import TrainConfig
from loratools.train.dataset import Dataset
from loratools.train.distributed import Ranks, join, leave
from loratools.train.engine import Done, Engine
from loratools.train.groups import parameter_groups
from loratools.train.inject import Network
from loratools.train.latents import LatentStore
from loratools.train.memory import accelerated, parked, place
from loratools.train.optimizers import build_optimizer, optimizer_modes
from loratools.train.plan import TrainPlan, fitted, make_plan
from loratools.train.read_dataset import read_dataset
from loratools.train.run_metadata import Facts, header, now
from loratools.train.step import Precision, Step, precision

_SMOOTHING = 0.95


@dataclass(frozen=True)
class StepRecord:
    """One optimiser step, as the log has it."""

    step: int
    epoch: int
    loss: float
    lr_unet: float
    lr_te: float
    seconds: float


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch: its mean loss over all samples, its file and the file's digest."""

    epoch: int
    step: int
    loss: float
    seconds: float
    path: Path
    digest: str


@dataclass(frozen=True)
class RunResult:
    """What a run left behind. ``losses`` is the mean loss of each epoch, in order; ``steps`` the optimiser's.

    ``wrote`` is False in those of several processes that left the writing, and the telling, to the first.
    """

    name: str
    epochs: list[Path]
    log: Path
    state: Path
    losses: list[float]
    steps: int
    seconds: float
    plan: TrainPlan | None  # None for a run that was found finished
    cached: bool = False
    wrote: bool = True


OnEpoch = Callable[[EpochRecord], None]
OnStep = Callable[[StepRecord], None]


def plan(config: TrainConfig) -> TrainPlan:
    """What :func:`train` would do; reads the base and the images, writes nothing.

    Raises:
        LoratoolsError: everything that :func:`train` finds wrong before its first step.
    """
    return _Run(config).plan


def train(
    config: TrainConfig, *, progress: bool = True, on_epoch: OnEpoch | None = None, on_step: OnStep | None = None
) -> RunResult:
    """Train a LoRA and write ``OUT/NAME-000001.safetensors`` and so on, one for every epoch.

    Data order, captions, noise and timesteps are functions of the seed and of where in the run they are used, so a
    run on a CPU repeats bit for bit, and one that was killed and resumed gives the bytes of one that was not.

    Args:
        config: see :func:`loratools.train.read_config.read_config`.
        progress: bars on stderr, if that is a terminal.
        on_epoch: called when an epoch's file and state are on disk.
        on_step: called after every optimiser step.
    Raises:
        DatasetError, BaseModelError: for images, captions or a base that cannot be used.
        FileError: if the output is someone else's, or cannot be written.
        TrainingError: for settings that cannot train, or a loss that is not a number; finished epochs stay.
    """
    ranks, device = join(config.device)
    try:
        run = _Run(config.model_copy(update={"device": device}), ranks)
        with run.ours():
            return run.go(progress and ranks.writes, on_epoch, on_step)
    finally:
        leave(ranks)


class _Run:
    """One run's parts, built and checked before anything is written."""

    def __init__(self, config: TrainConfig, ranks: Ranks = Ranks()) -> None:  # noqa: B008  (frozen)
        self.config, self.ranks = config, ranks
        self.folder = RunFolder(config.out, config.name)
        device = pick_device(config.device)
        self.kind = precision(config, device)
        dataset = read_dataset(config, config.resolution or (512, 512))
        # in full precision for the VAE, and so not on the GPU before the rest has been cast
        self.base = load_base(config.base, device="cpu", dtype="fp32", offline=config.offline)
        if config.vae is not None:
            self.base.vae = load_vae(config.vae, self.base.vae)
        self.config, self.dataset = fitted(config, _at_base_resolution(dataset, config, self.base))
        config = self.config
        _check_base(self.base, config)
        self.active = BaseAdapters(config.base_adapters, self.base)
        self.active.merge()
        place(self.base, self.kind)
        self.schedule = objective.schedule(self.base.scheduler_config, config).to(device)
        unet_lr, te_lr = config.learned_rates()
        self.network = Network(self.base, config.dim, config.alpha, config.seed, unet=unet_lr > 0, text=te_lr > 0,
                               options=config)  # fmt: skip
        self.groups = parameter_groups(self.network, config)
        self.optimizer = build_optimizer(config, self.groups)
        self.scaler = self.kind.scaler()
        self.plan = make_plan(config, self.base, self.dataset, self.network.sizes)

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """Hold the run's files, checked and swept; only the process that writes does, the others follow it."""
        with contextlib.ExitStack() as stack:
            if self.ranks.writes:
                stack.enter_context(locked(self.folder.out / self.config.name))
                self.folder.guard(force=self.config.force)
                self.folder.sweep()
            self.ranks.wait()
            yield

    def go(self, progress: bool, on_epoch: OnEpoch | None, on_step: OnStep | None) -> RunResult:
        """Everything from the latents to the last file."""
        begun = time.perf_counter()
        state = self._resumed()
        done, step = (state.epoch, state.step) if state else (0, 0)
        losses = list(state.losses) if state else []
        facts = self._facts(state)
        if done < self.config.epochs:
            store = self._latents(progress)
            self.ranks.wait()  # the state has been read
            if state is None and self.ranks.writes:
                self.folder.clear()
            with self._log(step if state else None) as log, self._training(), self._bar(progress, step) as bar:
                engine = self._engine(store)
                for epoch in range(done + 1, self.config.epochs + 1):
                    record, step = self._epoch(engine, epoch, step, facts, losses, log, bar, on_step)
                    losses.append(record.loss)
                    if self.ranks.writes:
                        self._save(epoch, step, facts, losses)
                        log.write("epoch", {**vars(record), "path": record.path.name})
                    if on_epoch is not None and self.ranks.writes:
                        on_epoch(record)
        paths = [path for path in self.folder.epochs() if int(path.stem[-6:]) <= self.config.epochs]
        return RunResult(self.config.name, paths, self.folder.log, self.folder.state, losses, step,
                         time.perf_counter() - begun, self.plan, wrote=self.ranks.writes)  # fmt: skip

    def _epoch(
        self,
        engine: Engine,
        epoch: int,
        step: int,
        facts: Facts,
        before: Sequence[float],
        log: RunLog | _NoLog,
        bar: Any,
        on_step: OnStep | None,
    ) -> tuple[EpochRecord, int]:
        started, total, count = time.perf_counter(), 0.0, 0
        smoothed = before[-1] if before else math.nan
        for done in engine.epoch(epoch, step):
            record = self._checked(epoch, done)
            step = done.step
            total, count = total + record.loss * done.samples, count + done.samples
            smoothed = record.loss if math.isnan(smoothed) else _SMOOTHING * smoothed + (1 - _SMOOTHING) * record.loss
            log.write("step", vars(record))
            bar.set_description(f"epoch {epoch}/{self.config.epochs}", refresh=False)
            bar.set_postfix(loss=f"{smoothed:.4f}", lr=f"{max(record.lr_unet, record.lr_te):.1e}", refresh=False)
            bar.update(1)
            if on_step is not None and self.ranks.writes:
                on_step(record)
        if not self.network.finite():
            raise TrainingError(_diverged(f"a weight is not a number at the end of epoch {epoch}", self.kind))
        written = self._write(epoch, step, facts) if self.ranks.writes else (self.folder.epoch(epoch), "")
        seconds = time.perf_counter() - started
        return EpochRecord(epoch, step, total / count, seconds, written[0], written[1]), step

    def _checked(self, epoch: int, done: Done) -> StepRecord:
        if not math.isfinite(done.loss):
            raise TrainingError(_diverged(f"the loss is {done.loss} at step {done.step} (epoch {epoch})", self.kind))
        return StepRecord(done.step, epoch, done.loss, done.rates.get("unet", 0.0), done.rates.get("text_encoder", 0.0),
                          done.seconds)  # fmt: skip

    def _engine(self, store: LatentStore) -> Engine:
        stepper = Step(self.base, self.network, self.schedule, self.config, self.kind)
        return Engine(self.config, self.base, stepper, self.optimizer, self.scaler, self.dataset, store, self.kind,
                      self.ranks, self.plan.steps)  # fmt: skip

    @contextlib.contextmanager
    def _training(self) -> Iterator[None]:
        """The network in its base, the base set up for speed, and the process' generators as they were afterwards."""
        devices = [self.kind.device] if self.kind.device.type == "cuda" else []
        with self.network.attached(), accelerated(self.base, self.config), torch.random.fork_rng(devices):
            yield

    @contextlib.contextmanager
    def _log(self, keep_steps: int | None) -> Iterator[RunLog | _NoLog]:
        first = {"settings": self.config.settings(), "steps": self.plan.steps}
        log = RunLog(self.folder, first, keep_steps) if self.ranks.writes else _NoLog()
        with contextlib.closing(log):
            yield log

    def _write(self, epoch: int, step: int, facts: Facts) -> tuple[Path, str]:
        step_text = {"train": {**self.config.settings(), "epoch": epoch}}
        inputs = [
            {"name": self.config.base, "digest": self.base.digest, "kind": "base"},
            *({"name": str(f.path), "digest": self.dataset.digest, "kind": "images"} for f in self.dataset.folders),
            *self.active.inputs,
            *([self.network.start.input] if self.network.start else []),
        ]
        with optimizer_modes(self.optimizer):
            deltas, extras = self.network.deltas(), self.network.extras(DTYPES[self.config.dtype])
        written = write(
            deltas, self.folder.epoch(epoch), family=self.base.family,
            metadata=header(facts, epoch, step), dtype=DTYPES[self.config.dtype],
            provenance=Provenance(step_text, self.folder.owner, inputs), force=self.config.force,
            alpha=self.network.alphas, carried=extras,
        )  # fmt: skip
        return written.path, written.digest

    def _save(self, epoch: int, step: int, facts: Facts, losses: list[float]) -> None:
        save_state(self.folder.state, State(
            epoch, step, self.network.state(), self.optimizer.state_dict(), self.scaler.state_dict(),
            self.config.settings(), self.active.base_digest, self.dataset.digest, facts.started_at, facts.session,
            losses,
        ))  # fmt: skip

    def _resumed(self) -> State | None:
        state = load_state(self.folder.state) if self.config.resume else None
        if state is None:
            return None
        check_resumable(state, self.config.settings(), self.active.base_digest, self.dataset.digest)
        self.network.load(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)
        return state

    def _facts(self, state: State | None) -> Facts:
        session = seeds.derived(self.config.seed, self.config.settings(), self.dataset.digest) & 0xFFFFFFFF
        return Facts(self.config, self.base, self.dataset, self.kind.name, self.plan.batches_per_epoch, self.plan.steps,
                     state.started_at if state else now(), state.session if state else session)  # fmt: skip

    def _latents(self, progress: bool) -> LatentStore:
        """Encode every image in full precision."""
        store = LatentStore(self.base, self.dataset, cache=self.config.cache_latents)
        if self.config.cache_latents:
            with parked(self.base), _tqdm(progress, total=store.count(), desc="latents", unit="image") as bar:
                store.fill(bar.update)
                self.base.vae.to("cpu")
        return store

    @contextlib.contextmanager
    def _bar(self, progress: bool, step: int) -> Iterator[Any]:
        with _tqdm(progress, total=self.plan.steps, initial=step, unit="step") as bar:
            yield bar


def _tqdm(progress: bool, **settings: Any) -> Any:
    return tqdm(file=sys.stderr, disable=None if progress else True, dynamic_ncols=True, **settings)


class _NoLog:
    """Stands for the log in a process that writes nothing."""

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _at_base_resolution(dataset: Dataset, config: TrainConfig, base: Base) -> Dataset:
    height, width = base.resolution
    return dataset if config.resolution else dataset.at(config, (width, height))


def _check_base(base: Base, config: TrainConfig) -> None:
    layers: int = min(encoder.config.num_hidden_layers for encoder in base.text_encoders)
    if config.clip_skip > layers:
        raise TrainingError(f"clip_skip {config.clip_skip} is above the {layers} layers of the base's text encoder")


def _diverged(what: str, kind: Precision) -> str:
    remedy = "lower the learning rate" + ("" if kind.name == "no" else " or train with --mixed-precision no")
    return f"training diverged: {what}; {remedy}; the epochs before it are whole"
