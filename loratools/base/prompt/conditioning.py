"""Tokens -> conditioning: what the UNet's cross-attention reads.

:func:`condition` encodes a plain text, cut at 77 tokens, as diffusers does; prompts in the WebUI's syntax and of any
length go through :mod:`loratools.base.prompt.prompt_encoding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.to_device import upload
from loratools.errors import PromptError


@dataclass(frozen=True)
class Conditioning:
    """``hidden`` (b, 77 n, c) for cross-attention; ``pooled`` (b, p) as well for SDXL, else None."""

    hidden: Tensor
    pooled: Tensor | None = None

    def __getitem__(self, index: slice | Sequence[int]) -> Conditioning:
        return Conditioning(self.hidden[index], None if self.pooled is None else self.pooled[index])

    def to(self, dtype: torch.dtype) -> Conditioning:
        """The same in another dtype."""
        return Conditioning(self.hidden.to(dtype), None if self.pooled is None else self.pooled.to(dtype))


def condition(base: Base, prompts: Sequence[str], clip_skip: int = 1) -> Conditioning:
    """Encode ``prompts`` as they stand, each cut at CLIP's 77 tokens, as diffusers does.

    ``clip_skip`` n takes the n-th hidden state from the end through the final layer norm (WebUI's counting: 1 is the
    last layer, diffusers' default; NAI-like bases want 2). SDXL has no such choice: its second-to-last states are
    used as they are, and clip skip 1 and 2 both mean that.

    Raises:
        PromptError: if ``clip_skip`` asks for a layer that does not exist, or there is no prompt.
    """
    if not prompts:
        raise PromptError("there is no prompt; give at least one (an empty one is allowed)")
    check_clip_skip(base, clip_skip)
    parts = [states(base, which, _tokens(base, which, prompts), clip_skip) for which in range(len(base.text_encoders))]
    return merged(parts)


def check_clip_skip(base: Base, clip_skip: int) -> None:
    """Raise PromptError if a text encoder of ``base`` has no such layer."""
    for encoder in base.text_encoders:
        layers = encoder.config.num_hidden_layers
        if not 1 <= clip_skip <= layers:
            raise PromptError(f"clip skip {clip_skip} is outside 1 to {layers}, the layers of this text encoder")


@torch.no_grad()
def states(base: Base, which: int, tokens: Tensor, clip_skip: int) -> Conditioning:
    """The hidden states of token ids (b, 77) from text encoder number ``which``, and the pooled state of SDXL's second
    one."""
    encoder = base.text_encoders[which]
    output = encoder(upload(tokens, base.device), output_hidden_states=True)
    if base.family == "sdxl":
        hidden: Tensor = output.hidden_states[-max(clip_skip, 2)]
        return Conditioning(hidden, output[0] if which == 1 else None)
    if clip_skip == 1:
        return Conditioning(output[0])
    inner = getattr(encoder, "text_model", encoder)
    return Conditioning(inner.final_layer_norm(output.hidden_states[-clip_skip]))


def merged(parts: Sequence[Conditioning]) -> Conditioning:
    """Several text encoders' states of the same texts side by side, and the pooled state of the one that has it."""
    hidden = parts[0].hidden if len(parts) == 1 else torch.cat([part.hidden for part in parts], dim=-1)
    return Conditioning(hidden, parts[-1].pooled)


def _tokens(base: Base, which: int, prompts: Sequence[str]) -> Tensor:
    tokenizer = base.tokenizers[which]
    ids: Tensor = tokenizer(
        list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids
