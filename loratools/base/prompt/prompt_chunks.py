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
    """One token of a prompt: its id, its weight, and the embedding's vector (c,) that replaces its own, if one does."""

    token: int
    weight: float = 1.0
    vector: Tensor | None = None


Chunk = list[PromptToken]
FindEmbedding = Callable[[Sequence[int], int], tuple[Tensor, int] | None]
"""(token ids, position) -> the vectors (n, c) that begin there, and how many of the tokens are their name."""


def split_chunks(tokenizer: Any, sections: Sequence[Section], find: FindEmbedding) -> list[Chunk]:
    """At least one chunk; a section begins a new one, and an embedding is never torn apart.

    Args:
        find: recognizes embeddings' names; see :meth:`loratools.base.prompt.embeddings.Embeddings.finder`.
    """
    chunks = _ChunkBuilder(tokenizer.model_max_length - 2)
    comma = tokenizer.get_vocab().get(",</w>")
    for n, section in enumerate(sections):
        if n:
            chunks.close()
        for piece, ids in zip(section, _ids(tokenizer, section), strict=True):
            position = 0
            while position < len(ids):
                chunks.make_room(ids[position] == comma)
                embedding = find(ids, position)
                if embedding is None:
                    chunks.add([PromptToken(ids[position], piece.weight)])
                    position += 1
                else:
                    vectors, length = embedding
                    chunks.add([PromptToken(0, piece.weight, vector) for vector in vectors])
                    position += length
    return chunks.finished()


def token_row(tokenizer: Any, chunk: Chunk) -> list[int]:
    """The 77 ids of a chunk: begin, tokens, end, and padding (the tokenizer of SD2 and SDXL's second pad with 0)."""
    padding = tokenizer.model_max_length - 2 - len(chunk)
    ids = [token.token for token in chunk]
    return [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, *[tokenizer.pad_token_id] * padding]


def weight_row(chunk: Chunk, length: int) -> Tensor | None:
    """The weights (length,) of a chunk's tokens with begin, end and padding; None if all are 1."""
    if all(token.weight == 1 for token in chunk):
        return None
    weights = torch.ones(length)
    weights[1 : len(chunk) + 1] = torch.tensor([token.weight for token in chunk])
    return weights


def _ids(tokenizer: Any, section: Section) -> list[list[int]]:
    texts = [piece.text for piece in section]
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(texts, truncation=False, add_special_tokens=False, verbose=False).input_ids
    return ids


class _ChunkBuilder:
    """Fills chunks of ``length`` tokens one after the other."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._closed: list[Chunk] = []
        self._open: Chunk = []
        self._comma: int | None = None  # the position of the open chunk's last comma

    def make_room(self, comma: bool) -> None:
        """Begin a new chunk if the open one is full; the tokens after a near comma move to it.

        Args:
            comma: whether the next token is a comma.
        """
        if comma:
            self._comma = len(self._open)
        elif len(self._open) == self._length and self._comma is not None and self._length - self._comma <= BACKTRACK:
            rest = self._open[self._comma + 1 :]
            del self._open[self._comma + 1 :]
            self.close()
            self._open = rest
        if len(self._open) == self._length:
            self.close()

    def add(self, tokens: Sequence[PromptToken]) -> None:
        """Add tokens that must stand in one chunk."""
        if len(self._open) + len(tokens) > self._length:
            self.close()
        self._open += tokens

    def close(self) -> None:
        """End the chunk, whether it is full or not."""
        self._closed.append(self._open)
        self._open, self._comma = [], None

    def finished(self) -> list[Chunk]:
        """All chunks; an empty one if nothing was added."""
        if self._open or not self._closed:
            self.close()
        return self._closed
