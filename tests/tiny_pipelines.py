"""Tiny random pipelines of other families, saved as Diffusers folders: every model and tokenizer is made here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tests.tiny import save_tiny_tokenizer

WIDTH = 32  # of every text encoder
HEADS = 2
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _clip(folder: Path, projected: bool) -> tuple[Any, Any]:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    size = save_tiny_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=2,
        projection_dim=WIDTH,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer, (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _t5(*, multilingual: bool = False, width: int = WIDTH) -> tuple[Any, Any]:
    from transformers import T5Config, T5EncoderModel, T5Tokenizer, UMT5Config, UMT5EncoderModel

    pieces = ["▁", *"abcdefghijklmnopqrstuvwxyz,.1234567890"]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -2.0) for piece in pieces)]
    tokenizer = T5Tokenizer(vocab=vocab, extra_ids=0)
    kind, model = (UMT5Config, UMT5EncoderModel) if multilingual else (T5Config, T5EncoderModel)
    config = kind(
        vocab_size=len(tokenizer), d_model=width, d_kv=16, d_ff=WIDTH, num_layers=2, num_heads=HEADS, is_gated_act=True
    )
    return tokenizer, model(config)


def _qwen_tokenizer() -> Any:
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *_SPECIAL]
    tokenizer = Qwen2Tokenizer(
        vocab={piece: n for n, piece in enumerate(pieces)}, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = _CHAT
    return tokenizer


def _qwen3(tokenizer: Any, layers: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            head_dim=16,
        )
    )


def _vae(latents: int) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8,),
        latent_channels=latents,
        norm_num_groups=4,
        scaling_factor=0.5,
        shift_factor=0.1,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _scheduler(**more: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=3.0, **more)


def flux(folder: Path) -> Any:
    """Flux.1 dev: guidance-distilled, CLIP and T5."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    (tokenizer, clip), (tokenizer_2, t5) = _clip(folder, projected=False), _t5()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=HEADS,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxPipeline(_scheduler(), _vae(4), clip, tokenizer, t5, tokenizer_2, transformer)


def sd3(folder: Path) -> Any:
    """SD3 with its three text encoders."""
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    tokenizer, clip = _clip(folder, projected=True)
    (_, clip_2), (tokenizer_3, t5) = _clip(folder, projected=True), _t5(width=2 * WIDTH)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        in_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=HEADS,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
        pos_embed_max_size=16,
    )
    return StableDiffusion3Pipeline(
        transformer, _scheduler(), _vae(4), clip, tokenizer, clip_2, tokenizer, t5, tokenizer_3
    )


def z_image(folder: Path) -> Any:
    """Z-Image, with Qwen3."""
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    tokenizer = _qwen_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=WIDTH,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=HEADS,
        n_kv_heads=HEADS,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 4, 8],
        axes_lens=[512, 64, 64],
    )
    for name in ("x_pad_token", "cap_pad_token"):  # uninitialised memory otherwise
        torch.nn.init.normal_(getattr(transformer, name))
    return ZImagePipeline(_scheduler(), _vae(4), _qwen3(tokenizer, 2).model, tokenizer, transformer)


def qwen_image(folder: Path) -> Any:
    """Qwen-Image, with Qwen2.5-VL."""
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = _qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
        "rope_theta": 1000000.0,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_heads": HEADS,
        "out_hidden_size": WIDTH,
    }
    encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=HEADS,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return QwenImagePipeline(_scheduler(), vae, encoder, tokenizer, transformer)


def flux2(folder: Path) -> Any:
    """Flux.2 klein, with Qwen3."""
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel

    tokenizer = _qwen_tokenizer()
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(8,),
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
    )
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=HEADS,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    return Flux2KleinPipeline(_scheduler(), vae, _qwen3(tokenizer, 27), tokenizer, transformer)  # it reads the 27th


def wan(folder: Path) -> Any:
    """Wan 2.1, which draws videos, with UMT5."""
    from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel

    tokenizer, t5 = _t5(multilingual=True)
    vae = AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        scale_factor_temporal=2,
        scale_factor_spatial=2,
    )
    transformer = WanTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        text_dim=WIDTH,
        freq_dim=16,
        ffn_dim=WIDTH,
        num_layers=2,
        rope_max_seq_len=32,
    )
    return WanPipeline(tokenizer, t5, vae, _scheduler(), transformer)


PIPELINES: Mapping[str, Callable[[Path], Any]] = {
    "flux": flux,
    "sd3": sd3,
    "z-image": z_image,
    "qwen-image": qwen_image,
    "flux2": flux2,
    "wan": wan,
}


def save_pipeline(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a tiny random pipeline of ``family`` to ``folder``, its weights large enough to be seen, and return it."""
    torch.manual_seed(seed)
    pipeline = PIPELINES[family](folder.with_name(f"{folder.name}-tokenizer"))
    with torch.no_grad():
        for parameter in pipeline.transformer.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
    pipeline.save_pretrained(folder)
    return folder
