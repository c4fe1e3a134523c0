"""From batches of samples to optimiser steps: prepared ahead, run without waiting for the device, read in bunches."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.errors import DatasetError
from loratools.train import seeds
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset, Sample
from loratools.train.data.latents import LatentStore, Moments
from loratools.train.data.prefetch import Feed
from loratools.train.distributed import Ranks
from loratools.train.optim.lr_schedule import scheduled
from loratools.train.optim.optimizers import effective_rates
from loratools.train.step import objective
from loratools.train.step.executor import Executor, Micro, Outcome, device_rates, set_rate
from loratools.train.step.step import Inputs, Precision, Step
from loratools.train.step.text_states import Captioner

_NO_MOMENTS = Moments(torch.empty(0), torch.empty(0))

Group = Sequence[Sequence[Sample]]  # the micro-batches of one optimiser step


@dataclass(frozen=True)
class Done:
    """One optimiser step after its loss was read.

    ``samples`` are the step's; ``losses`` and ``timesteps`` are those of ``own``, this process' part of them.
    ``seconds`` is the mean over the steps that were read together.
    """

    step: int
    loss: float
    rates: dict[str, float]
    seconds: float
    samples: int
    own: tuple[Sample, ...]
    losses: Tensor
    timesteps: Tensor


@dataclass(frozen=True)
class _Raw:
    """A micro-batch as far as it can be prepared without the device; ``pixels`` where latents are not kept."""

    inputs: Inputs
    micro: Micro
    own: list[Sample]
    pixels: Tensor | None


@dataclass(frozen=True)
class _Prepared:
    step: int
    group: Group
    micros: list[_Raw]


@dataclass(frozen=True)
class _Pending:
    prepared: _Prepared
    rates: dict[str, float]
    outcome: Outcome


class Engine:
    """The steps of a run, over a network that is attached to its base.

    Args:
        optimizer: each of its groups has a ``base_lr``, a ``name`` and a ``part``.
        steps: optimiser steps in the whole run.

    Attributes:
        stepper: its forward pass.
        executor: what runs the steps.
    """

    def __init__(
        self,
        config: TrainConfig,
        base: Base,
        stepper: Step,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        dataset: Dataset,
        store: LatentStore,
        kind: Precision,
        ranks: Ranks,
        steps: int,
    ) -> None:
        self._config, self._base, self.stepper, self._kind, self._ranks = config, base, stepper, kind, ranks
        self._optimizer, self._scaler, self._dataset, self._store, self._steps = (
            optimizer,
            scaler,
            dataset,
            store,
            steps,
        )
        self._timesteps = int(base.scheduler_config.get("num_train_timesteps", 1000))
        self._captions = Captioner(base, config, steps)
        device_rates(optimizer, kind.device)
        redrawn = config.drops and config.gradient_checkpointing  # by generators that are set on the host
        self.executor = Executor(
            self._work,
            scaler,
            optimizer,
            kind.device,
            ranks,
            clip=config.max_grad_norm,
            accumulates=config.gradient_accumulation > 1,
            mode="off" if redrawn else config.graph,
            after=stepper.limit_norms(),
        )

    def epoch(
        self,
        number: int,
        first: int,
        *,
        skip: int = 0,
        read_after: Callable[[int], bool] | None = None,
        after: Callable[[int], None] | None = None,
    ) -> Iterator[Done]:
        """Run epoch ``number``, whose first step is ``first`` + 1, without its first ``skip`` steps.

        Losses are read every ``log_every`` steps on a GPU, and after every step for which ``read_after`` says so: when
        such a step is yielded, no later one has run. ``after`` is called with a step's number when it has been
        launched, and may not wait for the device.

        Raises:
            DatasetError: for an image that cannot be read any more, after the steps before it have been yielded.
        """
        groups = self.groups(number)
        self._expect(groups[skip:], self._config.epochs - number)
        waiting: list[_Pending] = []
        every = self._config.log_every if self._kind.device.type == "cuda" else 1
        begun = time.perf_counter()
        numbered = enumerate(groups[skip:], first + skip)
        with Feed(numbered, self._prepare, self._config.prefetch) as feed:
            try:
                for prepared in feed:
                    rates = self._set_rates(prepared.step)
                    outcome = self.executor.step([(self._finished(raw), raw.micro) for raw in prepared.micros])
                    if after is not None:
                        after(prepared.step + 1)
                    waiting.append(_Pending(prepared, rates, outcome))
                    wanted = read_after is not None and read_after(prepared.step + 1)
                    if wanted or len(waiting) >= every:
                        ready, waiting = waiting, []
                        yield from _read(ready, begun)
                        begun = time.perf_counter()
            except DatasetError:
                yield from _read(waiting, begun)
                raise
            yield from _read(waiting, begun)

    def groups(self, number: int) -> list[Group]:
        """The micro-batches of every optimiser step of epoch ``number``, in order."""
        batches = self._dataset.epoch(number, self._config.seed, self._config.batch_size)
        size = self._config.gradient_accumulation
        return [batches[start : start + size] for start in range(0, len(batches), size)]

    def _work(self, inputs: Inputs, micro: Micro, generator: torch.Generator) -> Outcome:
        shape = (micro.total, *inputs.mean.shape[1:])
        drawn = objective.draw(shape, self._timesteps, self._config, generator)
        mine = drawn.rows(micro.first, micro.last)
        losses = self.stepper.losses(inputs, mine)
        loss = losses.mean() * micro.share
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return Outcome(loss.detach(), losses.detach(), mine.timesteps)

    def _prepare(self, numbered: tuple[int, Group]) -> _Prepared:
        step, group = numbered
        samples = sum(len(batch) for batch in group)
        micros = []
        for index, batch in enumerate(group):
            first, last = self._ranks.rows(len(batch))
            own = list(batch[first:last])
            seed = seeds.derived(self._config.seed, "step", step, index)
            micro = Micro(first, last, len(batch), len(own) / samples, seed)
            shown = own or list(batch[:1])
            pixels = self._store.pixels(shown)
            inputs = self._host_inputs(shown, self._captions.learns(step), kept=pixels is None)
            micros.append(_Raw(inputs, micro, own, pixels))
        return _Prepared(step, group, micros)

    def _host_inputs(self, batch: Sequence[Sample], learns_text: bool, *, kept: bool) -> Inputs:
        moments = self._store.moments(batch) if kept else _NO_MOMENTS
        pin = _pinned if self._kind.device.type == "cuda" else _same
        words = self._captions.words([sample.caption for sample in batch]) if learns_text else None
        own, mask = self._dataset.weights(batch), self._store.masks(batch)
        sizes = [self._dataset.time_ids(sample) for sample in batch] if self._base.family == "sdxl" else None
        return Inputs(
            pin(moments.mean),
            pin(moments.deviation),
            tokens=None if words is None else tuple(pin(ids) for ids in words.tokens),
            emphasis=None if words is None or words.emphasis is None else tuple(pin(each) for each in words.emphasis),
            weight=None if own is None else pin(torch.tensor(own)),
            mask=None if mask is None else pin(mask),
            time_ids=None if sizes is None else pin(torch.tensor(sizes, dtype=torch.float32)),
        )

    def _finished(self, raw: _Raw) -> Inputs:
        """With latents that are not kept and the frozen text encoders' states, which need the device."""
        inputs = raw.inputs
        if raw.pixels is not None:
            moments = self._store.encoded(raw.pixels)
            inputs = replace(inputs, mean=moments.mean, deviation=moments.deviation)
        if inputs.tokens is not None or not raw.own:
            return inputs
        return inputs.with_text(self._captions.encoded([sample.caption for sample in raw.own]))

    def _set_rates(self, step: int) -> dict[str, float]:
        factor = scheduled(self._config, step, self._steps)
        rates = {}
        for group in self._optimizer.param_groups:
            held = group["part"] != "unet" and not self._captions.learns(step)
            if held:  # without gradients, optimisers that would move them at a rate of 0 leave them alone
                for parameter in group["params"]:
                    parameter.grad = None
            rates[group["name"]] = 0.0 if held else group["base_lr"] * factor
            set_rate(group, rates[group["name"]])
        return effective_rates(self._optimizer, rates)

    def _expect(self, groups: Sequence[Group], epochs_left: int) -> None:
        """Tell the executor how often each (bucket, rows) is still to come."""
        scale = self._base.vae_scale_factor
        sizes: Counter[Hashable] = Counter()
        for batch in (batch for group in groups for batch in group):
            width, height = self._dataset.items[batch[0].item].bucket
            sizes[(width // scale, height // scale), len(batch)] += 1
        self.executor.expect({key: count * (1 + epochs_left) for key, count in sizes.items()})


def _read(waiting: Sequence[_Pending], begun: float) -> Iterator[Done]:
    """Read the losses of all that wait at once: the only place where the host waits for the device."""
    if not waiting:
        return
    losses = torch.stack([pending.outcome.loss for pending in waiting]).tolist()
    seconds = (time.perf_counter() - begun) / len(waiting)
    for pending, loss in zip(waiting, losses, strict=True):
        prepared = pending.prepared
        own = tuple(sample for raw in prepared.micros for sample in raw.own)
        yield Done(
            prepared.step + 1,
            loss,
            pending.rates,
            seconds,
            sum(len(batch) for batch in prepared.group),
            own,
            pending.outcome.losses,
            pending.outcome.timesteps,
        )


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.pin_memory()


def _same(tensor: Tensor) -> Tensor:
    return tensor
