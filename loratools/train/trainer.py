"""The run: from a config to one file an epoch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from loratools.base.load import load_base, pick_device
from loratools.base.model import Base
from loratools.base.vae import load_vae
from loratools.errors import TrainingError
from loratools.files import locked
from loratools.train import seeds
from loratools.train.callbacks import make_callbacks
from loratools.train.callbacks.callback import RunView
from loratools.train.callbacks.progress import bar, progress_bar
from loratools.train.callbacks.records import EpochRecord, OnEpoch, OnNote, OnStep, StepRecord
from loratools.train.callbacks.sample_prompts import read_sample_prompts
from loratools.train.callbacks.tensorboard import check_tensorboard, open_tensorboard
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset
from loratools.train.data.latents import LatentStore
from loratools.train.data.read import read_dataset
from loratools.train.distributed import Ranks, join, leave
from loratools.train.dry_run.plan import TrainPlan, fitted, make_plan
from loratools.train.interrupt import StopRequest
from loratools.train.loop import Session
from loratools.train.network.base_adapters import BaseAdapters
from loratools.train.network.ema import Ema
from loratools.train.network.network import Network
from loratools.train.optim.optimizers import build_optimizer, has_modes
from loratools.train.optim.param_groups import parameter_groups
from loratools.train.output.header import Facts, now
from loratools.train.output.log import NoLog, RunLog
from loratools.train.output.run_folder import RunFolder
from loratools.train.output.state import Position, State, check_resumable, load_state
from loratools.train.output.writer import Writer
from loratools.train.step import objective
from loratools.train.step.placement import accelerated, parked, place
from loratools.train.step.runner import Engine
from loratools.train.step.step import Step, precision

__all__ = ["EpochRecord", "OnEpoch", "OnNote", "OnStep", "RunResult", "StepRecord", "plan", "train"]


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


def plan(config: TrainConfig) -> TrainPlan:
    """What :func:`train` would do; reads the base and the images, writes nothing.

    Raises:
        LoratoolsError: everything that :func:`train` finds wrong before its first step.
    """
    return _Run(config).plan


def train(
    config: TrainConfig,
    *,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    on_note: OnNote | None = None,
) -> RunResult:
    """Train a LoRA and write ``OUT/NAME-000001.safetensors`` and so on, one for every epoch.

    Data order, captions, noise and timesteps are functions of the seed and of where in the run they are used, so a
    run on a CPU repeats bit for bit, and one that was killed and resumed gives the bytes of one that was not.

    Args:
        config: see :func:`loratools.train.config.read.read_config`.
        progress: bars on stderr, if that is a terminal.
        on_epoch: called when an epoch's file and state are on disk.
        on_step: called after every optimiser step.
        on_note: called, before anything is written, with each of the plan's notes.
    Raises:
        DatasetError, BaseModelError: for images, captions or a base that cannot be used.
        FileError: if the output is someone else's, or cannot be written.
        TrainingError: for settings that cannot train, or a loss that is not a number; finished epochs stay.
        Interrupted: after a first Ctrl-C, when the step is done and the state saved.
    """
    ranks, device = join(config.device)
    try:
        run = _Run(config.model_copy(update={"device": device}), ranks)
        if on_note is not None and ranks.main:
            for note in run.plan.notes:
                on_note(note)
        with run.ours():
            return run.go(progress and ranks.main, on_epoch, on_step)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"{config.name} does not fit the memory of {device}; lower batch_size or resolution, or set "
            "gradient_checkpointing: true, optimizer: AdamW8bit, or te_lr: 0"
        ) from None
    finally:
        if device.startswith("cuda"):
            torch.cuda.empty_cache()  # for the next run of a queue
        leave(ranks)


class _Run:
    """One run's parts, built and checked before anything is written."""

    def __init__(self, config: TrainConfig, ranks: Ranks = Ranks()) -> None:  # noqa: B008  (frozen)
        self.config, self.ranks = config, ranks
        self.folder = RunFolder(config.out, config.name)
        device = pick_device(config.device)
        self.kind = precision(config, device)
        check_tensorboard(config)
        dataset = read_dataset(config, config.resolution or (512, 512))
        # in full precision for the VAE, and so not on the GPU before the rest has been cast
        self.base = load_base(config.base, device="cpu", dtype="fp32", offline=config.offline)
        if config.vae is not None:
            self.base.vae = load_vae(config.vae, self.base.vae, offline=config.offline)
        self.config, self.dataset = fitted(config, _at_base_resolution(dataset, config, self.base))
        config = self.config
        _check_base(self.base, config)
        notes = [*config.notes]
        self.samples = read_sample_prompts(config, self.base, notes)
        self.config = config = config.noted(notes)
        self.active = BaseAdapters(config.base_adapters, self.base)
        self.active.merge()
        place(self.base, self.kind)
        self.schedule = objective.schedule(self.base.scheduler_config, config).to(device)
        unet_lr, te_lr = config.learned_rates()
        self.network = Network(
            self.base, config.dim, config.alpha, config.seed, unet=unet_lr > 0, text=te_lr > 0, options=config
        )
        self.groups = parameter_groups(self.network, config)
        self.optimizer = build_optimizer(config, self.groups)
        self.ema = _average(config, self.optimizer)
        self.scaler = self.kind.scaler()
        self.plan = make_plan(config, self.base, self.dataset, self.network.sizes, self.kind.compute.itemsize)

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """Hold the run's files, checked and swept; only the process that writes does, the others follow it."""
        with contextlib.ExitStack() as stack:
            if self.ranks.main:
                stack.enter_context(locked(self.folder.out / self.config.name))
                self.folder.guard(force=self.config.force)
                self.folder.sweep()
            self.ranks.wait()
            yield

    def go(self, progress: bool, on_epoch: OnEpoch | None, on_step: OnStep | None) -> RunResult:
        """Everything from the latents to the last file."""
        begun = time.perf_counter()
        state = self._resumed()
        position = state.position() if state else Position()
        if position.epoch < self.config.epochs:
            self._train(state, position, progress, on_epoch, on_step)
        paths = [path for path in self.folder.epochs() if int(path.stem[-6:]) <= self.config.epochs]
        return RunResult(
            self.config.name,
            paths,
            self.folder.log,
            self.folder.state,
            position.losses,
            position.step,
            time.perf_counter() - begun,
            self.plan,
            wrote=self.ranks.main,
        )

    def _train(
        self, state: State | None, position: Position, progress: bool, on_epoch: OnEpoch | None, on_step: OnStep | None
    ) -> None:
        store, facts = self._latents(progress), self._facts(state)
        self.ranks.wait()  # the state has been read
        if state is None and self.ranks.main:
            self.folder.clear()
        curves = open_tensorboard(self.config, position.step, writes=self.ranks.main)
        with self._log(state) as log, curves as shown_board, self._training(), StopRequest(self.ranks) as stop:
            engine = self._engine(store)
            writer = Writer(
                self.folder,
                facts,
                self.network,
                self.ema,
                self.optimizer,
                self.scaler,
                self._inputs(),
                self.active.base_digest,
                log,
            )
            view = RunView(
                self.config,
                self.ranks,
                self.folder,
                self.base,
                self.network,
                self.dataset,
                store,
                engine.stepper,
                self.kind,
                log,
                writer.saved_weights,
            )
            with progress_bar(progress, self.kind.device, total=self.plan.steps, done=position.step) as shown:
                callbacks = make_callbacks(view, shown, shown_board, self.samples, self.plan.steps)
                for callback in callbacks:
                    callback.load_state_dict(state.watched.get(callback.name, {}) if state else {})
                Session(
                    self.config,
                    self.ranks,
                    self.kind,
                    position,
                    self.plan.steps_per_epoch,
                    engine,
                    self.network,
                    self.ema,
                    writer,
                    callbacks,
                    stop,
                ).run(on_epoch, on_step)

    def _engine(self, store: LatentStore) -> Engine:
        stepper = Step(self.base, self.network, self.schedule, self.config, self.kind)
        return Engine(
            self.config,
            self.base,
            stepper,
            self.optimizer,
            self.scaler,
            self.dataset,
            store,
            self.kind,
            self.ranks,
            self.plan.steps,
        )

    @contextlib.contextmanager
    def _training(self) -> Iterator[None]:
        """The network in its base, the base set up for speed, and the process' generators as they were afterwards."""
        devices = [self.kind.device] if self.kind.device.type == "cuda" else []
        with self.network.attached(), accelerated(self.base, self.config), torch.random.fork_rng(devices):
            yield

    @contextlib.contextmanager
    def _log(self, state: State | None) -> Iterator[RunLog | NoLog]:
        first = {"settings": self.config.settings(), "steps": self.plan.steps}
        keep = state.step if state else None
        log = RunLog(self.folder, first, keep) if self.ranks.main else NoLog()
        with contextlib.closing(log):
            yield log

    def _inputs(self) -> list[dict[str, str]]:
        """Name, digest and kind of all that goes into a file."""
        return [
            {"name": self.config.base, "digest": self.base.digest, "kind": "base"},
            *({"name": str(f.path), "digest": self.dataset.digest, "kind": "images"} for f in self.dataset.folders),
            *self.active.inputs,
            *([self.network.start.input] if self.network.start else []),
        ]

    def _resumed(self) -> State | None:
        state = load_state(self.folder.state) if self.config.resume else None
        if state is None:
            return None
        check_resumable(state, self.config.settings(), self.active.base_digest, self.dataset.digest)
        self.network.load(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        self.scaler.load_state_dict(state.scaler)
        if self.ema is not None and state.ema is not None:
            self.ema.load(state.ema)
        return state

    def _facts(self, state: State | None) -> Facts:
        session = seeds.derived(self.config.seed, self.config.settings(), self.dataset.digest) & 0xFFFFFFFF
        return Facts(
            self.config,
            self.base,
            self.dataset,
            self.kind.name,
            self.plan.batches_per_epoch,
            self.plan.steps,
            state.started_at if state else now(),
            state.session if state else session,
        )

    def _latents(self, progress: bool) -> LatentStore:
        """Encode every image in full precision."""
        store = LatentStore(self.base, self.dataset, cache=self.config.cache_latents)
        if self.config.cache_latents:
            with parked(self.base), bar(progress, total=store.count(), desc="latents", unit="image") as shown:
                store.fill(shown.update)
                self.base.vae.to("cpu")
        return store


def _average(config: TrainConfig, optimizer: torch.optim.Optimizer) -> Ema | None:
    if config.ema is None:
        return None
    if has_modes(optimizer):
        raise TrainingError(f"{type(optimizer).__name__} saves an average of its own; leave ema out")
    return Ema([factor for group in optimizer.param_groups for factor in group["params"]], config.ema)


def _at_base_resolution(dataset: Dataset, config: TrainConfig, base: Base) -> Dataset:
    height, width = base.resolution
    return dataset if config.resolution else dataset.at(config, (width, height))


def _check_base(base: Base, config: TrainConfig) -> None:
    layers: int = min(encoder.config.num_hidden_layers for encoder in base.text_encoders)
    if config.clip_skip > layers:
        raise TrainingError(f"clip_skip {config.clip_skip} is above the {layers} layers of the base's text encoder")
