"""Which model a file is for: transformers that share their names, told apart by header words and shapes."""

import pytest

from loratools.adapter.architectures.header_words import MODEL, UNCERTAIN, may_be_same, model_in, stated_model
from loratools.adapter.architectures.identify import Identity, identify

W = 3072  # of Flux.1, Chroma, HunyuanVideo, LongCat-Image, Bria, Flux.2 klein 4B, Qwen-Image and AuraFlow
ATTENTION = {"img_attn.qkv": (3, 1), "txt_attn.qkv": (3, 1), "img_attn.proj": (1, 1), "txt_attn.proj": (1, 1)}
FEED_FORWARD = {"img_mlp.0": (4, 1), "img_mlp.2": (1, 4), "txt_mlp.0": (4, 1), "txt_mlp.2": (1, 4)}
GATED = {"img_mlp.0": (6, 1), "img_mlp.2": (1, 3), "txt_mlp.0": (6, 1), "txt_mlp.2": (1, 3)}
MODULATION = {"img_mod.lin": (6, 1), "txt_mod.lin": (6, 1)}
SINGLE = {"linear1": (7, 1), "linear2": (1, 5)}
DIFFUSERS = {f"attn.{part}": (1, 1) for part in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "to_add_out")}
DIFFUSERS_FEED_FORWARD = {"ff.net.0.proj": (4, 1), "ff.net.2": (1, 4), "ff_context.net.0.proj": (4, 1)}
DIFFUSERS_SINGLE = {f"attn.{part}": (1, 1) for part in ("to_q", "to_k", "to_v")}

Shapes = dict[str, tuple[int, ...]]


def blocks(name: str, count: int, modules: dict[str, tuple[int, int]], width: int = W) -> Shapes:
    """stem -> shape of ``modules``, given in widths, of the blocks 0 to ``count`` of the container ``name``."""
    return {
        f"{name}.{i}.{path}": (rows * width, columns * width)
        for i in range(count)
        for path, (rows, columns) in modules.items()
    }


def flat(shapes: Shapes) -> Shapes:
    return {"lora_unet_" + stem.replace(".", "_"): shape for stem, shape in shapes.items()}


def identified(shapes: Shapes, version: str = "", architecture: str = "") -> Identity:
    return identify(shapes, {"ss_base_model_version": version, "modelspec.architecture": architecture})


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Flux.2-klein-4b/lora", "flux2-klein-4b"),
        ("flux2_klein_9b", "flux2-klein-9b"),
        ("flux_2_dev", "flux2-dev"),
        ("flux2", "flux2"),
        ("Flux.1-dev/lora", "flux"),
        ("flux.1_kontext", "flux"),
        ("flux_kontext", "flux"),
        ("flux", "flux"),
        ("flux-1-schnell", "flux"),
        ("chroma_radiance", "chroma"),
        ("Qwen-Image-Edit-2511/lora", "qwen-image"),
        ("z_image", "z-image"),
        ("hunyuan-video-1.5", "hunyuan-video-1.5"),
        ("framepack/lora", "hunyuan-video"),
        ("hunyuan-image-2.1", "hunyuan-image"),
        ("HiDream-O1-Image", "hidream-o1"),
        ("hidream_i1", "hidream-i1"),
        ("wan_2.2_14b", "wan"),
        ("Krea-2/lora", "krea-2"),
        ("lumina-2", "lumina-2"),
        ("anima-preview/lora", "anima"),
        ("stable-diffusion-xl-v1-base/lora", "sdxl"),
        ("sd_v1", "sd1"),
        ("stable-diffusion-v2-768-v/lora", "sd2"),
        ("stable-diffusion-3-medium/lora", "sd3"),
        ("sd3.5-large", "sd3"),
    ],
)
def test_the_words_of_all_trainers_are_known(text: str, name: str) -> None:
    model = model_in(text)
    assert model is not None and model.name == name


def test_a_word_that_is_no_models_names_none() -> None:
    assert model_in("") is model_in("None") is model_in("fluxuation") is model_in(UNCERTAIN) is None


def test_of_two_entries_the_closer_one_counts() -> None:
    for texts, name in (
        ({"ss_base_model_version": "flux1", "modelspec.architecture": "chroma/lora"}, "chroma"),
        ({"ss_base_model_version": "flux_kontext", "modelspec.architecture": "Flux.1-dev/lora"}, "flux"),
        ({"ss_base_model_version": "flux2", "modelspec.architecture": "Flux.2-klein-4b/lora"}, "flux2-klein-4b"),
        ({MODEL: "Chroma", "ss_base_model_version": "flux1"}, "chroma"),
    ):
        model = stated_model(texts)
        assert model is not None and model.name == name


def test_sizes_of_one_model_may_be_the_same_and_others_not() -> None:
    assert may_be_same("flux2", "flux2-dev") and may_be_same("chroma", "chroma")
    assert not may_be_same("flux2-dev", "flux2-klein-9b") and not may_be_same("flux", "flux2")
    assert not may_be_same("hunyuan-video", "hunyuan-video-1.5")


