"""The pictures of a search as a differentiable function of its point."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from loratools.adapter.algebra.lowrank import Delta, concatenate
from loratools.base.generate import batch_guidance, denoise_batch
from loratools.base.model import Base
from loratools.base.patching.patch import Patcher
from loratools.base.prompt.guidance import PromptConditioning
from loratools.base.prompt.prompt_encoding import encode_prompts
from loratools.base.sampling.sample import decode
from loratools.base.weight_function import WeightFunction
from loratools.ops.merging.combine import Combined
from loratools.preview.plan.jobs import Job
from loratools.preview.record.cells import SamplingSettings
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.space import Space


class SmoothPictures:
    """Draws shots at a point of ``space`` so that what they are worth can be differentiated by the point.

    The numbers of a text encoder's block stay where the stack has them: prompts are encoded once.

    Args:
        settings: of the pictures; the sampler has to be steady, as a search's is.
    Attributes:
        base: what they are drawn on.
    Raises:
        BaseModelError: if the stack does not fit the base.
    """

    def __init__(self, base: Base, space: Space, settings: SamplingSettings) -> None:
        self.base, self._settings, self._text = base, settings, space.stacks([space.start])[0]
        zero, units = space.linear()
        fixed = {name: zero[name] for name in zero if zero.changes(name)}
        self._weights = WeightFunction(base, fixed, [_beyond(unit, zero) for unit in units])
        self._patcher = Patcher(base)
        self._guides: dict[str, PromptConditioning] = {}

    def __call__(self, point: Tensor, shots: Sequence[Shot], *, keep: bool = False) -> Tensor:
        """Pictures (n, 3, height, width) in [0, 1].

        Args:
            point: (d,) in float32, on the base's device.
            keep: as for :meth:`.weight_function.WeightFunction.at`.
        """
        base, settings = self.base, self._settings
        self._encode([text for shot in shots for text in (shot.prompt, settings.negative)])
        jobs = [Job(self._text, shot.prompt, shot.seed, settings, number) for number, shot in enumerate(shots)]
        pairs = [(self._guides[job.prompt], self._guides[settings.negative]) for job in jobs]
        guidance = batch_guidance(jobs[0], pairs)
        latents = denoise_batch(base, jobs, guidance, unet=self._weights.at(point, keep=keep), gradients=True)
        if keep:
            return decode(base, latents, gradients=True)
        images: Tensor = checkpoint(lambda own: decode(base, own, gradients=True), latents, use_reentrant=False)
        return images

    def _encode(self, texts: Sequence[str]) -> None:
        """Read prompts that are new, under the text encoders as the stack has them."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._guides]
        if not missing:
            return
        with torch.no_grad(), self._patcher.applied(self._text.text_part, self._text.weight):
            guides = encode_prompts(self.base, missing, self._settings.steps, self._settings.clip_skip)
        self._guides |= dict(zip(missing, guides, strict=True))


def _beyond(unit: Combined, zero: Combined) -> dict[str, Delta]:
    """What ``unit`` adds beyond ``zero``, a sum of the same files, of the modules in which they differ: of the files'
    own factors only those whose strength moves."""
    moved: dict[str, Delta] = {}
    for name in unit:
        strengths: dict[Hashable, float] = defaultdict(float)
        for sign, whole in ((1, unit), (-1, zero)):
            for own in whole.summands(name):
                strengths[own.key] += sign * own.strength
        sources = {own.key: own.source for own in (*unit.summands(name), *zero.summands(name))}
        parts = [(strength, sources[key][name]) for key, strength in strengths.items() if strength != 0]
        if parts:
            moved[name] = concatenate(parts)
    return moved
