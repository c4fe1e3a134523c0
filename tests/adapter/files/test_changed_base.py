"""PiSSA and its kind in headers: the product of their factors is no difference of the base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratools.adapter.files.file import read
from loratools.errors import FormatError
from tests.loras import lora_tensors, save

NAMES = ("unet.mid_block.attentions.0.proj_in",)


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        ({"lora_adapter_metadata": {"unet.lora_alpha": 2, "unet.init_lora_weights": "pissa"}}, "PiSSA"),
        ({"lora_adapter_metadata": {"unet.init_lora_weights": "olora"}}, "OLoRA"),
        ({"ss_network_args": {"initialize": "pissa"}}, "PiSSA"),
        ({"ss_network_args": {"pissa": "True"}}, "PiSSA"),
        ({"ss_network_args": {"initialize": "urae"}}, "URAE"),
        ({"init_lora_weights": "corda"}, "CorDA"),
        ({"training_config": {"network": {"init_lora_weights": "pissa_niter_4"}}}, "PiSSA"),
        ({"lora_initialisation_style": "loftq"}, "LoftQ"),
    ],
)
def test_a_header_that_says_so_is_refused(tmp_path: Path, metadata: dict[str, object], kind: str) -> None:
    texts = {key: text if isinstance(text, str) else json.dumps(text) for key, text in metadata.items()}
    path = save(tmp_path / "a.safetensors", lora_tensors(names=NAMES), texts)
    with pytest.raises(FormatError, match=rf"a\.safetensors was trained with {kind} \(.*refused; "):
        read(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"lora_adapter_metadata": {"unet.lora_alpha": 2, "unet.init_lora_weights": True}},
        {"lora_adapter_metadata": {"unet.init_lora_weights": "gaussian"}},
        {"lora_adapter_metadata": {"unet.init_lora_weights": "eva"}},  # A from activations, B zero: the base stays
        {"ss_network_args": {"pissa": "False", "initialize": "none"}},
        {"ss_network_args": [1, 2]},
        {"ss_training_comment": "better than pissa"},
        {"ss_output_name": "olora"},
    ],
)
def test_others_and_converted_ones_are_read(tmp_path: Path, metadata: dict[str, object]) -> None:
    texts = {key: text if isinstance(text, str) else json.dumps(text) for key, text in metadata.items()}
    assert read(save(tmp_path / "a.safetensors", lora_tensors(names=NAMES), texts)).names == NAMES
