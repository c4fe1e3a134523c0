"""Captions as the text encoders read them: tokens in chunks, and hidden states with or without gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.text import Conditioning
from loratools.train.config import TrainConfig

_KEPT = 1024  # encoded captions kept in memory while no text encoder is trained


@dataclass(frozen=True)
class Words:
    """Captions on the host: for each text encoder ``tokens`` (b, chunks, 77)."""

    tokens: tuple[Tensor, ...]


def tokenize(tokenizer: Any, captions: Sequence[str]) -> Tensor:
    """Token ids (b, 1, 77), cut and padded as the base's own tokenizer does."""
    ids: Tensor = tokenizer(
        list(captions), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
        return_tensors="pt",
    ).input_ids  # fmt: skip
    return ids[:, None]


def text_states(base: Base, tokens: Sequence[Tensor], clip_skip: int) -> Conditioning:
    """What the UNet reads of ``tokens``, one (b, chunks, 77) for each text encoder; with gradients.

    SD 1.x and 2.x: the ``clip_skip``-th hidden states from the end, through the final layer norm. SDXL: the
    second-to-last states of both encoders as they are, side by side, and the second one's projected state of the first
    chunk's end token; clip skip 1 and 2 both mean that.
    """
    if base.family != "sdxl":
        return Conditioning(_joined(_last(base.text_encoder, tokens[0].flatten(0, 1), clip_skip), tokens[0].shape[1]))
    chunks = tokens[0].shape[1]
    first, second = (
        encoder(ids.flatten(0, 1), output_hidden_states=True)
        for encoder, ids in zip(base.text_encoders, tokens, strict=True)
    )
    hidden = torch.cat([_joined(out.hidden_states[-max(clip_skip, 2)], chunks) for out in (first, second)], dim=-1)
    return Conditioning(hidden, second[0].reshape(-1, chunks, second[0].shape[-1])[:, 0])


class Captioner:
    """A run's captions on their way into its steps.

    Args:
        base: whose tokenizers and text encoders are used; with a network attached if that is trained.
    """

    def __init__(self, base: Base, config: TrainConfig) -> None:
        self._base, self._clip_skip = base, config.clip_skip
        self._known: dict[str, Conditioning] = {}

    def words(self, captions: Sequence[str]) -> Words:
        """The captions' tokens; needs no device, so it can be done ahead of the step."""
        return Words(tuple(tokenize(tokenizer, captions) for tokenizer in self._base.tokenizers))

    def states(self, words: Words) -> Conditioning:
        """Hidden states with gradients."""
        return text_states(self._base, words.tokens, self._clip_skip)

    @torch.no_grad()
    def encoded(self, captions: Sequence[str]) -> Conditioning:
        """Hidden states of encoders that are not trained; each caption is encoded once while it is remembered."""
        found = {caption: self._encoded(caption) for caption in dict.fromkeys(captions)}
        rows = [found[caption] for caption in captions]
        pooled = [row.pooled for row in rows if row.pooled is not None]
        return Conditioning(torch.cat([row.hidden for row in rows]), torch.cat(pooled) if pooled else None)

    def _encoded(self, caption: str) -> Conditioning:
        if caption not in self._known:
            if len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            words = self.words([caption])
            moved = Words(tuple(ids.to(self._base.device) for ids in words.tokens))
            self._known[caption] = self.states(moved)
        return self._known[caption]


def _last(encoder: Any, ids: Tensor, clip_skip: int) -> Tensor:
    if clip_skip == 1:
        last: Tensor = encoder(ids)[0]
        return last
    states = encoder(ids, output_hidden_states=True).hidden_states[-clip_skip]
    normed: Tensor = getattr(encoder, "text_model", encoder).final_layer_norm(states)
    return normed


def _joined(states: Tensor, chunks: int) -> Tensor:
    """(b * chunks, 77, c) as one sequence (b, 75 * chunks + 2, c): the first begin, all insides, the last end."""
    if chunks == 1:
        return states
    parts = states.reshape(-1, chunks, *states.shape[1:])
    return torch.cat([parts[:, 0, :1], parts[:, :, 1:-1].flatten(1, 2), parts[:, -1, -1:]], dim=1)