# --- Flux.1 that is told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [64, W])
def test_what_only_flux_1_has_is_flux(width: int) -> None:
    for shapes in (
        blocks("double_blocks", 2, ATTENTION | MODULATION, width),
        flat(blocks("double_blocks", 2, FEED_FORWARD | MODULATION, width)),
        flat(blocks("single_blocks", 3, SINGLE | {"modulation.lin": (3, 1)}, width)),
        blocks("transformer_blocks", 19, DIFFUSERS | {"norm1.linear": (6, 1)}, width),
        flat(blocks("double_blocks", 1, ATTENTION, width)) | {"lora_te1_text_model_encoder_layers_0_mlp_fc1": (8, 8)},
        {"double_blocks.0.processor.qkv_lora1": (3 * width, width)},
    ):
        assert identified(shapes) == Identity("flux", "flux", "Flux.1", ("flux",))


def test_double_blocks_alone_are_flux_1_by_header_words() -> None:
    for shapes in (
        blocks("transformer_blocks", 5, DIFFUSERS),
        flat(blocks("double_blocks", 5, ATTENTION)),
        blocks("double_blocks", 19, ATTENTION | FEED_FORWARD),
    ):
        for version, architecture in (("flux1", ""), ("flux.1", ""), ("", "flux-1-dev/lora"), ("flux_kontext", "")):
            assert identified(shapes, version, architecture).own_table


# --- others that are told --------------------------------------------------------------------------------------------


def test_flux_2_is_told_by_any_shape_that_is_its_own() -> None:
    for shapes in (
        blocks("diffusion_model.double_blocks", 1, {"img_mlp.0": (6, 1)}, 64),
        flat(blocks("double_blocks", 5, ATTENTION | GATED)),
        flat(blocks("double_blocks", 1, {"txt_mlp.2": (1, 3)})),
        flat(blocks("single_blocks", 1, {"linear1": (9, 1)})),
        blocks("single_blocks", 1, {"linear2": (1, 4)}, 64),
        blocks("single_transformer_blocks", 2, {"attn.to_qkv_mlp_proj": (9, 1)}),
    ):
        identity = identified(shapes)
        assert (identity.family, identity.model) == ("flux2", "flux2")
        assert identified(shapes, "flux1", "flux-1-dev/lora").family == "unknown"  # despite its words


@pytest.mark.parametrize("width", [2048, 3584, 4096, 6144])
def test_attention_of_another_width_is_no_flux_1(width: int) -> None:
    """HunyuanVideo 1.5 (which has no single blocks), HunyuanImage, Flux.2 klein 9B, and Flux.2 dev."""
    told = {2048: "hunyuan-video-1.5", 3584: "hunyuan-image"}.get(width, "flux2")
    for shapes in (
        flat(blocks("double_blocks", 4, ATTENTION, width)),
        blocks("transformer_blocks", 4, DIFFUSERS, width),
        blocks("single_transformer_blocks", 4, DIFFUSERS_SINGLE, width),
    ):
        single = any("single_transformer" in stem for stem in shapes)
        assert identified(shapes).family == (told if not single or width == 3584 else "unknown")
        assert identified(shapes, "flux1").family == "unknown"


@pytest.mark.parametrize(
    ("version", "architecture", "title"),
    [
        ("flux_2_klein_4b", "Flux.2-klein-4b/lora", "Flux.2 klein 4B"),
        ("hunyuan_video", "hunyuan-video/lora", "HunyuanVideo"),
        ("qwen_image", "Qwen-Image/lora", "Qwen-Image"),
        ("", "longcat-image", "LongCat-Image"),
        ("bria", "", "Bria"),
        ("ovis_image", "", "Ovis-Image"),
        ("auraflow", "", "AuraFlow"),
    ],
)
def test_other_models_of_these_names_are_told_by_words(version: str, architecture: str, title: str) -> None:
    for shapes in (
        blocks("transformer.transformer_blocks", 5, DIFFUSERS),
        flat(blocks("double_blocks", 5, ATTENTION)),
        blocks("transformer_blocks", 19, DIFFUSERS | {"norm1.linear": (6, 1)}),
    ):
        identity = identified(shapes, version, architecture)
        assert identity.title == title and not identity.uncertain
        own = {"Flux.2 klein 4B": "flux2", "Qwen-Image": "qwen-image", "HunyuanVideo": "hunyuan-video"}.get(title)
        assert identity.family in ("unknown", own)  # its own table, where that has these names


def test_a_gate_that_is_eight_widths_high_is_ovis_and_not_flux() -> None:
    assert identified(blocks("transformer_blocks", 6, {"ff.net.0.proj": (8, 1)})).family == "unknown"
    assert identified(blocks("single_transformer_blocks", 6, {"proj_mlp": (8, 1)})).family == "unknown"


