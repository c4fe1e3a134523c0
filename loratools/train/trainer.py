"""A whole run: from a config to one file an epoch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.files.metadata import guard_overwrite
from loratools.adapter.files.tuned_model import note_base
from loratools.base.vae_path import find_vae
from loratools.dtypes import torch_dtype
from loratools.errors import TrainingError
from loratools.files import locked
from loratools.progress import OnProgress
from loratools.train import seeds
from loratools.train.callbacks import make_callbacks
from loratools.train.callbacks.callback import RunView
from loratools.train.callbacks.progress import bar, progress_bar
from loratools.train.callbacks.records import EpochRecord, OnEpoch, OnNote, OnStep, StepRecord
from loratools.train.callbacks.tensorboard import open_tensorboard
from loratools.train.config.config import TrainConfig
from loratools.train.config.full import file_kind
from loratools.train.data.latents import LatentStore
from loratools.train.distributed import Ranks, join, leave
from loratools.train.drawing.prior import with_prior
from loratools.train.dry_run.report import DryRun
from loratools.train.interrupt import FINISHING, StopRequest
from loratools.train.loop import LoopParts, TrainingLoop
from loratools.train.network.full import FullWeights
from loratools.train.network.network import Network
from loratools.train.output.adapter_file import AdapterFile
from loratools.train.output.diffusers_folder import guard_folder
from loratools.train.output.full_file import FullFile
from loratools.train.output.header import HeaderFacts, now
from loratools.train.output.log import NoLog, RunLog
from loratools.train.output.run_folder import RunFolder
from loratools.train.output.saved import RunFile
from loratools.train.output.state import Position, State, check_resumable, load_state
from loratools.train.output.writer import RunWriter
from loratools.train.setup import RunParts, check_run, plan_run, setup_run
from loratools.train.step.placement import accelerated, offloaded
from loratools.train.step.runner import RunnerParts, StepRunner
from loratools.train.step.step import DenoisingStep

__all__ = ["EpochRecord", "OnEpoch", "OnNote", "OnStep", "RunResult", "StepRecord", "dry_run", "train"]


@dataclass(frozen=True)
class RunResult:
    """What a run left behind. ``losses`` is the mean loss of each epoch, in order; ``steps`` the optimiser's.

    ``wrote`` is False in those of several processes that left the writing, and the messages, to the first.
    """

    name: str
    epochs: list[Path]
    log: Path
    state: Path
    losses: list[float]
    steps: int
    seconds: float
    dry_run: DryRun | None  # None for a run that was already finished
    cached: bool = False
    wrote: bool = True


def dry_run(config: TrainConfig, notes: Sequence[str] = ()) -> DryRun:
    """What :func:`train` would do; reads the base and the images, writes nothing.

    Args:
        notes: as for :func:`train`.
    Raises:
        LoratoolsError: everything that :func:`train` finds wrong before its first step, but for what this machine
            lacks, which is a warning of the plan.
    """
    return plan_run(config, notes)


def train(
    config: TrainConfig,
    *,
    notes: Sequence[str] = (),
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    on_note: OnNote | None = None,
    on_progress: OnProgress | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> RunResult:
    """Train a LoRA, or all weights of the base, and write ``OUT/NAME-000001.safetensors`` and so on: a file an epoch.

    Data order, captions, noise and timesteps are functions of the seed and of where in the run they are used, so a
    run on a CPU repeats bit for bit, and one that was killed and resumed gives the bytes of one that was not.

    Args:
        config: see :func:`loratools.train.config.read.read_config`.
        notes: what a person should know of the config's file, which come before those of the run.
        progress: bars on stderr, if that is a terminal.
        on_epoch: called when an epoch's file and state are on disk.
        on_step: called after every optimiser step.
        on_note: called, before anything is written, with each of the notes.
        on_progress: called with (steps done, all steps) after every optimiser step.
        recipe: the recipe that the run is of, for the files' headers.
    Raises:
        DatasetError, BaseModelError: for images, captions or a base that cannot be used.
        FileError: if the output is someone else's, or cannot be written.
        TrainingError: for settings that cannot train, or a loss that is not a number; finished epochs stay.
        Interrupted: after a first Ctrl-C, when the step is done and the state saved.
    """
    ranks, device = join(config.device)
    try:
        config = config.model_copy(update={"device": device})
        before = partial(_check_before_drawing, config, ranks)
        config = with_prior(config, ranks, device, before=before, bar=progress and ranks.main)
        parts = setup_run(config, ranks, notes)
        if on_note is not None and ranks.main:
            for note in parts.dry_run.notes:
                on_note(note)
        hear = on_step if on_progress is None else _with_progress(on_step, on_progress, parts.dry_run.steps)
        return Trainer(parts, progress=progress and ranks.main, recipe=recipe).run(on_epoch, hear)
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"{config.name} does not fit the memory of {device}; lower batch_size or resolution, or set "
            "gradient_checkpointing: true, optimizer: AdamW8bit, or te_lr: 0"
        ) from None
    finally:
        if device.startswith("cuda"):
            torch.cuda.empty_cache()  # for the next run of a queue
        leave(ranks)


def _check_before_drawing(config: TrainConfig, ranks: Ranks) -> None:
    """Raise what would end the run once its class pictures are drawn, which may take hours."""
    if ranks.main:
        guard_files(RunFolder(config.out, config.name), config)
    check_run(config, ranks)


def _with_progress(on_step: OnStep | None, on_progress: OnProgress, steps: int) -> OnStep:
    """``on_step``, and ``on_progress`` for a run of so many steps."""

    def hear(record: StepRecord) -> None:
        if on_step is not None:
            on_step(record)
        on_progress(record.step, steps)

    return hear


class Trainer:
    """Runs what :func:`loratools.train.setup.setup_run` has set up.

    Args:
        progress: whether this process shows bars.
        recipe: the recipe that the run is of, for the files' headers.
    """

    def __init__(self, parts: RunParts, *, progress: bool = False, recipe: Mapping[str, Any] | None = None) -> None:
        self._parts, self._progress, self._recipe = parts, progress, recipe
        self._folder = RunFolder(parts.config.out, parts.config.name)

    def run(self, on_epoch: OnEpoch | None = None, on_step: OnStep | None = None) -> RunResult:
        """Everything from the latents to the last file."""
        parts, folder = self._parts, self._folder
        with self._owned_files():
            begun = time.perf_counter()
            state = self._resumed()
            position = state.position() if state else Position()
            if position.epoch < parts.config.epochs:
                self._train(state, position, on_epoch, on_step)
            return RunResult(
                name=parts.config.name,
                epochs=[path for path in folder.epochs() if int(path.stem[-6:]) <= parts.config.epochs],
                log=folder.log,
                state=folder.state,
                losses=position.losses,
                steps=position.step,
                seconds=time.perf_counter() - begun,
                dry_run=parts.dry_run,
                wrote=parts.ranks.main,
            )

    @contextlib.contextmanager
    def _owned_files(self) -> Iterator[None]:
        """Hold the lock on the run's files, checked and swept; only the process that writes does, the others wait."""
        config, ranks = self._parts.config, self._parts.ranks
        with contextlib.ExitStack() as stack:
            if ranks.main:
                stack.enter_context(locked(self._folder.out / config.name))
                guard_files(self._folder, config)
                self._folder.sweep()
            ranks.wait()
            yield

    def _train(self, state: State | None, position: Position, on_epoch: OnEpoch | None, on_step: OnStep | None) -> None:
        parts, ranks = self._parts, self._parts.ranks
        store, facts = self.latents(), self._header_facts(state)
        ranks.wait()  # until every process has read the state
        if state is None and ranks.main:
            self._folder.clear()
        if isinstance(parts.trained.network, FullWeights) and ranks.main:
            note_base(self._folder.base, parts.trained.network.start.checkpoint.path)
        tensorboard = open_tensorboard(parts.config, position.step, writes=ranks.main)
        with (
            self._log(state) as log,
            tensorboard as board,
            attached(parts),
            StopRequest(ranks, say=FINISHING if self._progress else "", file=self._folder.stop) as stop,
        ):
            step = DenoisingStep(parts.base, parts.trained.network, parts.schedule, parts.config, parts.precision)
            runner = make_runner(parts, store, step)
            writer = RunWriter(
                self._folder,
                facts,
                parts.trained,
                self._inputs(),
                parts.base_adapters.base_digest,
                run_file(parts),
                log,
                recipe=self._recipe,
                ancestors=self._ancestors(),
                end=run_file(parts, end=True) if parts.config.save_end is not None else None,
            )
            device, total = parts.precision.device, parts.dry_run.steps
            with progress_bar(self._progress, device, total=total, done=position.step) as steps_bar:
                callbacks = make_callbacks(self._view(store, step, log), steps_bar, board, parts.samples, total)
                for callback in callbacks:
                    callback.load_state_dict(state.watched.get(callback.name, {}) if state else {})
                loop = LoopParts(
                    config=parts.config,
                    ranks=ranks,
                    precision=parts.precision,
                    runner=runner,
                    trained=parts.trained,
                    writer=writer,
                    callbacks=callbacks,
                    stop=stop,
                    steps_per_epoch=parts.dry_run.steps_per_epoch,
                )
                TrainingLoop(loop, position).run(on_epoch, on_step)

    def _view(self, store: LatentStore, step: DenoisingStep, log: RunLog | NoLog) -> RunView:
        parts = self._parts
        return RunView(
            config=parts.config,
            ranks=parts.ranks,
            folder=self._folder,
            base=parts.base,
            dataset=parts.dataset,
            store=store,
            step=step,
            precision=parts.precision,
            log=log,
            saved_weights=parts.trained.saved_weights,
            scaled_weights=parts.trained.network.scaled,
        )

    @contextlib.contextmanager
    def _log(self, state: State | None) -> Iterator[RunLog | NoLog]:
        parts = self._parts
        first = {"settings": parts.config.settings(), "steps": parts.dry_run.steps}
        log = RunLog(self._folder, first, state.step if state else None) if parts.ranks.main else NoLog()
        with contextlib.closing(log):
            yield log

    def _inputs(self) -> tuple[dict[str, str], ...]:
        """Name, digest and kind of everything that goes into a file."""
        parts = self._parts
        return (
            {"name": parts.config.base, "digest": parts.base.digest, "kind": "base"},
            *({"name": str(f.path), "digest": parts.dataset.digest, "kind": "images"} for f in parts.dataset.folders),
            *parts.base_adapters.inputs,
            *parts.trained.network.inputs,
        )

    def _ancestors(self) -> dict[str, Mapping[str, Any]]:
        """How the LoRAs that the run builds on were made, by digest."""
        return {**self._parts.base_adapters.ancestors, **self._parts.trained.network.ancestors}

    def _resumed(self) -> State | None:
        """The state that the config asks to go on from, put into the network and the optimiser."""
        parts = self._parts
        state = load_state(self._folder.state) if parts.config.resume else None
        if state is None:
            return None
        check_resumable(state, parts.config.settings(), parts.base_adapters.base_digest, parts.dataset.digest)
        state.restore(parts.trained)
        return state

    def _header_facts(self, state: State | None) -> HeaderFacts:
        parts, config = self._parts, self._parts.config
        session = seeds.derived(config.seed, config.settings(), parts.dataset.digest) & 0xFFFFFFFF
        return HeaderFacts(
            config=config,
            base=parts.base,
            dataset=parts.dataset,
            precision=parts.precision.name,
            batches_per_epoch=parts.dry_run.batches_per_epoch,
            total_steps=parts.dry_run.steps,
            started_at=state.started_at if state else now(),
            session=state.session if state else session,
        )

    def latents(self) -> LatentStore:
        """The latents' store, filled if the config keeps latents."""
        parts = self._parts
        store = LatentStore(parts.base, parts.dataset, cache=parts.config.cache_latents)
        if parts.config.cache_latents:
            with offloaded(parts.base), bar(self._progress, total=store.count(), desc="latents", unit="image") as shown:
                store.fill(shown.update)
                parts.base.vae.to("cpu")
        return store


