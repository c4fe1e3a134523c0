"""The run: from a config to one file an epoch."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from loratools.adapter.metadata import Provenance
from loratools.adapter.save import write
from loratools.base.load import DTYPES, load_base, pick_device
from loratools.base.model import Base
from loratools.base.quiet import quiet
from loratools.base.text import encode
from loratools.errors import TrainingError
from loratools.files import locked
from loratools.train import objective, seeds
from loratools.train.checkpoint import RunFolder, RunLog, State, check_resumable, load_state, save_state
from loratools.train.config import TrainConfig
from loratools.train.dataset import Dataset, Sample, read_dataset
from loratools.train.inject import Network
from loratools.train.latents import LatentStore
from loratools.train.plan import TrainPlan, make_plan
from loratools.train.run_metadata import Facts, header, now
from loratools.train.schedule import build_optimizer, rate_factor, warmup_steps
from loratools.train.step import Inputs, Precision, Step, draw, precision, tokenize

_CAPTIONS_KEPT = 1024  # encoded captions kept in memory while the text encoder is not trained
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
    """What a run left behind. ``losses`` is the mean loss of each epoch, in order; ``steps`` the optimiser's."""

    name: str
    epochs: list[Path]
    log: Path
    state: Path
    losses: list[float]
    steps: int
    seconds: float
    plan: TrainPlan | None  # None for a run that was found finished
    cached: bool = False


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
    run = _Run(config)
    with locked(run.folder.out / config.name):
        run.folder.guard(force=config.force)
        run.folder.sweep()
        return run.go(progress, on_epoch, on_step)


