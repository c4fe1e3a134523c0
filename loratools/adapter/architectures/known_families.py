"""Every model family that there is a table for, by its name.

Each transformer of 2025 and 2026 is one file of data below :mod:`.families`, found there by its constant ``FAMILY``: a
new one needs no entry anywhere. The five older families, whose LoRA files are told apart by rules of their own
(:mod:`.identify`), stand here.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

from loratools.adapter.architectures import families
from loratools.adapter.architectures.family import UNKNOWN, Family, TextEncoder, Transformer, UNet
from loratools.errors import FormatError, did_you_mean

_SD1 = Family(
    "sd1",
    "Stable Diffusion 1",
    "sd_v1",
    "stable-diffusion-v1/lora",
    UNet((1, 1, 1, 0), 1, (0, 1, 1, 1), linear_projection=False, original_names=False),
    (TextEncoder("text_encoder", "lora_te", 12, "clip_l"),),
    words=("sdv1", "sd1", "stablediffusionv1"),
)
_SD2 = Family(
    "sd2",
    "Stable Diffusion 2",
    "sd_v2",
    "stable-diffusion-v2-512/lora",
    UNet((1, 1, 1, 0), 1, (0, 1, 1, 1), linear_projection=False, original_names=False),
    (TextEncoder("text_encoder", "lora_te", 23, "clip_h"),),
    words=("sdv2", "sd2", "stablediffusionv2"),
)
_SDXL = Family(
    "sdxl",
    "Stable Diffusion XL",
    "sdxl_base_v1-0",
    "stable-diffusion-xl-v1-base/lora",
    UNet((0, 2, 10), 10, (10, 2, 0), linear_projection=True, original_names=True),
    (
        TextEncoder("text_encoder", "lora_te1", 12, "clip_l"),
        TextEncoder("text_encoder_2", "lora_te2", 32, "clip_g", projection=True),
    ),
    words=("sdxl", "stablediffusionxl"),
)
_SD3 = Family(
    "sd3",
    "Stable Diffusion 3",
    "sd3",
    "stable-diffusion-3-medium/lora",
    Transformer("sd3", double=38),
    (
        TextEncoder("text_encoder", "lora_te1", 12, "clip_l", projection=True),
        TextEncoder("text_encoder_2", "lora_te2", 32, "clip_g", projection=True),
        TextEncoder("text_encoder_3", "lora_te3", 24, "t5xxl", "t5"),
    ),
    words=("sd3", "stablediffusion3", "stablediffusionv3"),
)
_FLUX = Family(
    "flux",
    "Flux.1",
    "flux1",
    "flux-1-dev/lora",
    Transformer("flux", double=19, single=38),
    (
        TextEncoder("text_encoder", "lora_te1", 12, "clip_l"),
        TextEncoder("text_encoder_2", "lora_te3", 24, "t5xxl", "t5", more_prefixes=("lora_te2",)),
    ),
    words=("flux1", "fluxdev", "fluxschnell", "fluxkontext", "fluxkrea", "fluxfill"),
)


def _declared() -> Iterator[Family]:
    """The families that are declared, one in each module below ``families``, by the modules' names."""
    for module in sorted(walk_packages(families.__path__, f"{families.__name__}."), key=lambda module: module.name):
        if not module.ispkg:
            family: Family = import_module(module.name).FAMILY
            yield family


DECLARED: tuple[Family, ...] = tuple(_declared())
FAMILIES: dict[str, Family] = {family.name: family for family in (_SD1, _SD2, _SDXL, _SD3, _FLUX, *DECLARED)}


def family_of(name: str) -> Family:
    """The family called ``name``; ``unknown`` is one, with no modules of its own.

    Raises:
        FormatError: if there is none of that name.
    """
    if name == UNKNOWN.name:
        return UNKNOWN
    if name not in FAMILIES:
        raise FormatError(f"unknown model family '{name}'{did_you_mean(name, FAMILIES)}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]
