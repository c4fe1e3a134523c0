"""CLIP's byte-pair tokenizer, learnt on the pocket's own tags instead of the internet's text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def train_tokenizer(lines: Iterable[str], folder: Path, *, vocabulary: int = 1024) -> None:
    """Learn a BPE of about ``vocabulary`` pieces from ``lines`` and write CLIP's four tokenizer files to ``folder``.

    The alphabet is every byte (so that any prompt in any language can be encoded), the end-of-word mark is ``</w>``
    and the two special tokens come last, all as in OpenAI's CLIP. ``CLIPTokenizer.from_pretrained(folder)`` reads it.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE(unk_token=EOS, end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(lines, trainer)
    write_clip_files(json.loads(bpe.to_str())["model"]["merges"], alphabet, folder)


def write_clip_files(merges: list[tuple[str, str]], alphabet: list[str], folder: Path) -> None:
    """Write ``vocab.json``, ``merges.txt`` and the two config files in CLIP's order: bytes, bytes``</w>``, merges."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [*alphabet, *(f"{byte}</w>" for byte in alphabet)]
    pieces += [left + right for left, right in merges]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, BOS, EOS]))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    config = {
        **special,
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
