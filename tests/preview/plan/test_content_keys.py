"""What tells two files' contents apart, so that going from one stack to the next writes what differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from loratools.adapter.files.file import Adapter, read
from loratools.ops.analysis.describe import describe
from loratools.ops.merging.combine import combine
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import content_keys_of

_MODULE = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def factors(stem: str) -> dict[str, torch.Tensor]:
    return {f"{stem}.lora_A.weight": torch.ones(2, 16), f"{stem}.lora_B.weight": torch.ones(16, 2)}


def peft_folder(path: Path, alpha: int) -> Adapter:
    """Its settings lie beside the tensors."""
    (folder := path / "unet").mkdir(parents=True)
    save_file(factors(f"base_model.model.{_MODULE}"), folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": alpha}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return read(folder)


def diffusers_file(path: Path, alpha: int) -> Adapter:
    """Its settings stand in the header."""
    path.mkdir()
    stated = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": alpha})}
    save_file(factors(f"unet.{_MODULE}"), path / "a.safetensors", stated)
    return read(path / "a.safetensors")


@pytest.mark.parametrize("made", [peft_folder, diffusers_file])
def test_the_same_factors_under_another_stated_alpha_are_another_content(
    tmp_path: Path, made: Callable[[Path, int], Adapter]
) -> None:
    one, two = (made(tmp_path / str(alpha), alpha) for alpha in (2, 8))
    name = next(iter(one))
    assert one.tensors_digest == two.tensors_digest
    assert torch.equal(4 * one[name].dense(), two[name].dense())
    assert one.digest != two.digest  # pictures and merges are kept by it
    assert content_keys_of(one) != content_keys_of(two)
    sums = [combine([Term(own)]) for own in (one, two)]
    assert content_keys_of(sums[0]) != content_keys_of(sums[1])
    assert sums[0].summands(name)[0].key != sums[1].summands(name)[0].key


def test_the_hash_that_is_shown_is_of_the_tensors_alone(tmp_path: Path) -> None:
    hashes = {describe(diffusers_file(tmp_path / str(alpha), alpha).path).model_hash for alpha in (2, 8)}
    assert len(hashes) == 1