def run_file(parts: RunParts, *, end: bool = False) -> RunFile:
    """What an epoch's file is, or that of the end."""
    config, network = parts.config, parts.trained.network
    dtype = torch_dtype(config.dtype)
    if isinstance(network, Network):
        return AdapterFile(network, parts.base.family, dtype)
    if not isinstance(network, FullWeights):
        raise TypeError(f"there is no file of a {type(network).__name__}")
    kind = file_kind(config.save_end or config.save) if end else file_kind(config.save)
    vae = None if config.vae is None else find_vae(config.vae, offline=config.offline)
    return FullFile(kind, network, dtype, parts.base, parts.base.digest, vae)


def guard_files(folder: RunFolder, config: TrainConfig) -> None:
    """Raise FileError before any work is done if the place of one of the run's files is someone else's."""
    folder.guard(force=config.force)
    if config.save_end is None:
        return
    if config.save_end == "diffusers":
        guard_folder(folder.end(folder=True), folder.owner, config.force)
    else:
        guard_overwrite(folder.end(folder=False), folder.owner, config.force)


@contextlib.contextmanager
def attached(parts: RunParts) -> Iterator[None]:
    """Inside the block the network is in its base, and the base is set up for speed; afterwards all is as it was.

    PyTorch's own generators are afterwards as they were before, too.
    """
    devices = [parts.precision.device] if parts.precision.device.type == "cuda" else []
    with parts.trained.network.attached(), accelerated(parts.base, parts.config), torch.random.fork_rng(devices):
        yield


def make_runner(parts: RunParts, store: LatentStore, step: DenoisingStep) -> StepRunner:
    """What runs the optimiser steps of the run."""
    return StepRunner(
        RunnerParts(
            config=parts.config,
            ranks=parts.ranks,
            precision=parts.precision,
            base=parts.base,
            dataset=parts.dataset,
            store=store,
            trained=parts.trained,
            step=step,
            steps=parts.dry_run.steps,
        )
    )
