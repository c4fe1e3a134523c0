"""The generated tables against live models: every module has exactly one name, and every spelling leads to it."""

import pytest
from torch import nn

from loratools.adapter.architectures.block_transformer import BlockTransformer
from loratools.adapter.architectures.known_families import family_of
from loratools.adapter.architectures.names import FAMILIES, kohya_name, module_tree, other_tree, resolve
from loratools.blocks.scheme import full_scheme


def weighted(model: nn.Module, prefix: str) -> set[str]:
    """Canonical names of the modules that hold parameters."""
    names = {name for name, module in model.named_modules() if list(module.parameters(recurse=False))}
    return {f"{prefix}.{name}" for name in names}


def table(family: str, component: str) -> set[str]:
    return {m.name for m in (*module_tree(family), *other_tree(family)) if m.name.startswith(f"{component}.")}


def flux() -> nn.Module:
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=19,
        num_single_layers=38,
        attention_head_dim=8,
        num_attention_heads=1,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )


def sd3(layers: int = 38) -> nn.Module:
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=4,
        patch_size=2,
        in_channels=4,
        num_layers=layers,
        attention_head_dim=8,
        num_attention_heads=1,
        joint_attention_dim=8,
        caption_projection_dim=8,
        pooled_projection_dim=8,
        out_channels=4,
        pos_embed_max_size=4,
        dual_attention_layers=tuple(range(13)),
        qk_norm="rms_norm",
    )


def test_flux_is_the_live_models_tree() -> None:
    assert weighted(flux(), "transformer") == table("flux", "transformer")


def test_sd3_holds_the_live_models_tree() -> None:
    live, known = weighted(sd3(), "transformer"), table("sd3", "transformer")
    assert live <= known
    # the table is that of every SD3: any block may attend twice, and the last may have a context stream
    extra = {name.partition("transformer_blocks.")[2].partition(".")[2] for name in known - live}
    assert all(part.startswith(("attn2", "attn.to_add_out", "ff_context")) for part in extra), extra


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_unet_norms_are_the_live_models(family: str) -> None:
    from diffusers import UNet2DConditionModel

    sizes = {
        "sd1": {"block_out_channels": (4, 4, 4, 4), "attention_head_dim": 2},
        "sdxl": {
            "block_out_channels": (4, 4, 4),
            "attention_head_dim": 2,
            "use_linear_projection": True,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 32,
        },
    }[family]
    live = weighted(UNet2DConditionModel(norm_num_groups=2, cross_attention_dim=4, **sizes), "unet")
    known = {m.name: m for m in (*module_tree(family), *other_tree(family)) if m.name.startswith("unet.")}
    # equal channels everywhere need no shortcuts on the way down
    assert live <= set(known)
    assert all(name.endswith("conv_shortcut") for name in set(known) - live)


def test_t5_is_the_live_models_tree() -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=24, num_heads=2, feed_forward_proj="gated-gelu"
    )
    live = weighted(T5EncoderModel(config), "text_encoder_3")
    live -= {name for name in live if name.endswith(("relative_attention_bias", "embed_tokens"))}
    assert live == table("sd3", "text_encoder_3")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_is_reached_by_every_namespace(family: str) -> None:
    main = FAMILIES[family].component
    for module in module_tree(family):
        component, _, path = module.name.partition(".")
        flat = path.replace(".", "_")
        spellings = [module.name, f"base_model.model.{module.name}"]
        if component == main:
            spellings += [
                f"diffusion_model.{path}",
                f"base_model.model.{path}",
                path,
                f"lora_unet_{flat}",
                f"lora_transformer_{flat}",
                f"lycoris_{flat}",
            ]
        for spelling in spellings:
            place = resolve(spelling, family)
            assert place is not None and place.names == (module.name,) and place.split == "whole", spelling


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_is_in_one_block_or_known_to_be_in_none(family: str) -> None:
    scheme = full_scheme(family)
    outside = {m.name for m in module_tree(family) if scheme.block_of(m.name) is None}
    unet = {"unet.time_embedding.linear_1", "unet.time_embedding.linear_2", "unet.conv_out"}
    added = {"unet.add_embedding.linear_1", "unet.add_embedding.linear_2"}
    network = family_of(family).network
    outer = {
        name
        for weight in (network.outer if isinstance(network, BlockTransformer) else ())
        for name in weight.fused(f"{weight.component or family_of(family).component}.").names
        if len(weight.shape.split()) > 1
    }
    slots = isinstance(network, BlockTransformer) and network.slots is not None  # for all outside the blocks
    assert outside == {"sd1": unet, "sd2": unet, "sdxl": unet | added}.get(family, set() if slots else outer)
    for block in scheme.blocks:
        if not any(block.prefixes):  # of a text encoder that is not trained, or that the model lacks
            continue
        assert any(scheme.block_of(m.name) == block.name for m in module_tree(family)), block.name


