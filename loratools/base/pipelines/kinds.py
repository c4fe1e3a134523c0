"""What is known of diffusers' pipelines beyond their signatures: how they take a CFG scale, and distilled variants.

CFG here is the scale ``c`` of ``negative + c * (positive - negative)``, as in the WebUI and ComfyUI, where 1 leaves the
negative prompt out. Most pipelines call it ``guidance_scale`` or ``true_cfg_scale``; a few compute ``positive + s *
(positive - negative)``, so that their ``s`` is ``c - 1``. A guidance-distilled network (Flux.1 dev, Flux.2 dev,
HunyuanVideo) is told a number instead, beside one prompt alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PipelineKind:
    """One pipeline class.

    Args:
        shift: what is taken from a CFG scale to get the pipeline's number.
        above: the pipeline is guided only where its number is larger than this.
        empty: what stands for an empty negative prompt, where its makers say so.
        cfg: the usual CFG scale where the signature's default is none.
        half_vae: whether the VAE may compute in half precision.
        takes_image: whether a picture may be given to it and need not be.
    """

    shift: float = 0.0
    above: float = 1.0
    empty: str = ""
    cfg: float | None = None
    half_vae: bool = True
    takes_image: bool = False


KINDS: Mapping[str, PipelineKind] = {
    "ZImagePipeline": PipelineKind(shift=1.0, above=0.0),
    "Krea2Pipeline": PipelineKind(shift=1.0, above=0.0),
    "Cosmos2TextToImagePipeline": PipelineKind(shift=1.0, above=1.0),
    "QwenImagePipeline": PipelineKind(empty=" "),
    "Flux2Pipeline": PipelineKind(takes_image=True),
    "Flux2KleinPipeline": PipelineKind(takes_image=True),
    "Ideogram4Pipeline": PipelineKind(cfg=7.0),
    "WanPipeline": PipelineKind(half_vae=False),
}


@dataclass(frozen=True)
class FewSteps:
    """How a variant that was distilled to few steps is drawn: CFG 1 leaves guidance out."""

    steps: int
    cfg: float = 1.0


# variants of a pipeline class, by what tells them
TURBO: Mapping[str, FewSteps] = {"ZImagePipeline": FewSteps(9), "StableDiffusion3Pipeline": FewSteps(4)}  # their name
IS_DISTILLED: Mapping[str, FewSteps] = {"Flux2KleinPipeline": FewSteps(4), "Krea2Pipeline": FewSteps(8)}  # their config
SCHNELL = FewSteps(4)  # Flux.1 without embedded guidance

FAMILIES: Mapping[str, str] = {  # the transformer's class in diffusers -> the family of its LoRAs
    "FluxTransformer2DModel": "flux",
    "ChromaTransformer2DModel": "flux",
    "SD3Transformer2DModel": "sd3",
    "ZImageTransformer2DModel": "z-image",
    "Flux2Transformer2DModel": "flux2",
    "QwenImageTransformer2DModel": "qwen-image",
    "WanTransformer3DModel": "wan",
    "CosmosTransformer3DModel": "cosmos-predict2",
}

OPTIONAL_TEXT = {"StableDiffusion3Pipeline": ("text_encoder_3",)}  # text encoders that may be left out of a folder
