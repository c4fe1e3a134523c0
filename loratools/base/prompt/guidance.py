"""What the UNet is told while it denoises: conditionings that may change from step to step, and how they are mixed.

A plain prompt is one conditioning for all steps. Prompt editing (``[a:b:0.5]``) changes it at a step, and ``AND`` gives
one picture several parts, each a UNet row of its own (Liu et al. 2022, Composable Diffusion):
``e = e(negative) + cfg * sum_i w_i (e(part i) - e(negative))``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning, condition
from loratools.errors import PromptError


@dataclass(frozen=True)
class Stage:
    """A conditioning (1, 77 n, c) that holds before step ``until``, counted from 0; the last one holds to the end."""

    until: int
    cond: Conditioning


@dataclass(frozen=True)
class ScheduledConditioning:
    """One conjunct of a prompt: its stages in order, and its weight."""

    stages: tuple[Stage, ...]
    weight: float = 1.0

    def at(self, step: int) -> Conditioning:
        """The conditioning of ``step``."""
        return next((stage.cond for stage in self.stages[:-1] if step < stage.until), self.stages[-1].cond)


@dataclass(frozen=True)
class PromptConditioning:
    """One picture's prompt in parts, or its negative prompt, which always is one part.

    ``whole`` is the text as a negative prompt where that is not its first part: ``AND`` is a word there.
    """

    parts: tuple[ScheduledConditioning, ...]
    whole: ScheduledConditioning | None = None

    @staticmethod
    def plain(cond: Conditioning) -> PromptConditioning:
        """A prompt that is the same (1, 77 n, c) at every step."""
        return PromptConditioning((ScheduledConditioning((Stage(0, cond),)),))

    @property
    def negative(self) -> ScheduledConditioning:
        """What it is as a negative prompt."""
        return self.whole or self.parts[0]

    @property
    def steady(self) -> bool:
        """Whether it has one part of weight 1 that never changes."""
        return len(self.parts) == 1 and self.parts[0].weight == 1 and len(self.parts[0].stages) == 1


def plain_guides(base: Base, texts: Sequence[str], steps: int, clip_skip: int) -> list[PromptConditioning]:
    """Every text as it stands, encoded in one batch under what is patched into the text encoders now."""
    cond = condition(base, texts, clip_skip)
    return [PromptConditioning.plain(cond[n : n + 1]) for n in range(len(texts))]


class Guidance(Protocol):
    """How a batch of b pictures becomes r UNet rows, and the rows' predictions become the b pictures' again."""

    def owners(self, count: int) -> list[int]:
        """The picture, of ``count``, that each of the r rows belongs to."""
        ...

    def spread(self, latents: Tensor) -> Tensor:
        """(b, 4, h, w) -> (r, 4, h, w)."""
        ...

    def at(self, step: int) -> Conditioning:
        """The r rows' conditioning at ``step``, from 0; the same object as long as nothing changes."""
        ...

    def mix(self, predicted: Tensor, cfg: float) -> Tensor:
        """(r, 4, h, w) -> (b, 4, h, w)."""
        ...

    def without(self, predicted: Tensor) -> Tensor:
        """(r, 4, h, w) -> (b, 4, h, w): what the negative prompts alone predict."""
        ...


class StaticGuidance:
    """Classifier-free guidance with one conditioning (b, 77 n, c) for all steps, in diffusers' order: negative first.

    Without a negative conditioning the rows are the pictures (CFG scales of 1 and less).
    """

    def __init__(self, cond: Conditioning, uncond: Conditioning | None) -> None:
        self._guided = uncond is not None
        self._all = cond if uncond is None else concat([uncond, cond])

    def owners(self, count: int) -> list[int]:
        """Every picture once, or twice in turn."""
        return [*range(count)] * (2 if self._guided else 1)

    def spread(self, latents: Tensor) -> Tensor:
        """Every picture twice where a negative prompt takes part."""
        return torch.cat([latents] * 2) if self._guided else latents

    def at(self, step: int) -> Conditioning:
        """The same at every step."""
        return self._all

    def mix(self, predicted: Tensor, cfg: float) -> Tensor:
        """``e(negative) + cfg * (e(prompt) - e(negative))``."""
        if not self._guided:
            return predicted
        without, with_prompt = predicted.chunk(2)
        return without + cfg * (with_prompt - without)

    def without(self, predicted: Tensor) -> Tensor:
        """The first half of the rows."""
        return predicted.chunk(2)[0] if self._guided else predicted


