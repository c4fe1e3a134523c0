"""Captions in chunks of 75 tokens and with weights, by sd-scripts' rules."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.dataset.caption_weights import tokenize_weighted, weighted
from loratools.train.config.config import TrainConfig
from loratools.train.step.text_states import CaptionEncoder, in_chunks, text_states, tokenize
from loratools.train.trainer import dry_run, train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]

LONG = "1girl, red hair, smile, blue eyes, cowboy shot, " * 12


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny), device="cpu")


class _Ids:
    """What chunking asks of a tokenizer; ids 1 and 2 begin and end, 0 or 2 fills."""

    bos_token_id, eos_token_id, model_max_length = 1, 2, 5

    def __init__(self, pad: int) -> None:
        self.pad_token_id = pad


@pytest.mark.parametrize(
    ("pad", "row", "chunks"),
    [
        (2, [1, 11, 12, 13, 14, 2, 2, 2], [[1, 11, 12, 13, 2], [1, 14, 2, 2, 2]]),
        (2, [1, 11, 12, 2, 2, 2, 2, 2], [[1, 11, 12, 2, 2], [1, 2, 2, 2, 2]]),
        # padding of its own: a full chunk is ended, an empty one begins with an end, a part-filled one is padded
        (0, [1, 11, 12, 13, 14, 2, 0, 0], [[1, 11, 12, 13, 2], [1, 14, 2, 0, 0]]),
        (0, [1, 11, 2, 0, 0, 0, 0, 0], [[1, 11, 2, 0, 0], [1, 2, 0, 0, 0]]),
        (0, [1, 11, 12, 13, 2, 0, 0, 0], [[1, 11, 12, 13, 2], [1, 2, 0, 0, 0]]),
        (0, [1, 11, 12, 13, 14, 15, 16, 2], [[1, 11, 12, 13, 2], [1, 14, 15, 16, 2]]),
    ],
)
def test_a_long_row_becomes_chunks(pad: int, row: list[int], chunks: list[list[int]]) -> None:
    assert in_chunks(_Ids(pad), torch.tensor([row]), 2).tolist() == [chunks]


def test_chunks_are_encoded_alone_and_joined(base: Base) -> None:
    """Against each chunk through the encoder by itself; between them no begin and no end is left."""
    tokenizer: CLIPTokenizer = base.tokenizer
    ids = tokenizer([LONG, "hat"], padding="max_length", max_length=152, truncation=True, return_tensors="pt").input_ids
    states = text_states(base, [tokenize(tokenizer, [LONG, "hat"], 2)], 1).hidden
    assert states.shape[:2] == (2, 152)
    parts = [torch.cat([ids[:, :1], ids[:, 1 + 75 * n : 76 + 75 * n], ids[:, -1:]], 1) for n in (0, 1)]
    first, second = (base.text_encoder(part)[0] for part in parts)
    torch.testing.assert_close(states, torch.cat([first[:, :-1], second[:, 1:]], 1), rtol=1e-5, atol=1e-6)
    short = text_states(base, [tokenize(tokenizer, [LONG, "hat"])], 1).hidden
    torch.testing.assert_close(short[1, :76], states[1, :76], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("caption", "pieces"),
    [
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(a:1.5), [b], ((c))", [("a", 1.5), (", ", 1.0), ("b", 1 / 1.1), (", ", 1.0), ("c", 1.21)]),
        (r"\(literal\] a\b", [("(literal] ab", 1.0)]),
        ("(one)(two)", [("onetwo", 1.1)]),
        ("(a (b:2) c:0.5)", [("a ", 0.5), ("b", 1.0), (" c", 0.5)]),
        ("(open", [("open", 1.1)]),
        ("close) 3:4 (x:1.2.3)", [("close) 3:4 ", 1.0), ("x:1.2.3)", 1.1)]),
        ("", [("", 1.0)]),
    ],
)
def test_weights_of_a_caption(caption: str, pieces: list[tuple[str, float]]) -> None:
    pairs = weighted(caption)
    assert [text for text, _ in pairs] == [text for text, _ in pieces]
    assert [weight for _, weight in pairs] == pytest.approx([weight for _, weight in pieces])


def test_tokens_have_their_pieces_weight(base: Base) -> None:
    tokenizer = base.tokenizer
    ids, weights = tokenize_weighted(tokenizer, ["red hair, (smile:1.5), hat", LONG], 77)
    plain = tokenize(tokenizer, ["red hair, smile, hat", LONG])[:, 0]
    assert torch.equal(ids, plain) and ids.shape == weights.shape == (2, 77)
    before = len(tokenizer("red hair,").input_ids) - 1
    count = len(tokenizer("smile").input_ids) - 2
    assert weights[0].tolist() == [1.0] * before + [1.5] * count + [1.0] * (77 - before - count)
    assert set(weights[1].tolist()) == {1.0}


def test_weights_multiply_the_states(base: Base, config: Config, tmp_path: Path) -> None:
    settings = config(tmp_path, base="x", weighted_captions=True, max_token_length=150)
    captions = ["(red hair:1.5), " + LONG, "[hat], smile"]
    plain = CaptionEncoder(base, config(tmp_path, base="x", max_token_length=150), 10)
    captioner = CaptionEncoder(base, settings, 10)
    tokenized = captioner.tokenized(captions)
    assert tokenized.caption_weights is not None and tokenized.tokens[0].shape == (2, 2, 77)
    (weights,) = tokenized.caption_weights
    assert weights.shape == (2, 152) and float(weights.max()) == 1.5
    wanted = plain.encoded(["red hair, " + LONG, "hat, smile"]).hidden * weights[..., None]
    states = captioner.encoded(captions).hidden
    torch.testing.assert_close(states, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        text_states(base, tokenized.tokens, 1, tokenized.caption_weights).hidden, wanted, rtol=1e-5, atol=1e-6
    )
    assert float(weights.min()) == pytest.approx(1 / 1.1)


@pytest.mark.parametrize("te_lr", [0, 1e-3])
def test_a_run_reads_long_and_weighted_captions(te_lr: float, config: Config, pictures: Pictures) -> None:
    """What stands after 75 tokens, and its weight, change what is learnt."""
    images, files = pictures(count=1), []
    for name, end in (("one", "hat"), ("two", "smile"), ("three", "(hat:1.6)")):
        (images / "00.txt").write_text(LONG[:-2] + ", " + end)
        settings = config(
            images,
            name=name,
            epochs=1,
            te_lr=te_lr,
            max_token_length=225,
            weighted_captions=True,
            shuffle_tags=False,
            dtype="fp32",
        )
        files.append(read(train(settings, progress=False).epochs[0]))
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v"
    deltas = [file[name].dense() for file in files]
    assert not torch.equal(deltas[0], deltas[1]) and not torch.equal(deltas[0], deltas[2])
    assert files[0].metadata["ss_max_token_length"] == "225"


def test_captions_that_are_cut_are_told_of(config: Config, pictures: Pictures) -> None:
    images = pictures(count=2)
    (images / "00.txt").write_text(LONG)
    warned = [dry_run(config(images, max_token_length=length)).warnings for length in (75, 225)]
    assert any("1 of 2 captions are longer than 75 tokens" in text and "max_token_length" in text for text in warned[0])
    assert not any("tokens" in text for text in warned[1])


def test_a_samples_prompt_beside_the_thread_that_reads_captions_changes_neither(
    base: Base, config: Config, tmp_path: Path
) -> None:
    """One tokenizer for both gave captions without padding, or an error, and prompts with the captions' padding."""
    captioner = CaptionEncoder(base, config(tmp_path, base="x", sample_prompts=["1girl"]), 10)
    captions, prompts = ["1girl, smile", "hat"], ["1girl, smile", "red hair"]

    def read_prompts() -> object:
        return base.tokenizer(prompts, truncation=False, add_special_tokens=False, verbose=False).input_ids

    wanted, split = captioner.tokenized(captions).tokens[0], read_prompts()
    wrong: list[object] = []

    def read_captions() -> None:
        for _ in range(600):
            try:
                if not torch.equal(captioner.tokenized(captions).tokens[0], wanted):
                    wrong.append("padding")
            except Exception as error:
                wrong.append(error)

    thread = threading.Thread(target=read_captions)
    thread.start()
    while thread.is_alive():
        if read_prompts() != split:
            wrong.append("prompt")
    thread.join()
    assert not wrong