@pytest.mark.parametrize(
    ("family", "stem", "names"),
    [
        (
            "flux",
            "lora_unet_double_blocks_3_img_attn_qkv",
            [f"transformer.transformer_blocks.3.attn.to_{x}" for x in "qkv"],
        ),
        (
            "flux",
            "diffusion_model.double_blocks.3.txt_attn.qkv",
            [f"transformer.transformer_blocks.3.attn.add_{x}_proj" for x in "qkv"],
        ),
        (
            "flux",
            "single_blocks.0.linear1",
            [
                *(f"transformer.single_transformer_blocks.0.attn.to_{x}" for x in "qkv"),
                "transformer.single_transformer_blocks.0.proj_mlp",
            ],
        ),
        (
            "flux",
            "double_blocks.0.processor.qkv_lora2",
            [f"transformer.transformer_blocks.0.attn.add_{x}_proj" for x in "qkv"],
        ),
        ("flux", "double_blocks.0.processor.proj_lora1", ["transformer.transformer_blocks.0.attn.to_out.0"]),
        ("flux", "lora_te1_text_model_encoder_layers_0_mlp_fc1", ["text_encoder.text_model.encoder.layers.0.mlp.fc1"]),
        (
            "flux",
            "lora_te3_encoder_block_0_layer_0_SelfAttention_q",
            ["text_encoder_2.encoder.block.0.layer.0.SelfAttention.q"],
        ),
        (
            "flux",
            "text_encoders.t5xxl.transformer.encoder.block.1.layer.1.DenseReluDense.wo",
            ["text_encoder_2.encoder.block.1.layer.1.DenseReluDense.wo"],
        ),
        (
            "sd3",
            "lora_unet_joint_blocks_0_x_block_attn2_qkv",
            [f"transformer.transformer_blocks.0.attn2.to_{x}" for x in "qkv"],
        ),
        (
            "sd3",
            "lora_te3_encoder_block_0_layer_0_SelfAttention_o",
            ["text_encoder_3.encoder.block.0.layer.0.SelfAttention.o"],
        ),
        (
            "sdxl",
            "text_encoders.clip_g.transformer.text_model.encoder.layers.3.mlp.fc2",
            ["text_encoder_2.text_model.encoder.layers.3.mlp.fc2"],
        ),
        (
            "sdxl",
            "diffusion_model.output_blocks.0.1.transformer_blocks.0.attn1.to_q",
            ["unet.up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"],
        ),
        ("sdxl", "lora_unet_input_blocks_1_0_in_layers_0", ["unet.down_blocks.0.resnets.0.norm1"]),
        (
            "sd1",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora",
            ["unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"],
        ),
        (
            "sd1",
            "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora",
            ["text_encoder.text_model.encoder.layers.0.self_attn.q_proj"],
        ),
        ("sd1", "lora_te_encoder_layers_0_mlp_fc1", ["text_encoder.text_model.encoder.layers.0.mlp.fc1"]),
    ],
)
def test_spellings_that_other_tools_write(family: str, stem: str, names: list[str]) -> None:
    place = resolve(stem, family)
    assert place is not None and list(place.names) == names


def test_kohya_trains_the_flux_modules_that_it_says() -> None:
    stems = {kohya_name(m.name, "flux") for m in module_tree("flux") if m.attention and not m.text}
    assert len(stems) == 19 * 10 + 38 * 3


def test_the_trees_hold_nothing_twice() -> None:
    for family in FAMILIES:
        names = [m.name for m in (*module_tree(family), *other_tree(family))]
        assert len(names) == len(set(names))
