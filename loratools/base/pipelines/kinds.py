"""What is known of diffusers' pipelines beyond their signatures: how they take a CFG scale, and distilled variants.

CFG here is the scale ``c`` of ``negative + c * (positive - negative)``, as in the WebUI and ComfyUI, where 1 leaves the
negative prompt out. Most pipelines call it ``guidance_scale`` or ``true_cfg_scale``; a few compute ``positive + s *
(positive - negative)``, so that their ``s`` is ``c - 1``. A guidance-distilled network (Flux.1 dev, Flux.2 dev,
HunyuanVideo) is told a number instead, beside one prompt alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loratools.adapter.architectures.block_transformer import BlockTransformer
from loratools.adapter.architectures.family import UNKNOWN
from loratools.adapter.architectures.known_families import DECLARED


@dataclass(frozen=True)
class PipelineKind:
    """One pipeline class.

    Args:
        shift: what is taken from a CFG scale to get the pipeline's number.
        above: the pipeline is guided only where its number is larger than this.
        empty: what stands for an empty negative prompt, where its makers say so.
        cfg: the usual CFG scale where the signature's default is none.
        frames: the usual number of frames where the signature's default is none.
        half_vae: whether the VAE may compute in half precision.
        takes_image: whether a picture may be given to it and need not be.
        family: of its LoRAs, where several families have a network of its class.
    """

    shift: float = 0.0
    above: float = 1.0
    empty: str = ""
    cfg: float | None = None
    frames: int = 1
    half_vae: bool = True
    takes_image: bool = False
    family: str = ""


KINDS: Mapping[str, PipelineKind] = {
    "ZImagePipeline": PipelineKind(shift=1.0, above=0.0),
    "Krea2Pipeline": PipelineKind(shift=1.0, above=0.0),
    "Cosmos2TextToImagePipeline": PipelineKind(shift=1.0, above=1.0, family="cosmos-predict2"),
    "QwenImagePipeline": PipelineKind(empty=" "),
    "Flux2Pipeline": PipelineKind(takes_image=True),
    "Flux2KleinPipeline": PipelineKind(takes_image=True),
    "QwenImage21Pipeline": PipelineKind(takes_image=True),
    "LTX2Pipeline": PipelineKind(frames=121),
    "CogVideoXPipeline": PipelineKind(frames=49),
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

OPTIONAL_TEXT = {"StableDiffusion3Pipeline": ("text_encoder_3",)}  # text encoders that may be left out of a folder
_OLDER = {"FluxTransformer2DModel": "flux", "SD3Transformer2DModel": "sd3"}


def family_of_pipeline(pipeline: str, network: str) -> str:
    """The family whose LoRAs change a pipeline's network, as a key of ``FAMILIES``; ``unknown`` where no table has it.

    Args:
        pipeline, network: the names of their classes in diffusers.
    """
    known = dict(_OLDER)
    for family in DECLARED:
        place = family.network.diffusers if isinstance(family.network, BlockTransformer) else None
        if place is not None:
            known.setdefault(place.model, family.name)
    return KINDS.get(pipeline, PipelineKind()).family or known.get(network, UNKNOWN.name)
