"""A single-file checkpoint's keys from canonical names: the inverse of reading them, for each family."""

from __future__ import annotations

import pytest

from loratools.adapter.architectures.compvis import original_keys, views_of
from loratools.adapter.architectures.names import module_tree, other_tree
from loratools.adapter.architectures.vae_names import is_vae_attention, original_vae_names


def parameters(family: str) -> list[str]:
    names = []
    for module in (*module_tree(family), *other_tree(family)):
        names.append(f"{module.name}.weight")
        if module.kind != "embedding" and not module.name.endswith(("text_projection", "to_q", "to_k", "to_v")):
            names.append(f"{module.name}.bias")
    return names


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_keys_are_read_back_as_what_they_hold(family: str) -> None:
    names = parameters(family)
    keys = original_keys(names, family)
    assert sorted(view.name for views in keys.values() for view in views) == sorted(names)
    for key, views in keys.items():
        assert views_of(key, family) == views, key


def test_a1111s_keys() -> None:
    """What A1111 looks for to tell the families apart, and some of each part."""
    one, two, xl = (original_keys(parameters(family), family) for family in ("sd1", "sd2", "sdxl"))
    assert {
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.time_embed.2.bias",
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_out.0.weight",
        "model.diffusion_model.output_blocks.8.2.conv.weight",
        "model.diffusion_model.out.2.weight",
        "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc2.bias",
    } <= one.keys()
    assert {
        "cond_stage_model.model.transformer.resblocks.22.attn.in_proj_weight",
        "cond_stage_model.model.positional_embedding",
        "cond_stage_model.model.ln_final.weight",
    } <= two.keys()
    assert {
        "conditioner.embedders.1.model.ln_final.weight",
        "conditioner.embedders.1.model.text_projection",
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
        "model.diffusion_model.label_emb.0.2.bias",
    } <= xl.keys()
    assert len(xl["conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_bias"]) == 3


def test_the_autoencoders_keys() -> None:
    names = [
        "encoder.down_blocks.0.resnets.1.conv1.weight",
        "encoder.down_blocks.2.downsamplers.0.conv.bias",
        "encoder.mid_block.attentions.0.to_q.weight",
        "decoder.mid_block.attentions.0.group_norm.weight",
        "decoder.up_blocks.0.resnets.2.conv2.weight",
        "decoder.up_blocks.3.resnets.0.conv_shortcut.weight",
        "decoder.up_blocks.0.upsamplers.0.conv.weight",
        "decoder.conv_norm_out.weight",
        "post_quant_conv.weight",
    ]
    assert list(original_vae_names(names).values()) == [
        "first_stage_model.encoder.down.0.block.1.conv1.weight",
        "first_stage_model.encoder.down.2.downsample.conv.bias",
        "first_stage_model.encoder.mid.attn_1.q.weight",
        "first_stage_model.decoder.mid.attn_1.norm.weight",
        "first_stage_model.decoder.up.3.block.2.conv2.weight",
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight",
        "first_stage_model.decoder.up.3.upsample.conv.weight",
        "first_stage_model.decoder.norm_out.weight",
        "first_stage_model.post_quant_conv.weight",
    ]
    assert [name for name in names if is_vae_attention(name)] == ["encoder.mid_block.attentions.0.to_q.weight"]
