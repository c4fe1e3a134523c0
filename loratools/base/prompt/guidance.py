"""How the UNet is guided: conditionings that may change from step to step, and how predictions are combined.

A plain prompt is one conditioning for all steps. Prompt editing (``[a:b:0.5]``) changes it at a step, and ``AND`` gives
one picture several conjuncts, each a UNet row of its own (Liu et al. 2022, Composable Diffusion):
``e = e(negative) + cfg * sum_i w_i (e(conjunct i) - e(negative))``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from loratools.base.prompt.conditioning import Conditioning
from loratools.errors import PromptError


@dataclass(frozen=True)
class Stage:
    """A conditioning (1, 77 n, c) for the steps before ``until``, counted from 0; a prompt's last one has no end."""

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
    """One picture's prompt as its conjuncts, or its negative prompt, which always is one.

    ``whole`` is the text as a negative prompt where that is not its first conjunct: ``AND`` is an ordinary word there.
    """

    conjuncts: tuple[ScheduledConditioning, ...]
    whole: ScheduledConditioning | None = None

    @staticmethod
    def plain(cond: Conditioning) -> PromptConditioning:
        """A prompt that is the same (1, 77 n, c) at every step."""
        return PromptConditioning((ScheduledConditioning((Stage(0, cond),)),))

    @property
    def negative(self) -> ScheduledConditioning:
        """The conditioning as a negative prompt."""
        return self.whole or self.conjuncts[0]

    @property
    def constant(self) -> bool:
        """Whether it has one conjunct of weight 1 that never changes."""
        return len(self.conjuncts) == 1 and self.conjuncts[0].weight == 1 and len(self.conjuncts[0].stages) == 1


class Guidance(Protocol):
    """How a batch of b pictures becomes r UNet rows, and the rows' predictions become the b pictures' again."""

    def row_owners(self, count: int) -> list[int]:
        """The picture, of ``count``, that each of the r rows belongs to."""
        ...

    def expand(self, latents: Tensor) -> Tensor:
        """(b, 4, h, w) -> (r, 4, h, w)."""
        ...

    def at(self, step: int) -> Conditioning:
        """The r rows' conditioning at ``step``, from 0; the same object as long as nothing changes."""
        ...

    def combine(self, predicted: Tensor, cfg: float) -> Tensor:
        """The guided prediction: (r, 4, h, w) -> (b, 4, h, w)."""
        ...

    def unconditional(self, predicted: Tensor) -> Tensor:
        """What the negative prompts alone predict: (r, 4, h, w) -> (b, 4, h, w)."""
        ...


class StaticGuidance:
    """Classifier-free guidance with one conditioning (b, 77 n, c) for all steps, in diffusers' order: negative first.

    Without a negative conditioning the rows are the pictures (a CFG scale of 1).
    """

    def __init__(self, cond: Conditioning, uncond: Conditioning | None) -> None:
        self._guided = uncond is not None
        self._rows = cond if uncond is None else concat([uncond, cond])

    def row_owners(self, count: int) -> list[int]:
        """Every picture once, or twice in turn."""
        return [*range(count)] * (2 if self._guided else 1)

    def expand(self, latents: Tensor) -> Tensor:
        """Every picture twice where a negative prompt takes part."""
        return torch.cat([latents] * 2) if self._guided else latents

    def at(self, step: int) -> Conditioning:
        """The same at every step."""
        return self._rows

    def combine(self, predicted: Tensor, cfg: float) -> Tensor:
        """``e(negative) + cfg * (e(prompt) - e(negative))``."""
        if not self._guided:
            return predicted
        negative, positive = predicted.chunk(2)
        return negative + cfg * (positive - negative)

    def unconditional(self, predicted: Tensor) -> Tensor:
        """The first half of the rows."""
        return predicted.chunk(2)[0] if self._guided else predicted


class ComposedGuidance:
    """Prompts of any kind: one row for every picture's negative prompt, then one for every conjunct of every prompt.

    Raises:
        PromptError: if there are not as many negative prompts as prompts.
    """

    def __init__(self, positive: Sequence[PromptConditioning], negative: Sequence[PromptConditioning]) -> None:
        if len(positive) != len(negative):
            raise PromptError(f"{len(positive)} prompts and {len(negative)} negative prompts do not make pairs")
        self._negative = [own.negative for own in negative]
        self._positive = [own.conjuncts for own in positive]
        self._weights = [[conjunct.weight for conjunct in own.conjuncts] for own in positive]
        self._owners = [n for n, own in enumerate(positive) for _ in own.conjuncts]
        self._last: tuple[list[Conditioning], Conditioning] | None = None

    def row_owners(self, count: int) -> list[int]:
        """Every picture for its negative prompt, then for its conjuncts."""
        return [*range(count), *self._owners]

    def expand(self, latents: Tensor) -> Tensor:
        """Every picture once for its negative prompt and once for each of its conjuncts."""
        return torch.cat([latents, *(latents[n : n + 1] for n in self._owners)])

    def at(self, step: int) -> Conditioning:
        """Joined anew only at steps where some stage begins."""
        conds = [own.at(step) for own in self._negative]
        conds += [cond for own in self._positive for cond in pad_to_longest([conjunct.at(step) for conjunct in own])]
        if self._last is None or any(a is not b for a, b in zip(conds, self._last[0], strict=True)):
            self._last = conds, concat(conds)
        return self._last[1]

    def combine(self, predicted: Tensor, cfg: float) -> Tensor:
        """The composed prediction of every picture."""
        count, combined = len(self._weights), []
        rows = iter(range(count, len(predicted)))
        for n, weights in enumerate(self._weights):
            negative = predicted[n]
            combined.append(negative + sum(cfg * weight * (predicted[next(rows)] - negative) for weight in weights))
        return torch.stack(combined)

    def unconditional(self, predicted: Tensor) -> Tensor:
        """As many rows as there are pictures."""
        return predicted[: len(self._weights)]


def guidance(positive: Sequence[PromptConditioning], negative: Sequence[PromptConditioning], guided: bool) -> Guidance:
    """The cheapest guidance for a batch: prompts alone, pairs, or conjuncts.

    Args:
        positive, negative: one for every picture.
        guided: whether the negative prompts take part: :meth:`loratools.base.sampling.samplers.Sampler.guided`.
    """
    if not all(own.constant for own in positive) or any(len(own.negative.stages) > 1 for own in negative):
        return ComposedGuidance(positive, negative)
    prompts = [own.conjuncts[0].at(0) for own in positive]
    negatives = [own.negative.at(0) for own in negative]
    tokens = math.lcm(*(cond.hidden.shape[1] for cond in (*prompts, *negatives)))
    return StaticGuidance(concat(prompts, tokens), concat(negatives, tokens) if guided else None)


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
    """The conjuncts of one picture, shorter ones lengthened to the longest by repeating their last state, as the WebUI
    does with the sides of ``AND``."""
    longest = max(cond.hidden.shape[1] for cond in conds)
    return [cond if cond.hidden.shape[1] == longest else _padded(cond, longest) for cond in conds]


def _padded(cond: Conditioning, tokens: int) -> Conditioning:
    lack = tokens - cond.hidden.shape[1]
    return Conditioning(torch.cat([cond.hidden, cond.hidden[:, -1:].expand(-1, lack, -1)], dim=1), cond.pooled)
