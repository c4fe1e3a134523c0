import pytest
from safetensors import safe_open

from loratools.adapter.architectures.names import (
    FAMILIES,
    FusedWeight,
    Naming,
    family_of,
    kohya_name,
    kohya_weights,
    lora_targets,
    module_tree,
    other_tree,
    resolve,
    stem_of,
)
from loratools.errors import FormatError
from tests.loras import trained


def whole_module(stem: str, family: str) -> str | None:
    """The canonical name of the one module that a stem holds whole; else None."""
    fused = resolve(stem, family)
    return fused.names[0] if fused is not None and fused.split == "whole" else None


@pytest.mark.parametrize(
    ("family", "plain", "with_conv", "all_modules"),
    [("sd1", 264, 350, 354), ("sd2", 330, 416, 420), ("sdxl", 986, 1052, 1058)],
)
def test_the_trees_have_the_counts_that_sd_scripts_makes(
    family: str, plain: int, with_conv: int, all_modules: int
) -> None:
    assert len(lora_targets(family)) == len(set(lora_targets(family))) == plain
    assert len(lora_targets(family, conv=True)) == with_conv
    assert len(module_tree(family)) == all_modules


@pytest.mark.parametrize("family", FAMILIES)
def test_every_name_goes_to_kohya_and_back(family: str) -> None:
    names = [module.name for module in (*module_tree(family), *other_tree(family))]
    places = {stem: place for stem, place in kohya_weights(family).items() if set(place.names) <= set(names)}
    assert sorted(name for place in places.values() for name in place.names) == sorted(names)
    for stem, place in places.items():
        assert resolve(stem, family) == place and {kohya_name(name, family) for name in place.names} == {stem}


@pytest.mark.parametrize(
    ("family", "stem", "canonical"),
    [
        ("sd1", "lora_te_text_model_encoder_layers_0_mlp_fc1", "text_encoder.text_model.encoder.layers.0.mlp.fc1"),
        (
            "sd1",
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0",
            "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
        ),
        (
            "sd1",
            "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj",
            "unet.up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj",
        ),
        ("sd1", "lora_unet_down_blocks_1_resnets_0_conv_shortcut", "unet.down_blocks.1.resnets.0.conv_shortcut"),
        ("sd1", "lora_unet_up_blocks_0_upsamplers_0_conv", "unet.up_blocks.0.upsamplers.0.conv"),
        ("sd2", "lora_te_text_model_encoder_layers_22_mlp_fc2", "text_encoder.text_model.encoder.layers.22.mlp.fc2"),
        (
            "sdxl",
            "lora_te1_text_model_encoder_layers_0_self_attn_q_proj",
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
        ),
        (
            "sdxl",
            "lora_te2_text_model_encoder_layers_31_mlp_fc2",
            "text_encoder_2.text_model.encoder.layers.31.mlp.fc2",
        ),
        ("sdxl", "lora_unet_input_blocks_4_1_proj_in", "unet.down_blocks.1.attentions.0.proj_in"),
        (
            "sdxl",
            "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_v",
            "unet.down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_v",
        ),
        (
            "sdxl",
            "lora_unet_middle_block_1_transformer_blocks_0_ff_net_0_proj",
            "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
        ),
        (
            "sdxl",
            "lora_unet_output_blocks_0_1_transformer_blocks_0_attn1_to_q",
            "unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
        ("sdxl", "lora_unet_input_blocks_1_0_in_layers_2", "unet.down_blocks.0.resnets.0.conv1"),
        ("sdxl", "lora_unet_input_blocks_4_0_skip_connection", "unet.down_blocks.1.resnets.0.conv_shortcut"),
        ("sdxl", "lora_unet_input_blocks_3_0_op", "unet.down_blocks.0.downsamplers.0.conv"),
        ("sdxl", "lora_unet_output_blocks_2_2_conv", "unet.up_blocks.0.upsamplers.0.conv"),
        ("sdxl", "lora_unet_middle_block_2_emb_layers_1", "unet.mid_block.resnets.1.time_emb_proj"),
    ],
)
def test_names_that_other_tools_write(family: str, stem: str, canonical: str) -> None:
    assert whole_module(stem, family) == canonical
    assert kohya_name(canonical, family) == stem


def test_sdxl_reads_the_diffusers_spelling_too() -> None:
    assert (
        whole_module("lora_unet_down_blocks_1_attentions_0_proj_in", "sdxl")
        == "unet.down_blocks.1.attentions.0.proj_in"
    )


def test_text_encoders_of_any_depth_are_known() -> None:
    assert kohya_name("text_encoder.text_model.encoder.layers.40.mlp.fc1", "sd1") == (
        "lora_te_text_model_encoder_layers_40_mlp_fc1"
    )
    assert len([m for m in module_tree("sd1", 4) if m.text]) == 24
    live = [module.name for module in module_tree("sd1", 4)]
    assert len(lora_targets("sd1", live)) == 192 + 24


def test_names_outside_the_tree_are_none_or_an_error() -> None:
    assert whole_module("lora_unet_down_blocks_3_attentions_0_proj_in", "sd1") is None
    with pytest.raises(FormatError, match="has no module"):
        kohya_name("unet.down_blocks.7.proj_in", "sd1")
    with pytest.raises(FormatError, match="did you mean 'sdxl'"):
        family_of("sdlx")


def test_the_key_set_is_that_of_a_file_that_sd_scripts_trained() -> None:
    stems = {kohya_name(name, "sd1") for name in lora_targets("sd1")}
    for name in ("style-r8a4", "base-r4a1"):
        with safe_open(trained(name), "pt") as file:
            keys = set(file.keys())
        assert keys == {f"{s}.{part}" for s in stems for part in ("alpha", "lora_down.weight", "lora_up.weight")}


@pytest.mark.parametrize("naming", ["kohya", "diffusers", "comfy"])
def test_a_shortcut_of_other_widths_is_named_and_read_but_no_target(naming: Naming) -> None:
    """The pocket base's last level widens, which SD1's does not; its full differences have names all the same."""
    own = "unet.down_blocks.3.resnets.0.conv_shortcut"
    stem = own if naming == "diffusers" else stem_of(own, "sd1", naming)
    assert resolve(stem, "sd1") == FusedWeight((own,))
    assert own not in lora_targets("sd1", conv=True) and own not in {module.name for module in module_tree("sd1")}
