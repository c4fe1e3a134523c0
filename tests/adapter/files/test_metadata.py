import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import KEY, Provenance, inherited, merged_metadata
from loratools.adapter.header import read_header
from loratools.ops.convert import convert
from loratools.ops.resize import resize_file


def test_provenance_goes_through_the_header_and_back() -> None:
    made = Provenance({"merge": "A:1"}, "recipe.yaml final", [{"name": "A", "digest": "ab"}], {"cd": {"step": {}}})
    assert Provenance.from_metadata({KEY: made.to_json()}) == made
    assert list(json.loads(made.to_json())) == ["ancestors", "inputs", "owner", "step", "version"]


def test_a_foreign_entry_is_none() -> None:
    for text in ("", "[]", '{"step": 1}', "x", "[" * 100_000):
        assert Provenance.from_metadata({KEY: text}) is None
    assert Provenance.from_metadata({}) is None


def test_ancestors_are_collected() -> None:
    old = Provenance({"train": 1}, "run", ancestors={"aa": {"step": {"basestyle": 1}}})
    ancestors = inherited([("bb", {KEY: old.to_json()}), ("cc", {})])
    assert list(ancestors) == ["aa", "bb"] and ancestors["bb"]["step"] == {"train": 1}


def test_one_part_keeps_its_training_facts() -> None:
    facts = {
        "ss_epoch": "3",
        "modelspec.title": "t",
        "sshs_model_hash": "x",
        "ss_network_args": "{}",
        KEY: "{}",
        "a": "b",
    }
    assert merged_metadata([facts]) == {"ss_epoch": "3", "modelspec.title": "t"}


def test_several_parts_keep_what_they_agree_on_and_unite_their_tags() -> None:
    one = {
        "ss_clip_skip": "2",
        "ss_resolution": "(512, 512)",
        "ss_epoch": "3",
        "ss_output_name": "ink",
        "ss_tag_frequency": json.dumps({"imgs": {"ink": 8, "1girl": 3}}),
        "modelspec.trigger_phrase": "ink",
        "ss_dataset_dirs": json.dumps({"imgs": {"n_repeats": 2, "img_count": 8}}),
        "modelspec.date": "2026-01-01",
    }
    two = {
        "ss_clip_skip": "2",
        "ss_resolution": "(768, 768)",
        "ss_epoch": "3",
        "ss_output_name": "base",
        "ss_tag_frequency": json.dumps({"imgs": {"1girl": 5}, "more": {"hat": 1}}),
        "ss_dataset_dirs": "not json",
        "modelspec.date": "2025-05-05",
    }
    merged = merged_metadata([one, two])
    assert merged["ss_clip_skip"] == "2" and "ss_resolution" not in merged and "ss_epoch" not in merged
    assert json.loads(merged["ss_tag_frequency"]) == {"imgs": {"ink": 8, "1girl": 5}, "more": {"hat": 1}}
    assert json.loads(merged["ss_dataset_dirs"]) == {"imgs": {"n_repeats": 2, "img_count": 8}}
    assert merged["modelspec.trigger_phrase"] == "ink" and merged["modelspec.merged_from"] == "ink, base"
    assert merged["modelspec.date"] == "2026-01-01"


def test_a_file_of_plain_factors_says_neither_lycoris_nor_a_hash_of_its_source(tmp_path: Path) -> None:
    """What was a LoHa is a LoRA once it is rewritten; and the model spec's hash is over other bytes."""
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    sides = {
        f"{stem}.hada_w{n}_{side}": torch.ones(shape) for n in "12" for side, shape in (("a", (6, 2)), ("b", (2, 6)))
    }
    said = {"ss_network_module": "lycoris.kohya", "modelspec.hash_sha256": "0xdead", "ss_seed": "4"}
    save_file(sides, tmp_path / "loha.safetensors", said)
    save_file({f"{stem}.diff": torch.ones(6, 6)}, tmp_path / "full.safetensors", said)
    resize_file(read(tmp_path / "loha.safetensors"), tmp_path / "resized.safetensors")
    convert(tmp_path / "loha.safetensors", tmp_path / "converted.safetensors", style="diffusers")
    convert(tmp_path / "full.safetensors", tmp_path / "stays.safetensors", style="kohya")
    modules = {"resized": "networks.lora", "converted": "networks.lora", "stays": "lycoris.kohya"}
    for name, module in modules.items():
        metadata = read_header(tmp_path / f"{name}.safetensors").metadata
        assert metadata["ss_network_module"] == module and metadata["ss_seed"] == "4"
        assert "modelspec.hash_sha256" not in metadata
