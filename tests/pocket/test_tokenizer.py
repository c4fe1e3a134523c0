"""CLIP's tokenizer, learnt on other words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from loratools.pocket.tokenizer import BOS, EOS, train_tokenizer
from tests.tiny import WORDS, save_tiny_tokenizer


@pytest.mark.parametrize("frozen", [False, True])
def test_learnt_words_are_tokens_and_every_text_can_be_encoded(tmp_path: Path, frozen: bool) -> None:
    if frozen:
        save_tiny_tokenizer(tmp_path)
    else:
        train_tokenizer([", ".join(WORDS)] * 20, tmp_path, vocabulary=600)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert tokenizer.tokenize(" ".join(WORDS)) == [f"{word}</w>" for word in WORDS]
    text = "a caf\u00e9, \u65e5\u672c 12"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).replace(" ", "") == text.replace(
        " ", ""
    )
    vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert [vocabulary[BOS], vocabulary[EOS]] == [len(vocabulary) - 2, len(vocabulary) - 1]
    assert tokenizer.model_max_length == 77
