"""Captions against sd-scripts' own code: ``python -m benchmarks.text_parity CHECKOUT``.

Small random text encoders of SD1's, SD2's and SDXL's kinds read captions with and without weights, in one to three
chunks of 75 tokens, at clip skip 1 and 2. Token ids must be equal; the states' greatest difference is printed,
relative to the largest state. Only sd-scripts' strategy modules are imported, which need transformers and nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.full_size import WORDS
from loratools.base.model import Base
from loratools.dataset.caption_weights import tokenize_weighted
from loratools.pocket.tokenizer import train_tokenizer
from loratools.train.step.text_states import in_chunks, text_states, tokenize

CAPTIONS = (
    "1girl, (red hair:1.4), [smile], " + "blue eyes, cowboy shot, " * 14,
    "hat",
    "((hat)), " + "smile, " * 9 + "(x:0.3)",
    "waving, " * 25,
    "",
)


def peer(checkout: Path) -> tuple[Any, Any]:
    """sd-scripts' ``strategy_sd`` and ``strategy_sdxl``; what they import for other purposes is left empty."""
    sys.path.insert(0, str(checkout))
    for name, content in (("utils", {"setup_logging": lambda *_: None}), ("train_util", {})):
        module = types.ModuleType(f"library.{name}")
        vars(module).update(content)
        sys.modules[module.__name__] = module
        setattr(importlib.import_module("library"), name, module)
    return importlib.import_module("library.strategy_sd"), importlib.import_module("library.strategy_sdxl")


class Models:
    """Two text encoders (12 and 6 layers, the second with a projection), and tokenizers that pad as SD1 and as SD2."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        train_tokenizer(WORDS, folder, vocabulary=600)
        size = 1 + max(json.loads((folder / "vocab.json").read_text()).values())
        shared = {
            "vocab_size": size,
            "hidden_size": 32,
            "intermediate_size": 64,
            "projection_dim": 24,
            "num_attention_heads": 2,
            "bos_token_id": size - 2,
            "eos_token_id": size - 1,
        }
        torch.manual_seed(0)
        self.first = CLIPTextModel(CLIPTextConfig(num_hidden_layers=12, **shared)).eval()
        self.second = CLIPTextModelWithProjection(CLIPTextConfig(num_hidden_layers=6, **shared)).eval()
        self.plain = CLIPTokenizer.from_pretrained(folder)
        self.padded = CLIPTokenizer.from_pretrained(folder, pad_token="!")
        vars(self.first).setdefault("text_model", self.first)  # newer transformers have no such level

    def base(self, family: str, tokenizers: tuple[Any, ...]) -> Base:
        """What loratools encodes with."""
        encoders = (self.first, self.second)[: len(tokenizers)]
        return Base(
            unet=None,
            vae=None,
            text_encoders=encoders,
            tokenizers=tokenizers,
            scheduler_config={},
            family=family,
            digest="",
            name="",
            resolution=(64, 64),
            device=torch.device("cpu"),
            dtype=torch.float32,
        )


def ours(base: Base, chunks: int, skip: int, weighted: bool) -> tuple[list[Tensor], Any]:
    """Token ids (b, chunks, 77) for each encoder, and the states."""
    if not weighted:
        ids = [tokenize(tokenizer, CAPTIONS, chunks) for tokenizer in base.tokenizers]
        return ids, text_states(base, ids, skip)
    weighed = [tokenize_weighted(tokenizer, CAPTIONS, 75 * chunks + 2) for tokenizer in base.tokenizers]
    ids = [in_chunks(tokenizer, each, chunks) for tokenizer, (each, _) in zip(base.tokenizers, weighed, strict=True)]
    return ids, text_states(base, ids, skip, [weights for _, weights in weighed])


def theirs(tokenizing: Any, encoding: Any, encoders: list[Any], weighted: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Token ids for each encoder, and what their strategy gives of them."""
    if not weighted:
        ids = list(tokenizing.tokenize(list(CAPTIONS)))
        return ids, encoding.encode_tokens(tokenizing, encoders, ids)
    ids, weights = tokenizing.tokenize_with_weights(list(CAPTIONS))
    return ids, encoding.encode_tokens_with_weights(tokenizing, encoders, ids, weights)


def cases(checkout: Path, models: Models) -> Iterator[tuple[str, float]]:
    """A name and the greatest relative difference of every case."""
    sd, sdxl = peer(checkout)
    for chunks in (1, 2, 3):
        for weighted in (False, True):
            what = f"{75 * chunks} tokens{', weighted' if weighted else ''}"
            for name, tokenizer in (("SD1", models.plain), ("SD2", models.padded)):
                for skip in (1, 2):
                    reading = object.__new__(sd.SdTokenizeStrategy)
                    reading.tokenizer, reading.max_length = tokenizer, 75 * chunks + 2
                    writing = sd.SdTextEncodingStrategy(None if skip == 1 else skip)
                    ids, (hidden,) = theirs(reading, writing, [models.first], weighted)
                    mine, states = ours(models.base("sd1", (tokenizer,)), chunks, skip, weighted)
                    yield f"{name}, clip skip {skip}, {what}", _apart(mine, ids, [states.hidden], [hidden])
            reading = object.__new__(sdxl.SdxlTokenizeStrategy)
            reading.tokenizer1, reading.tokenizer2, reading.max_length = models.plain, models.padded, 75 * chunks + 2
            encoders = [models.first, models.second]
            ids, (one, two, pooled) = theirs(reading, sdxl.SdxlTextEncodingStrategy(), encoders, weighted)
            mine, states = ours(models.base("sdxl", (models.plain, models.padded)), chunks, 1, weighted)
            apart = _apart(mine, ids, [states.hidden, states.pooled], [torch.cat([one, two], -1), pooled])
            yield f"SDXL, {what}", apart


def _apart(mine: list[Tensor], ids: list[Tensor], states: list[Tensor], wanted: list[Tensor]) -> float:
    for own, other in zip(mine, ids, strict=True):
        if not torch.equal(own, other.reshape(own.shape)):
            return float("nan")
    pairs = zip(states, wanted, strict=True)
    return max(float((own - other).abs().max() / other.abs().max()) for own, other in pairs)


@torch.no_grad()
def main() -> None:
    """Print one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of sd-scripts")
    checkout = parser.parse_args().checkout
    with tempfile.TemporaryDirectory() as folder:
        for name, apart in cases(checkout, Models(Path(folder))):
            print(f"{name:<45} {apart:.1e}")


if __name__ == "__main__":
    main()
