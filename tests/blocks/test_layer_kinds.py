"""Rules that part a block's layers by kind: each module is in exactly one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratools.adapter.files.file import read
from loratools.blocks.layer_kinds import layer_kinds, with_fewest_rules
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import full_scheme
from loratools.blocks.vector import vector_of
from tests.loras import lora_tensors, save

FAMILIES = ("sd1", "sd2", "sdxl", "flux")


@pytest.mark.parametrize("family", FAMILIES)
def test_rules_cover_each_module_of_their_blocks_once(family: str, tmp_path: Path) -> None:
    adapter = read(save(tmp_path / "lora.safetensors", lora_tensors(family, rank=1)))
    scheme = full_scheme(adapter.family)
    kinds = layer_kinds(adapter, scheme)
    rules = [where for own in kinds.values() for where in own]
    vector = vector_of(scheme, dict.fromkeys(rules, 2.0))
    for module in adapter:
        block = scheme.block_of(module)
        if block in kinds:
            matching = [rule for rule in vector.rules if rule.applies(block, module)]
            assert len(matching) == 1, module
            assert matching[0].where in kinds[block]


def test_blocks_of_stable_diffusion_have_attention_feed_forward_and_projections(tmp_path: Path) -> None:
    adapter = read(save(tmp_path / "lora.safetensors", lora_tensors("sd1", rank=1)))
    kinds = layer_kinds(adapter, full_scheme("sd1"))
    assert set(kinds) == {f"IN{n:02d}" for n in (1, 2, 4, 5, 7, 8)} | {"M00"} | {f"OUT{n:02d}" for n in range(3, 12)}
    assert all({where.split("/")[1] for where in own} >= {"attn1", "attn2", "ff"} for own in kinds.values())
    assert "BASE" not in kinds


def test_what_no_rule_tells_apart_stays_whole() -> None:
    scheme = full_scheme("sd1")
    assert layer_kinds(["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"], scheme) == {}
    assert layer_kinds(["text_encoder.text_model.encoder.layers.0.mlp.fc1"], scheme) == {}
    assert layer_kinds(["layers.3.attn.to_q", "layers.3.mlp.fc1"], full_scheme("unknown")) == {}


def test_weights_of_kinds_are_said_by_as_few_rules_as_can_be() -> None:
    own = {"BASE": 0.5, "IN01/attn1": 0.3, "IN01/attn2": 1.0, "IN01/ff": 1.0, "IN02/attn1": 0.2, "IN02/ff": 0.4}
    fewest = with_fewest_rules(own)
    assert fewest == {"BASE": 0.5, "IN01": 1.0, "IN02": 0.2, "IN01/attn1": 0.3, "IN02/ff": 0.4}
    now = with_fewest_rules(own, {"BASE": 1.0, "IN01": 0.3, "IN02": 0.4})
    assert now == {"BASE": 0.5, "IN01": 1.0, "IN02": 0.4, "IN01/attn1": 0.3, "IN02/attn1": 0.2}
    assert list(now) == ["BASE", "IN01", "IN02", "IN01/attn1", "IN02/attn1"]


def test_a_block_that_is_set_anew_has_no_layer_of_another_weight() -> None:
    vector = parse_vector("GP1,IN04-IN05/attn=0,OUT05/ff=2", load_presets(), "sd1").with_blocks(["IN05"], 0.7)
    down = "unet.down_blocks.1.attentions.{}.transformer_blocks.0.attn1.to_q"
    assert (vector.at("IN04", down.format(0)), vector.at("IN05", down.format(1))) == (0.0, 0.7)
    assert parse_vector(vector.text(), load_presets(), "sd1") == vector
    plain = parse_vector("GP1", load_presets(), "sd1").with_blocks(["IN05"], 0.7)
    assert not plain.rules and plain.weights["IN05"] == 0.7
