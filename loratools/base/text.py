"""Prompt -> conditioning: what the UNet's cross-attention reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.upload import upload
from loratools.errors import PromptError


@dataclass(frozen=True)
class Conditioning:
    """``hidden`` (b, 77, c) for cross-attention; ``pooled`` (b, p) as well for SDXL, else None."""

    hidden: Tensor
    pooled: Tensor | None = None

    def __getitem__(self, index: slice | Sequence[int]) -> Conditioning:
        return Conditioning(self.hidden[index], None if self.pooled is None else self.pooled[index])

    def to(self, dtype: torch.dtype) -> Conditioning:
        """The same in another dtype."""
        return Conditioning(self.hidden.to(dtype), None if self.pooled is None else self.pooled.to(dtype))


def encode(base: Base, prompts: Sequence[str], clip_skip: int = 1) -> Tensor:
    """The prompts' hidden states (b, 77, c), in the text encoder's dtype; see :func:`condition`."""
    return condition(base, prompts, clip_skip).hidden


@torch.no_grad()
def condition(base: Base, prompts: Sequence[str], clip_skip: int = 1) -> Conditioning:
    """Encode ``prompts``, each cut at CLIP's 77 tokens, as diffusers and the WebUI do.

    ``clip_skip`` n takes the n-th hidden state from the end through the final layer norm (WebUI's counting: 1 is the
    last layer, diffusers' default; NAI-like bases want 2). SDXL has no such choice: its second-to-last states are
    used as they are, and clip skip 1 and 2 both mean that.

    Raises:
        PromptError: if ``clip_skip`` asks for a layer that does not exist, or there is no prompt.
    """
    if not prompts:
        raise PromptError("there is no prompt; give at least one (an empty one is allowed)")
    for encoder in base.text_encoders:
        layers = encoder.config.num_hidden_layers
        if not 1 <= clip_skip <= layers:
            raise PromptError(f"clip skip {clip_skip} is outside 1 to {layers}, the layers of this text encoder")
    if base.family != "sdxl":
        return Conditioning(_hidden(base, 0, prompts, clip_skip))
    first, second = (_run(base, which, prompts) for which in (0, 1))
    skip = max(clip_skip, 2)
    hidden = torch.cat([first.hidden_states[-skip], second.hidden_states[-skip]], dim=-1)
    return Conditioning(hidden, second[0])


def _hidden(base: Base, which: int, prompts: Sequence[str], clip_skip: int) -> Tensor:
    output = _run(base, which, prompts)
    if clip_skip == 1:
        return output[0]  # type: ignore[no-any-return]
    encoder = base.text_encoders[which]
    inner = getattr(encoder, "text_model", encoder)
    return inner.final_layer_norm(output.hidden_states[-clip_skip])  # type: ignore[no-any-return]


def _run(base: Base, which: int, prompts: Sequence[str]) -> Any:
    tokenizer = base.tokenizers[which]
    tokens = tokenizer(
        list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    return base.text_encoders[which](upload(tokens.input_ids, base.device), output_hidden_states=True)


def token_count(base: Base, prompt: str) -> int:
    """How many tokens of the 75 that fit ``prompt`` takes, begin and end not counted."""
    return len(base.tokenizer(prompt).input_ids) - 2
