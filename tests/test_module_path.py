"""One module has one normal path, however a trainer spells it; what only looks alike has another."""

import pytest

from loratools.module_path import NETWORK, is_text, normal_path, numbered_container, split_path

TO_Q = "layers.0.attention.to_q"
DOTTED = (
    "",
    "diffusion_model.",
    "model.diffusion_model.",
    "transformer.",
    "unet.",
    "net.",
    "base_model.model.",
    "base_model.model.transformer.",
    "transformer.base_model.model.",
    "module.",
    "module.transformer.",
    "transformer.module.",
    "_orig_mod.",
    "transformer._orig_mod.",
    "transformer.transformer.",
    "diffusion_model.diffusion_model.",
    "base_model.model.diffusion_model.",
    "module.base_model.model.model.",
)
FLAT = ("lora_unet_", "lora_unet__", "lora_transformer_", "lycoris_", "lycoris_unet_")


@pytest.mark.parametrize("name", [*(f"{p}{TO_Q}" for p in DOTTED), *(f"{p}layers_0_attention_to_q" for p in FLAT)])
def test_every_spelling_of_a_module_is_that_module(name: str) -> None:
    path = split_path(name)
    assert path.normal == ":layers_0_attention_to_q" and path.component == NETWORK
    assert path.namespace + path.path == name
    assert normal_path(path.unwrapped) == path.normal
    assert numbered_container(name) == ("layers", 0) and not is_text(name)


@pytest.mark.parametrize(
    "name",
    [
        *(f"lora_te{number}_layers_0_self_attn_q_proj" for number in ("", "1")),
        "lora_te_model_layers_0_self_attn_q_proj",
        "text_encoder.layers.0.self_attn.q_proj",
        "text_encoder.model.layers.0.self_attn.q_proj",
        "text_encoders.qwen3_06b.transformer.model.layers.0.self_attn.q_proj",
        "base_model.model.text_encoder.layers.0.self_attn.q_proj",
        "text_encoder.base_model.model.layers.0.self_attn.q_proj",
        "text_encoder.text_encoder.layers.0.self_attn.q_proj",
        "module.text_encoder.layers.0.self_attn.q_proj",
    ],
)
def test_a_text_encoder_is_another_component(name: str) -> None:
    assert normal_path(name) == "text_encoder:layers_0_self_attn_q_proj" and is_text(name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("diffusion_model.layers.1.1.q", "diffusion_model.layers.11.q"),
        ("lora_te1_text_model_x", "lora_te2_text_model_x"),
        ("clip_l.transformer.text_model.x", "clip_g.transformer.text_model.x"),
        ("lora_unet_layers_0_q", "lora_te_layers_0_q"),
        ("transformer_blocks.0.q", "blocks.0.q"),
        ("lycoris_transformer_blocks_0_q", "lycoris_blocks_0_q"),
    ],
)
def test_other_modules_stay_apart(one: str, other: str) -> None:
    assert normal_path(one) != normal_path(other)


def test_a_block_is_told_by_the_first_number_whatever_separates_the_words() -> None:
    for name in ("lora_unet_txtfusion_layerwise_blocks_1_attn_wq", "txtfusion.layerwise_blocks.1.attn.wq"):
        assert numbered_container(name) == ("txtfusion_layerwise_blocks", 1)
    assert numbered_container("diffusion_model.final_layer.adaLN_modulation.1") == ("final_layer_adaln_modulation", 1)
    assert numbered_container("diffusion_model.x_embedder") is None
