"""Prompts in the WebUI's syntax -> what guides a picture.

A text is chunks of 75 tokens, each encoded alone and laid one after the other along the tokens; a token's weight
multiplies its state, and the chunk's mean is brought back to what it was (the WebUI's "original" emphasis). The mean
is each chunk's own, so that a picture does not depend on what else is encoded with it. A plain prompt that fits one
chunk gets exactly the states of :func:`loratools.base.prompt.conditioning.condition`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning, check_clip_skip, merged, states
from loratools.base.prompt.embeddings import Embedding, Embeddings
from loratools.base.prompt.foreign_syntax import check_prompt
from loratools.base.prompt.guidance import PromptConditioning, ScheduledConditioning, Stage
from loratools.base.prompt.prompt import Conjunct, Prompt, parse, sections
from loratools.base.prompt.prompt_chunks import Chunk, split_chunks, token_row, weight_row
from loratools.blocks.tokens import clip
from loratools.errors import PromptError

_AT_ONCE = 64  # chunks


@dataclass(frozen=True)
class PromptEncoder:
    """:func:`encode_prompts` with the embeddings that prompts may name; what an engine takes as ``encode``."""

    embeddings: Embeddings | None = None

    def __call__(self, base: Base, texts: Sequence[str], steps: int, clip_skip: int) -> list[PromptConditioning]:
        return encode_prompts(base, texts, steps, clip_skip, self.embeddings)


def check_texts(texts: Sequence[str]) -> None:
    """Raise PromptError without a text, and for one with a wildcard, a random choice or a LoRA's tag in it."""
    if not texts:
        raise PromptError("there is no prompt; give at least one (an empty one is allowed)")
    for text in texts:
        check_prompt(text, f"the prompt '{clip(text)}'")


def encode_prompts(
    base: Base, texts: Sequence[str], steps: int, clip_skip: int = 1, embeddings: Embeddings | None = None
) -> list[PromptConditioning]:
    """Every text's conditioning, encoded in common batches under what is patched into the text encoders now.

    Each serves as a prompt or as a negative prompt, where ``AND`` is an ordinary word.

    Args:
        steps: sampler steps, which ``[a:b:0.5]`` counts in.
        clip_skip: as for :func:`loratools.base.prompt.conditioning.condition`.
        embeddings: of this base; their names in a text are replaced by their vectors.
    Raises:
        PromptError: without a text, for one with a wildcard, a random choice or a LoRA's tag in it, for a layer that
            does not exist, or an embedding that does not fit the base.
    """
    check_texts(texts)
    check_clip_skip(base, clip_skip)
    prompts = [parse(text) for text in texts]
    batch = _ChunkBatch(base, steps, embeddings)
    for prompt in prompts:
        for conjunct in _conjuncts(prompt):
            batch.add(conjunct)
    encoded = batch.encode(clip_skip)
    return [_conditioning(prompt, encoded, base.family) for prompt in prompts]


def used_embeddings(texts: Sequence[str], steps: int, embeddings: Embeddings) -> tuple[Embedding, ...]:
    """The embeddings that ``texts`` name at any step, in order; no model is run."""
    named: dict[str, Embedding] = {}
    for text in texts:
        for conjunct in _conjuncts(parse(text)):
            for _, stage in conjunct.stages(steps):
                for section in sections(stage):
                    named |= {one.name: one for piece in section for one in embeddings.named(piece.text)}
    return tuple(named.values())


def _conjuncts(prompt: Prompt) -> tuple[Conjunct, ...]:
    """All that a prompt's conditioning is made of: its conjuncts, and the whole text if that is not one of them."""
    return prompt.conjuncts if prompt.simple else (*prompt.conjuncts, prompt.whole)


def _conditioning(prompt: Prompt, encoded: Mapping[str, tuple[Stage, ...]], family: str) -> PromptConditioning:
    """A prompt's conditioning. SDXL was trained with zeros for an empty prompt, so that is what an empty negative
    prompt means there, in the WebUI and diffusers too.

    Args:
        encoded: the stages of every conjunct's text.
    """
    conjuncts = tuple(ScheduledConditioning(encoded[conjunct.text], conjunct.weight) for conjunct in prompt.conjuncts)
    if family == "sdxl" and prompt.text == "":
        return PromptConditioning(conjuncts, ScheduledConditioning((Stage(0, _zeros(conjuncts[0].at(0))),)))
    return PromptConditioning(conjuncts, None if prompt.simple else ScheduledConditioning(encoded[prompt.text]))


def _zeros(cond: Conditioning) -> Conditioning:
    pooled = None if cond.pooled is None else torch.zeros_like(cond.pooled)
    return Conditioning(torch.zeros_like(cond.hidden), pooled)


