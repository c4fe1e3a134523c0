"""From batches of samples to optimiser steps.

Batches are prepared ahead in a thread, steps are launched without waiting for the device, and losses are read from it
for many steps at once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.errors import DatasetError
from loratools.train import seeds
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset, Sample
from loratools.train.data.latents import LatentStore, Moments
from loratools.train.data.prefetch import Prefetcher
from loratools.train.distributed import Ranks
from loratools.train.optim.lr_schedule import LrSchedule
from loratools.train.optim.optimizers import effective_rates
from loratools.train.optim.trainable import Trainable
from loratools.train.step.batch import Inputs, Micro, Outcome, size_conditioning
from loratools.train.step.cuda_graph import device_rates, set_rate
from loratools.train.step.executor import Executor
from loratools.train.step.precision import Precision
from loratools.train.step.step import DenoisingStep
from loratools.train.step.text_states import CaptionEncoder
from loratools.train.step.update import make_update

_NO_MOMENTS = Moments(torch.empty(0), torch.empty(0))

Group = Sequence[Sequence[Sample]]  # the micro-batches of one optimiser step


@dataclass(frozen=True)
class FinishedStep:
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


@dataclass(frozen=True)
class RunnerParts:
    """What a :class:`StepRunner` works with.

    Attributes:
        step: the forward pass, over a network that is attached to ``base``.
        steps: optimiser steps in the whole run.
    """

    config: TrainConfig
    ranks: Ranks
    precision: Precision
    base: Base
    dataset: Dataset
    store: LatentStore
    trained: Trainable
    step: DenoisingStep
    steps: int


class StepRunner:
    """The optimiser steps of a run, epoch by epoch.

    Attributes:
        executor: what runs the steps.
    """

    def __init__(self, parts: RunnerParts) -> None:
        config, device = parts.config, parts.precision.device
        self._config, self._base, self._ranks = config, parts.base, parts.ranks
        self._dataset, self._store = parts.dataset, parts.store
        self._optimizer, self._on_gpu = parts.trained.optimizer, device.type == "cuda"
        self._lr_schedule = LrSchedule.of(config, parts.steps)
        self._captions = CaptionEncoder(parts.base, config, parts.steps)
        device_rates(self._optimizer, device)
        # recomputed dropout restores generators on the host, which no graph can hold
        redrawn = config.drops and config.gradient_checkpointing
        update = make_update(
            parts.trained.network,
            self._optimizer,
            parts.trained.scaler,
            clip=config.max_grad_norm,
            in_backward=config.steps_in_backward(parts.ranks.world),
            after=parts.step.limit_norms(),
        )
        self.executor = Executor(
            partial(parts.step.run, scaler=parts.trained.scaler, passes=update.passes),
            update,
            device,
            parts.ranks,
            accumulates=config.gradient_accumulation > 1,
            mode="off" if redrawn else config.graph,
        )

    def epoch(
        self,
        number: int,
        first: int,
        *,
        skip: int = 0,
        read_after: Callable[[int], bool] | None = None,
        after: Callable[[int], None] | None = None,
    ) -> Iterator[FinishedStep]:
        """Run epoch ``number``, whose first step is ``first`` + 1, without its first ``skip`` steps.

        Losses are read every ``log_every`` steps on a GPU, and after every step for which ``read_after`` returns True:
        when such a step is yielded, no later one has run. ``after`` is called with a step's number when it has been
        launched, and may not wait for the device.

        Raises:
            DatasetError: for an image that cannot be read any more, after the steps before it have been yielded.
        """
        groups = self.groups(number)
        self._expect(groups[skip:], self._config.epochs - number)
        waiting: list[_Pending] = []
        every = self._config.log_every if self._on_gpu else 1
        begun = time.perf_counter()
        numbered = enumerate(groups[skip:], first + skip)
        with Prefetcher(numbered, self._prepare, self._config.prefetch) as prefetcher:
            try:
                for prepared in prefetcher:
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
        text = self._captions.tokenized([sample.caption for sample in batch]) if learns_text else None
        weights = self._dataset.weights(batch)
        inputs = Inputs(
            moments.mean,
            moments.deviation,
            tokens=None if text is None else text.tokens,
            caption_weights=None if text is None else text.caption_weights,
            weight=None if weights is None else torch.tensor(weights),
            mask=self._store.masks(batch),
            time_ids=size_conditioning(self._base, self._dataset, batch),
        )
        return inputs.pinned() if self._on_gpu else inputs

    def _finished(self, raw: _Raw) -> Inputs:
        """The inputs with what needs the device: latents that are not cached, and states of frozen text encoders."""
        inputs = raw.inputs
        if raw.pixels is not None:
            moments = self._store.encoded(raw.pixels)
            inputs = replace(inputs, mean=moments.mean, deviation=moments.deviation)
        if inputs.tokens is not None or not raw.own:
            return inputs
        return inputs.with_text(self._captions.encoded([sample.caption for sample in raw.own]))

    def _set_rates(self, step: int) -> dict[str, float]:
        factor = self._lr_schedule.factor(step)
        rates = {}
        for group in self._optimizer.param_groups:
            frozen = group["part"] != "unet" and not self._captions.learns(step)
            if frozen:  # optimisers that move factors even at a rate of 0 skip those without gradients
                for parameter in group["params"]:
                    parameter.grad = None
            rates[group["name"]] = 0.0 if frozen else group["base_lr"] * factor
            set_rate(group, rates[group["name"]])
        return effective_rates(self._optimizer, rates)

    def _expect(self, groups: Sequence[Group], epochs_left: int) -> None:
        """Give the executor the number of uses of each (bucket, rows) that are still to come."""
        scale = self._base.vae_scale_factor
        sizes: Counter[Hashable] = Counter()
        for batch in (batch for group in groups for batch in group):
            width, height = self._dataset.items[batch[0].item].bucket
            sizes[(width // scale, height // scale), len(batch)] += 1
        self.executor.expect({key: count * (1 + epochs_left) for key, count in sizes.items()})


def _read(waiting: Sequence[_Pending], begun: float) -> Iterator[FinishedStep]:
    """Read the losses of all pending steps at once: the only place where the host waits for the device."""
    if not waiting:
        return
    losses = torch.stack([pending.outcome.loss for pending in waiting]).tolist()
    seconds = (time.perf_counter() - begun) / len(waiting)
    for pending, loss in zip(waiting, losses, strict=True):
        prepared = pending.prepared
        own = tuple(sample for raw in prepared.micros for sample in raw.own)
        yield FinishedStep(
            step=prepared.step + 1,
            loss=loss,
            rates=pending.rates,
            seconds=seconds,
            samples=sum(len(batch) for batch in prepared.group),
            own=own,
            losses=pending.outcome.losses,
            timesteps=pending.outcome.timesteps,
        )
