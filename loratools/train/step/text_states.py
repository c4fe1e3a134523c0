"""Captions for the text encoders: tokens in chunks of 77, and hidden states with or without gradients."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning
from loratools.base.to_device import upload
from loratools.dataset.caption_weights import token_weights, tokenize_weighted
from loratools.dataset.captions import vary
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset

_KEPT = 256  # encoded captions kept in memory while no text encoder is trained


@dataclass(frozen=True)
class CaptionTokens:
    """Captions on the host, for each text encoder: ``tokens`` (b, chunks, 77) and a weight for each of its states.

    ``caption_weights`` (b, 75 * chunks + 2) is None where captions have no weights.
    """

    tokens: tuple[Tensor, ...]
    caption_weights: tuple[Tensor, ...] | None = None


def tokenize(tokenizer: Any, captions: Sequence[str], chunks: int = 1) -> Tensor:
    """Token ids (b, chunks, 77): captions cut at 75 * ``chunks`` tokens and padded as the base's own tokenizer does."""
    length = chunks * (tokenizer.model_max_length - 2) + 2
    ids: Tensor = tokenizer(
        list(captions), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return in_chunks(tokenizer, ids, chunks)


def in_chunks(tokenizer: Any, ids: Tensor, chunks: int) -> Tensor:
    """One long row of ids (b, 75 * chunks + 2) as rows of 77, each with a begin and an end.

    Where padding is no end token (SD 2.x, SDXL's second encoder), a chunk that is full ends with one, and one that is
    empty begins with one.
    """
    if chunks == 1:
        return ids[:, None]
    body = ids[:, 1:-1].reshape(len(ids), chunks, -1)
    first, last = (ids[:, None, place].expand(-1, chunks, -1) for place in (slice(0, 1), slice(-1, None)))
    end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    if end != padding:
        full = (body[..., -1:] != end) & (body[..., -1:] != padding)
        last = torch.where(full, end, last)
        body = torch.cat([torch.where(body[..., :1] == padding, end, body[..., :1]), body[..., 1:]], dim=-1)
    return torch.cat([first, body, last], dim=-1)


def text_states(
    base: Base, tokens: Sequence[Tensor], clip_skip: int, caption_weights: Sequence[Tensor] | None = None
) -> Conditioning:
    """What the UNet reads of ``tokens``, one (b, chunks, 77) for each text encoder; with gradients.

    SD 1.x and 2.x: the ``clip_skip``-th hidden states from the end, through the final layer norm. SDXL: the
    second-to-last states of both encoders as they are, side by side, and the second one's projected state of the first
    chunk's end token; clip skip 1 and 2 both mean that. Chunks are joined to one sequence of 75 * chunks + 2 states.
    """
    chunks = tokens[0].shape[1]
    if base.family != "sdxl":
        states, pooled = [_last(base.text_encoder, tokens[0].flatten(0, 1), clip_skip)], None
    else:
        first, second = (
            encoder(ids.flatten(0, 1), output_hidden_states=True)
            for encoder, ids in zip(base.text_encoders, tokens, strict=True)
        )
        states = [out.hidden_states[-max(clip_skip, 2)] for out in (first, second)]
        pooled = second[0].reshape(-1, chunks, second[0].shape[-1])[:, 0]
    joined = [_joined(each, chunks) for each in states]
    if caption_weights is not None:
        joined = [
            each * weights[..., None].to(each.dtype) for each, weights in zip(joined, caption_weights, strict=True)
        ]
    return Conditioning(torch.cat(joined, dim=-1), pooled)


def cut_captions(base: Base, config: TrainConfig, dataset: Dataset) -> Iterator[str]:
    """A warning if there are captions that are longer than ``max_token_length``, whose ends are not read."""
    rules = [folder.rules.plain for folder in dataset.folders]
    texts = (vary(item.caption, rules[item.folder], random.Random(0)) for item in dataset.items)
    counts = [_count(base.tokenizer, text, config.weighted_captions) for text in texts]
    cut = sum(count > config.max_token_length for count in counts)
    if cut:
        more = "; max_token_length: 150 or 225 reads further" if config.max_token_length < 225 else ""
        yield (
            f"{cut} of {len(counts)} captions are longer than {config.max_token_length} tokens (up to {max(counts)}), "
            f"and their ends are not read{more}"
        )


def _count(tokenizer: Any, text: str, weighted: bool) -> int:
    return len(token_weights(tokenizer, text)[0] if weighted else tokenizer(text, verbose=False).input_ids[1:-1])


class CaptionEncoder:
    """Tokenizes and encodes the captions of a run.

    Args:
        base: whose tokenizers and text encoders are used; with a network attached if that is trained.
        steps: of the whole run.
    """

    def __init__(self, base: Base, config: TrainConfig, steps: int) -> None:
        self._base, self._clip_skip = base, config.clip_skip
        self._chunks, self._weighted = config.max_token_length // 75, config.weighted_captions
        self._learns, self._stop = config.learned_rates()[1] > 0, config.text_stops_at(steps)
        # captions are tokenized in a thread, and a tokenizer keeps the padding of its last call: a sample's would get
        # into captions, and theirs into its prompt
        self._tokenizers = base.tokenizers
        if self._learns and config.sample_prompts:
            self._tokenizers = tuple(copy.deepcopy(tokenizer) for tokenizer in base.tokenizers)
        self._known: dict[str, Conditioning] = {}
        # on a CPU one by one: results must not depend on which captions are cached, since resuming changes that
        self._together = base.device.type != "cpu"

    def learns(self, step: int) -> bool:
        """Whether the text encoders are trained in step ``step`` (from 0)."""
        return self._learns and (self._stop is None or step < self._stop)

    def tokenized(self, captions: Sequence[str]) -> CaptionTokens:
        """The captions' tokens; needs no device, so it can be done ahead of the step."""
        tokenizers = self._tokenizers
        if not self._weighted:
            return CaptionTokens(tuple(tokenize(tokenizer, captions, self._chunks) for tokenizer in tokenizers))
        encoded = []
        for tokenizer in tokenizers:
            length = self._chunks * (tokenizer.model_max_length - 2) + 2
            ids, weights = tokenize_weighted(tokenizer, captions, length)
            encoded.append((in_chunks(tokenizer, ids, self._chunks), weights))
        return CaptionTokens(tuple(ids for ids, _ in encoded), tuple(weights for _, weights in encoded))

    @torch.no_grad()
    def encoded(self, captions: Sequence[str]) -> Conditioning:
        """Hidden states of encoders that are not trained; the last captions are cached."""
        wanted = list(dict.fromkeys(captions))
        lacking = [caption for caption in wanted if caption not in self._known]
        for part in [lacking] * bool(lacking) if self._together else [[caption] for caption in lacking]:
            self._encode(part)
        rows = [self._known[caption] for caption in captions]
        for caption in wanted:  # the least recently used one is removed first
            self._known[caption] = self._known.pop(caption)
        while len(self._known) > max(_KEPT, len(wanted)):
            del self._known[next(iter(self._known))]
        pooled = [row.pooled for row in rows if row.pooled is not None]
        return Conditioning(torch.cat([row.hidden for row in rows]), torch.cat(pooled) if pooled else None)

    def _encode(self, captions: Sequence[str]) -> None:
        for encoder in self._base.text_encoders:
            encoder.eval()  # dropout in their adapter layers ends with their training
        tokenized, device = self.tokenized(captions), self._base.device
        tokens = [upload(ids, device) for ids in tokenized.tokens]
        weights = tokenized.caption_weights
        on_device = None if weights is None else [upload(each, device) for each in weights]
        made = text_states(self._base, tokens, self._clip_skip, on_device)
        self._known |= {caption: made[n : n + 1] for n, caption in enumerate(captions)}


def _last(encoder: Any, ids: Tensor, clip_skip: int) -> Tensor:
    if clip_skip == 1:
        last: Tensor = encoder(ids)[0]
        return last
    states = encoder(ids, output_hidden_states=True).hidden_states[-clip_skip]
    normed: Tensor = getattr(encoder, "text_model", encoder).final_layer_norm(states)
    return normed


def _joined(states: Tensor, chunks: int) -> Tensor:
    """Join (b * chunks, 77, c) to (b, 75 * chunks + 2, c): the first begin token, all between, the last end token."""
    if chunks == 1:
        return states
    parts = states.reshape(-1, chunks, *states.shape[1:])
    return torch.cat([parts[:, 0, :1], parts[:, :, 1:-1].flatten(1, 2), parts[:, -1, -1:]], dim=1)