@dataclass
class _ChunkBatch:
    """The chunks of some texts, each encoded once. All stages of a conjunct have as many chunks as its longest one."""

    base: Base
    steps: int
    embeddings: Embeddings | None
    rows: dict[tuple[str, int], list[Chunk]] = field(default_factory=dict)  # (text, number) -> one for each encoder
    lengths: dict[str, tuple[tuple[tuple[int, str], ...], int]] = field(default_factory=dict)

    def add(self, conjunct: Conjunct) -> None:
        """Add the chunks of every stage of one side of an ``AND``."""
        if conjunct.text in self.lengths:
            return
        stages = conjunct.stages(self.steps)
        counts = {text: self._split(text) for _, text in stages}
        longest = max(counts.values())
        if min(counts.values()) < longest:
            self._split("")  # what shorter stages are filled up with
        self.lengths[conjunct.text] = stages, longest

    def _split(self, text: str) -> int:
        """Add the chunks of ``text``, and return how many they are."""
        split = sections(text)
        sides = []
        for which, tokenizer in enumerate(self.base.tokenizers):
            find = self.embeddings.finder(which) if self.embeddings else _no_embedding
            sides.append(split_chunks(tokenizer, split, find))
        count = max(len(side) for side in sides)
        for n in range(count):
            self.rows.setdefault((text, n), [side[n] if n < len(side) else [] for side in sides])
        return count

    def encode(self, clip_skip: int) -> dict[str, tuple[Stage, ...]]:
        """Every conjunct's stages by its text; equal texts share one conditioning."""
        keys = list(self.rows)
        states: dict[tuple[str, int], Conditioning] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            encoded = _encode(self.base, [self.rows[key] for key in part], clip_skip)
            states |= {key: encoded[n : n + 1] for n, key in enumerate(part)}
        whole: dict[tuple[str, int], Conditioning] = {}
        by_conjunct = {}
        for name, (stages, longest) in self.lengths.items():
            for _, text in stages:
                if (text, longest) not in whole:
                    whole[text, longest] = _in_a_row([states.get((text, n)) or states["", 0] for n in range(longest)])
            by_conjunct[name] = tuple(Stage(until, whole[text, longest]) for until, text in stages)
        return by_conjunct


def _in_a_row(chunks: Sequence[Conditioning]) -> Conditioning:
    """Chunks one after the other along the tokens; SDXL's pooled state is that of the first."""
    first = chunks[0]
    return first if len(chunks) == 1 else Conditioning(torch.cat([one.hidden for one in chunks], 1), first.pooled)


def _encode(base: Base, rows: Sequence[Sequence[Chunk]], clip_skip: int) -> Conditioning:
    """The states (b, 77, c) of b chunks."""
    parts = []
    for which, (encoder, tokenizer) in enumerate(zip(base.text_encoders, base.tokenizers, strict=True)):
        chunks = [row[which] for row in rows]
        tokens = torch.tensor([token_row(tokenizer, chunk) for chunk in chunks])
        with _inserted(encoder, chunks):
            state = states(base, which, tokens, clip_skip)
        parts.append(Conditioning(_weighted(state.hidden, chunks), state.pooled))
    return merged(parts)


@contextlib.contextmanager
def _inserted(encoder: Any, chunks: Sequence[Chunk]) -> Iterator[None]:
    """Inside the block the encoder, reading ``chunks``, gets embeddings' vectors in the place of their tokens' own."""
    vectors = [
        (row, n + 1, token.vector)
        for row, chunk in enumerate(chunks)
        for n, token in enumerate(chunk)
        if token.vector is not None
    ]
    if not vectors:
        yield
        return

    def put(_module: object, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        for row, column, vector in vectors:
            output[row, column] = vector.to(output)
        return output

    handle = encoder.get_input_embeddings().register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


def _weighted(hidden: Tensor, chunks: Sequence[Chunk]) -> Tensor:
    """Each token's state times its weight, and each chunk's mean brought back to what it was."""
    weights = [weight_row(chunk, hidden.shape[1]) for chunk in chunks]
    if all(row is None for row in weights):
        return hidden
    rows = []
    for own, row in zip(hidden, weights, strict=True):
        if row is not None:
            exact = own.float()
            weighted = exact * row.to(exact.device)[:, None]
            before, after = exact.mean(), weighted.mean()
            own = (weighted * torch.where(after == 0, 1, before / after)).to(own.dtype)
        rows.append(own)
    return torch.stack(rows)


def _no_embedding(_ids: Sequence[int], _position: int) -> None:
    return None