def test_keys_of_few_heads_are_not_flux() -> None:
    shapes = {"transformer_blocks.0.attn.to_q": (6144, 6144), "transformer_blocks.0.attn.to_k": (1536, 6144)}
    assert identified(shapes).family == "krea-2"
    few = {"transformer_blocks.0.attn.to_q": (3072, 3072), "transformer_blocks.0.attn.to_k": (1536, 3072)}
    assert identified(few).family == "unknown"


def test_chroma_is_told_by_words_and_by_its_guidance() -> None:
    shapes = flat(blocks("double_blocks", 19, ATTENTION | FEED_FORWARD))
    chroma = identified(shapes, "", "chroma/lora")
    assert (chroma.family, chroma.model, chroma.label, chroma.own_table) == ("chroma", "chroma", "chroma", True)
    guided = identified(shapes | {"lora_unet_distilled_guidance_layer_layers_0_in_layer": (5120, 5120)})
    assert (guided.family, guided.model) == ("chroma", "chroma")
    modulated = identified(shapes | flat(blocks("double_blocks", 1, MODULATION)), "", "chroma/lora")
    assert (modulated.family, modulated.model) == ("unknown", "chroma")  # it has what Chroma has not


def test_families_that_have_the_same_names_are_all_named() -> None:
    both = identified(blocks("blocks", 2, {"self_attn.q_proj": (1, 1), "mlp.layer1": (4, 1)}, 2048))
    assert (both.model, both.title, both.label) == ("", *["Anima or Cosmos-Predict2"] * 2)
    assert identified(blocks("blocks", 2, {"self_attn.q_proj": (1, 1)}, 5120)).model == "cosmos-predict2"
    alike = flat(blocks("layers", 2, {"feed_forward.w1": (2, 1)}, 24))  # whose second family has another Diffusers name
    assert identified(alike).family == "unknown" and "Lumina 2" in identified(alike).title
    assert {"z-image", "lumina-2"} <= set(identified(alike).readable)


# --- what cannot be told ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [64, W])
def test_what_several_models_have_is_not_called_flux_1(width: int) -> None:
    for shapes in (
        flat(blocks("double_blocks", 5, ATTENTION, width)),
        blocks("double_blocks", 19, ATTENTION | FEED_FORWARD, width) | blocks("single_blocks", 38, SINGLE, width),
        blocks("transformer_blocks", 10, DIFFUSERS | {"norm1.linear": (6, 1)}, width),  # as LongCat-Image has
        blocks("transformer_blocks", 3, DIFFUSERS, width) | blocks("single_transformer_blocks", 3, DIFFUSERS_SINGLE),
        blocks("transformer_blocks", 3, DIFFUSERS | DIFFUSERS_FEED_FORWARD, width),
    ):
        for version in ("", "None", "our-own-model"):
            identity = identified(shapes, version)
            assert (identity.family, identity.model, identity.title) == ("flux", "", UNCERTAIN)
            assert identity.uncertain and not identity.own_table and {"flux", "unknown"} <= set(identity.readable)


def test_attention_by_diffusers_names_keeps_the_files_own_names() -> None:
    """It may be Qwen-Image's or AuraFlow's, whose modules no other tool calls ``double_blocks``."""
    for shapes in (
        blocks("transformer.transformer_blocks", 5, DIFFUSERS),
        blocks("transformer_blocks", 18, DIFFUSERS),
        blocks("single_transformer_blocks", 20, DIFFUSERS_SINGLE),
    ):
        identity = identified(shapes)
        assert (identity.family, identity.title, identity.readable[:2]) == ("unknown", UNCERTAIN, ("unknown", "flux"))
        assert identify(shapes, {MODEL: UNCERTAIN}).family == "flux"  # written here, from names that settle it


def test_text_encoders_alone_are_of_flux_1_or_sd3() -> None:
    t5 = {"lora_te3_encoder_block_0_layer_0_SelfAttention_q": (4096, 4096)}
    clip = {"lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768)}
    for shapes in (t5, t5 | clip):
        assert identified(shapes).title == UNCERTAIN and identified(shapes).family == "unknown"
        assert identified(shapes, "flux1").own_table and identified(shapes, "sd3").family == "sd3"


def test_qwen_image_blocks_beyond_flux_are_not_sd3() -> None:
    assert identified(blocks("transformer_blocks", 30, DIFFUSERS)).family == "qwen-image"
    assert identified(blocks("transformer_blocks", 30, DIFFUSERS, 1536)).family == "sd3"
    assert identified(blocks("transformer_blocks", 10, DIFFUSERS, 2432)).family == "sd3"
    assert identified(blocks("transformer_blocks", 30, DIFFUSERS, 64)).family == "sd3"


# --- UNets -----------------------------------------------------------------------------------------------------------


def test_kolors_has_the_names_of_sdxl_and_is_not_sdxl() -> None:
    shapes = {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048)}
    assert identified(shapes).own_table and identified(shapes, "sdxl_base_v1-0").model == "sdxl"
    kolors = identified(shapes, "", "kolors/lora")
    assert (kolors.family, kolors.label, kolors.own_table) == ("sdxl", "kolors", False)