class _Run:
    """One run's parts, built and checked before anything is written."""

    def __init__(self, config: TrainConfig) -> None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise TrainingError("training on several processes is not supported yet; launch one (--num_processes 1)")
        self.config = config
        self.folder = RunFolder(config.out, config.name)
        device = pick_device(config.device)
        self.kind = precision(config, device)
        dataset = read_dataset(config, config.resolution or (512, 512))
        self.base = load_base(config.base, device=config.device, dtype="fp32")
        self.dataset = _at_base_resolution(dataset, config, self.base)
        _check_base(self.base, config)
        self.schedule = objective.schedule(self.base.scheduler_config).to(device)
        unet_lr, te_lr = config.learned_rates()
        self.network = Network(
            self.base, config.dim, config.network_alpha, config.seed, unet=unet_lr > 0, text=te_lr > 0
        )
        self.groups = _groups(self.network, unet_lr, te_lr)
        self.optimizer = build_optimizer(config.optimizer, config.optimizer_args, self.groups)
        self.scaler = self.kind.scaler()
        shapes = {name: branch.shape for name, branch in self.network.branches.items()}
        self.plan = make_plan(config, self.base, self.dataset, shapes)
        self._hidden: dict[str, torch.Tensor] = {}

    def go(self, progress: bool, on_epoch: OnEpoch | None, on_step: OnStep | None) -> RunResult:
        """Everything from the latents to the last file."""
        begun = time.perf_counter()
        state = self._resumed()
        done, step = (state.epoch, state.step) if state else (0, 0)
        losses = list(state.losses) if state else []
        facts = self._facts(state)
        if done < self.config.epochs:
            self.store = self._latents(progress)
            if state is None:
                self.folder.clear()
            log = RunLog(self.folder, {"settings": self.config.settings(), "steps": self.plan.steps},
                         step if state else None)  # fmt: skip
            with contextlib.closing(log), self.network.attached(), self._bar(progress, step) as bar:
                self.stepper = Step(self.base, self.network, self.schedule, self.config, self.kind)
                for epoch in range(done + 1, self.config.epochs + 1):
                    record, step = self._epoch(epoch, step, facts, losses, log, bar, on_step)
                    losses.append(record.loss)
                    self._save(epoch, step, facts, losses)
                    log.write("epoch", {**vars(record), "path": record.path.name})
                    if on_epoch is not None:
                        on_epoch(record)
        paths = [path for path in self.folder.epochs() if int(path.stem[-6:]) <= self.config.epochs]
        return RunResult(self.config.name, paths, self.folder.log, self.folder.state, losses, step,
                         time.perf_counter() - begun, self.plan)  # fmt: skip

    def _epoch(
        self,
        epoch: int,
        step: int,
        facts: Facts,
        before: Sequence[float],
        log: RunLog,
        bar: Any,
        on_step: OnStep | None,
    ) -> tuple[EpochRecord, int]:
        started, total, count = time.perf_counter(), 0.0, 0
        smoothed = before[-1] if before else math.nan
        batches = self.dataset.epoch(epoch, self.config.seed, self.config.batch_size)
        for group in _chunks(batches, self.config.gradient_accumulation):
            record = self._step(epoch, step, group)
            step += 1
            samples = sum(len(batch) for batch in group)
            total, count = total + record.loss * samples, count + samples
            smoothed = record.loss if math.isnan(smoothed) else _SMOOTHING * smoothed + (1 - _SMOOTHING) * record.loss
            log.write("step", vars(record))
            bar.set_description(f"epoch {epoch}/{self.config.epochs}", refresh=False)
            bar.set_postfix(loss=f"{smoothed:.4f}", lr=f"{max(record.lr_unet, record.lr_te):.1e}", refresh=False)
            bar.update(1)
            if on_step is not None:
                on_step(record)
        if not self.network.finite():
            raise TrainingError(_diverged(f"a weight is not a number at the end of epoch {epoch}", self.kind))
        written = self._write(epoch, step, facts)
        seconds = time.perf_counter() - started
        return EpochRecord(epoch, step, total / count, seconds, written[0], written[1]), step

    def _step(self, epoch: int, step: int, group: Sequence[Sequence[Sample]]) -> StepRecord:
        """One optimiser step over the micro-batches of ``group``, each weighed by its number of samples."""
        started = time.perf_counter()
        rates = self._set_rates(step)
        samples = sum(len(batch) for batch in group)
        loss = torch.zeros((), device=self.kind.device)
        for micro, batch in enumerate(group):
            share = len(batch) / samples
            mean = self.stepper.backward(self._inputs(batch, step, micro), self.scaler, share)
            loss = loss + mean * share
        value = float(loss)
        if not math.isfinite(value):
            raise TrainingError(_diverged(f"the loss is {value} at step {step + 1} (epoch {epoch})", self.kind))
        self.scaler.unscale_(self.optimizer)
        if self.config.max_grad_norm:
            factors = [factor for group_ in self.groups for factor in group_["params"]]
            torch.nn.utils.clip_grad_norm_(factors, self.config.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return StepRecord(step + 1, epoch, value, rates.get("unet", 0.0), rates.get("text_encoder", 0.0),
                          time.perf_counter() - started)  # fmt: skip

    def _inputs(self, batch: Sequence[Sample], step: int, micro: int) -> Inputs:
        vae = self.base.vae.config
        latents, noise, timesteps = draw(
            self.store.moments(batch), self.config, len(self.schedule.abar), vae.scaling_factor,
            getattr(vae, "shift_factor", None) or 0.0, ("step", step, micro),
        )  # fmt: skip
        captions, device = [sample.caption for sample in batch], self.kind.device
        learnt = self.config.learned_rates()[1] > 0
        return Inputs(
            latents.to(device),
            noise.to(device),
            timesteps.to(device),
            tokenize(self.base, captions).to(device) if learnt else None,
            None if learnt else self._states(captions),
        )

    def _states(self, captions: Sequence[str]) -> torch.Tensor:
        """The frozen text encoder's states, each caption encoded once."""
        for caption in dict.fromkeys(captions):
            if caption not in self._hidden:
                if len(self._hidden) >= _CAPTIONS_KEPT:
                    self._hidden.pop(next(iter(self._hidden)))
                self._hidden[caption] = encode(self.base, [caption], self.config.clip_skip)[0]
        return torch.stack([self._hidden[caption] for caption in captions])

    def _set_rates(self, step: int) -> dict[str, float]:
        config = self.config
        warmup = warmup_steps(float(config.lr_warmup), self.plan.steps)
        factor = rate_factor(
            config.lr_scheduler, step, self.plan.steps, warmup, cycles=config.lr_cycles, power=config.lr_power
        )
        rates = {}
        for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = own["base_lr"] * factor
            rates[own["name"]] = group["lr"]
        return rates

    def _write(self, epoch: int, step: int, facts: Facts) -> tuple[Path, str]:
        step_text = {"train": {**self.config.settings(), "epoch": epoch}}
        inputs = [
            {"name": self.config.base, "digest": self.base.digest, "kind": "base"},
            *({"name": str(f.path), "digest": self.dataset.digest, "kind": "images"} for f in self.dataset.folders),
        ]
        written = write(
            self.network.deltas(), self.folder.epoch(epoch), family=self.base.family,
            metadata=header(facts, epoch, step), dtype=DTYPES[self.config.dtype],
            provenance=Provenance(step_text, self.folder.owner, inputs), force=self.config.force,
            alpha=self.config.network_alpha,
        )  # fmt: skip
        return written.path, written.digest

    def _save(self, epoch: int, step: int, facts: Facts, losses: list[float]) -> None:
        save_state(self.folder.state, State(
            epoch, step, self.network.state(), self.optimizer.state_dict(), self.scaler.state_dict(),
            self.config.settings(), self.base.digest, self.dataset.digest, facts.started_at, facts.session, losses,
        ))  # fmt: skip

    def _resumed(self) -> State | None:
        state = load_state(self.folder.state) if self.config.resume else None
        if state is None:
            return None
        check_resumable(state, self.config.settings(), self.base.digest, self.dataset.digest)
        self.network.load(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)
        return state

    def _facts(self, state: State | None) -> Facts:
        session = seeds.derived(self.config.seed, self.config.settings(), self.dataset.digest) & 0xFFFFFFFF
        return Facts(self.config, self.base, self.dataset, self.kind.name, self.plan.batches_per_epoch, self.plan.steps,
                     state.started_at if state else now(), state.session if state else session)  # fmt: skip

    def _latents(self, progress: bool) -> LatentStore:
        """Encode every image in full precision; then the frozen parts take the precision they are trained in."""
        store = LatentStore(self.base, self.dataset, cache=self.config.cache_latents)
        if self.config.cache_latents:
            with _tqdm(progress, total=store.count(), desc="latents", unit="image") as bar:
                store.fill(bar.update)
            self.base.vae.to("cpu")
        with quiet():
            for part in (self.base.unet, *self.base.text_encoders):
                part.to(self.kind.compute)
        return store

    @contextlib.contextmanager
    def _bar(self, progress: bool, step: int) -> Iterator[Any]:
        with _tqdm(progress, total=self.plan.steps, initial=step, unit="step") as bar:
            yield bar


def _tqdm(progress: bool, **settings: Any) -> Any:
    return tqdm(file=sys.stderr, disable=None if progress else True, dynamic_ncols=True, **settings)


def _groups(network: Network, unet_lr: float, te_lr: float) -> list[dict[str, Any]]:
    found = []
    for name, rate in (("text_encoder", te_lr), ("unet", unet_lr)):
        factors = network.parameters(name) if rate else []
        if factors:
            found.append({"params": factors, "lr": rate, "base_lr": rate, "name": name})
    return found


def _chunks(batches: Sequence[Sequence[Sample]], size: int) -> Iterator[Sequence[Sequence[Sample]]]:
    for start in range(0, len(batches), size):
        yield batches[start : start + size]


def _at_base_resolution(dataset: Dataset, config: TrainConfig, base: Base) -> Dataset:
    height, width = base.resolution
    return dataset if config.resolution else dataset.at(config, (width, height))


def _check_base(base: Base, config: TrainConfig) -> None:
    if base.family not in ("sd1", "sd2"):
        raise TrainingError(f"{config.base} is of the family {base.family}; SD 1.x and SD 2.x bases can be trained yet")
    layers = base.text_encoder.config.num_hidden_layers
    if config.clip_skip > layers:
        raise TrainingError(f"clip_skip {config.clip_skip} is above the {layers} layers of the base's text encoder")


def _diverged(what: str, kind: Precision) -> str:
    remedy = "lower the learning rate" + ("" if kind.name == "no" else " or train with --mixed-precision no")
    return f"training diverged: {what}; {remedy}; the epochs before it are whole"