class ComposedGuidance:
    """Guides of any kind: one row for every picture's negative prompt, then one for every part of every prompt."""

    def __init__(self, positive: Sequence[PromptConditioning], negative: Sequence[PromptConditioning]) -> None:
        if len(positive) != len(negative):
            raise PromptError(f"{len(positive)} prompts and {len(negative)} negative prompts do not make pairs")
        self._negative = [guide.negative for guide in negative]
        self._positive = [guide.parts for guide in positive]
        self._weights = [[part.weight for part in guide.parts] for guide in positive]
        self._owners = [n for n, guide in enumerate(positive) for _ in guide.parts]
        self._kept: tuple[list[Conditioning], Conditioning] | None = None

    def owners(self, count: int) -> list[int]:
        """Every picture for its negative prompt, then for its parts."""
        return [*range(count), *self._owners]

    def spread(self, latents: Tensor) -> Tensor:
        """Every picture once for its negative prompt and once for each of its parts."""
        return torch.cat([latents, *(latents[n : n + 1] for n in self._owners)])

    def at(self, step: int) -> Conditioning:
        """Joined anew only at steps where some stage begins."""
        now = [part.at(step) for part in self._negative]
        now += [cond for parts in self._positive for cond in pad_to_longest([part.at(step) for part in parts])]
        if self._kept is None or any(a is not b for a, b in zip(now, self._kept[0], strict=True)):
            self._kept = now, concat(now)
        return self._kept[1]

    def mix(self, predicted: Tensor, cfg: float) -> Tensor:
        """The composed prediction of every picture."""
        count, mixed = len(self._weights), []
        parts = iter(range(count, len(predicted)))
        for n, weights in enumerate(self._weights):
            without = predicted[n]
            mixed.append(without + sum(cfg * weight * (predicted[next(parts)] - without) for weight in weights))
        return torch.stack(mixed)

    def without(self, predicted: Tensor) -> Tensor:
        """As many rows as there are pictures."""
        return predicted[: len(self._weights)]


def guidance(positive: Sequence[PromptConditioning], negative: Sequence[PromptConditioning], guided: bool) -> Guidance:
    """The cheapest guidance for a batch: prompts alone, pairs, or parts.

    Args:
        positive, negative: one for every picture.
        guided: whether the negative prompts take part: :meth:`loratools.base.sampling.samplers.Sampler.guided`.
    """
    if not all(guide.steady for guide in positive) or any(len(guide.negative.stages) > 1 for guide in negative):
        return ComposedGuidance(positive, negative)
    told = [guide.parts[0].at(0) for guide in positive], [guide.negative.at(0) for guide in negative]
    tokens = math.lcm(*(cond.hidden.shape[1] for conds in told for cond in conds))
    cond, uncond = (concat(conds, tokens) for conds in told)
    return StaticGuidance(cond, uncond if guided else None)


def concat(conds: Sequence[Conditioning], tokens: int = 1) -> Conditioning:
    """Conditionings one below the other, each repeated along its tokens until all have the same number of them, and a
    multiple of ``tokens``.

    Attention is a weighted mean, which is the same over any number of copies: every row gets what it would get alone.
    """
    length = math.lcm(tokens, *(cond.hidden.shape[1] for cond in conds))
    hidden = torch.cat([cond.hidden.repeat(1, length // cond.hidden.shape[1], 1) for cond in conds])
    pooled = [cond.pooled for cond in conds if cond.pooled is not None]
    return Conditioning(hidden, torch.cat(pooled) if len(pooled) == len(conds) else None)


def pad_to_longest(conds: Sequence[Conditioning]) -> list[Conditioning]:
    """The parts of one picture, shorter ones lengthened to the longest by repeating their last state, as the WebUI
    does with the sides of ``AND``."""
    longest = max(cond.hidden.shape[1] for cond in conds)
    return [cond if cond.hidden.shape[1] == longest else _lengthened(cond, longest) for cond in conds]


def _lengthened(cond: Conditioning, tokens: int) -> Conditioning:
    lack = tokens - cond.hidden.shape[1]
    return Conditioning(torch.cat([cond.hidden, cond.hidden[:, -1:].expand(-1, lack, -1)], dim=1), cond.pooled)
