"""A prompt's pieces -> chunks of 75 tokens, cut where the WebUI cuts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loratools.base.prompt.prompt import Section

BACKTRACK = 20  # tokens after a comma that move to the next chunk with it, rather than being torn apart


@dataclass(frozen=True, eq=False)
class PromptToken:
    """One token, how much it weighs, and the embedding's vector (c,) that stands in its place, if one does."""

    token: int
    weight: float = 1.0
    vector: Tensor | None = None


Chunk = list[PromptToken]
FindEmbedding = Callable[[Sequence[int], int], tuple[Tensor, int] | None]
"""(token ids, position) -> the vectors (n, c) that begin there, and how many of the tokens are their name."""


def split_chunks(tokenizer: Any, sections: Sequence[Section], find: FindEmbedding) -> list[Chunk]:
    """At least one chunk; a section begins a new one, and an embedding is never torn apart."""
    filling = _Filling(tokenizer.model_max_length - 2)
    comma = tokenizer.get_vocab().get(",</w>")
    for n, section in enumerate(sections):
        if n:
            filling.close()
        for piece, ids in zip(section, _ids(tokenizer, section), strict=True):
            position = 0
            while position < len(ids):
                filling.make_room(ids[position] == comma)
                found = find(ids, position)
                if found is None:
                    filling.put([PromptToken(ids[position], piece.weight)])
                    position += 1
                else:
                    filling.put([PromptToken(0, piece.weight, vector) for vector in found[0]])
                    position += found[1]
    return filling.finished()


def token_row(tokenizer: Any, chunk: Chunk) -> list[int]:
    """The 77 ids of a chunk: begin, tokens, end, and padding (SD2's and SDXL's second tokenizer pad with 0)."""
    lack = tokenizer.model_max_length - 2 - len(chunk)
    ids = [slot.token for slot in chunk]
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * lack]


def weight_row(chunk: Chunk, length: int) -> Tensor | None:
    """The weights (length,) of a chunk's tokens with begin, end and padding; None if all are 1."""
    if all(slot.weight == 1 for slot in chunk):
        return None
    weights = torch.ones(length)
    weights[1 : len(chunk) + 1] = torch.tensor([slot.weight for slot in chunk])
    return weights


def _ids(tokenizer: Any, section: Section) -> list[list[int]]:
    texts = [piece.text for piece in section]
    if not texts:
        return []
    found: list[list[int]] = tokenizer(texts, truncation=False, add_special_tokens=False, verbose=False).input_ids
    return found


class _Filling:
    """Chunks while they fill up."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._done: list[Chunk] = []
        self._now: Chunk = []
        self._comma: int | None = None  # where the last comma stands in the chunk that fills up

    def make_room(self, comma: bool) -> None:
        """Begin a new chunk if this one is full; what follows a near comma goes with it."""
        if comma:
            self._comma = len(self._now)
        elif len(self._now) == self._length and self._comma is not None and self._length - self._comma <= BACKTRACK:
            rest = self._now[self._comma + 1 :]
            del self._now[self._comma + 1 :]
            self.close()
            self._now = rest
        if len(self._now) == self._length:
            self.close()

    def put(self, slots: Sequence[PromptToken]) -> None:
        """Add slots that belong together."""
        if len(self._now) + len(slots) > self._length:
            self.close()
        self._now += slots

    def close(self) -> None:
        """End the chunk, whether it is full or not."""
        self._done.append(self._now)
        self._now, self._comma = [], None

    def finished(self) -> list[Chunk]:
        """All chunks."""
        if self._now or not self._done:
            self.close()
        return self._done
