"""Which model family a LoRA file is for: by its module names, then by what it says of itself, then by widths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from loratools.adapter.algebra.fused_rows import SINGLE_ROWS
from loratools.adapter.architectures.family import FAMILIES, UNKNOWN, UNet, family_of
from loratools.adapter.architectures.names import resolve
from loratools.adapter.header import TensorInfo

# how a modelspec.architecture begins
_ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2",
    "sdxl": "stable-diffusion-xl",
    "sd3": "stable-diffusion-3",
    "flux": "flux-1",
}
_CROSS = (
    "attn2_to_k",
    "attn2_to_v",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.processor.to_k_lora",
    "attn2.processor.to_v_lora",
)
_ORIGINAL_UNET = ("input_blocks", "middle_block", "output_blocks")
_SD3_WIDTHS = (1536, 2432)  # SD3 and SD3.5 medium, SD3.5 large; Flux is 3072 wide


def identify(
    stems: Iterable[str],
    roles: Mapping[str, Mapping[str, str]],
    tensors: Mapping[str, TensorInfo],
    metadata: Mapping[str, str],
) -> str:
    """The family, a key of ``FAMILIES``, or ``unknown``.

    A family fits if it has every module. UNet names are so distinctive that one which has most of them fits too, and
    the rest are stray keys; transformers' names are shared by many models, so there a stray module means another model.

    Args:
        stems: key stems that stand for modules.
        roles: stem -> role -> key.
    """
    stems = list(stems)
    lost = {family: sum(resolve(stem, family) is None for stem in stems) for family in FAMILIES}
    fitting = [family for family, count in lost.items() if count == 0]
    if "flux" in fitting and _successor(stems, roles, tensors, metadata):
        fitting.remove("flux")
    if not fitting:
        mostly = [f for f, n in lost.items() if isinstance(FAMILIES[f].network, UNet) and 2 * n < len(stems)]
        fewest = min((lost[family] for family in mostly), default=0)
        fitting = [family for family in mostly if lost[family] == fewest]
    if len(fitting) < 2:
        return fitting[0] if fitting else UNKNOWN.name
    return _claimed(fitting, metadata) or _by_width(fitting, stems, roles, tensors)


def _successor(
    stems: Iterable[str],
    roles: Mapping[str, Mapping[str, str]],
    tensors: Mapping[str, TensorInfo],
    metadata: Mapping[str, str],
) -> bool:
    """Whether a file with Flux's names is for Flux 2, whose single blocks' first layer is higher than 7 widths."""
    if metadata.get("modelspec.architecture", "").startswith("flux-2"):
        return True
    for stem in stems:
        fused, keys = resolve(stem, "flux"), roles[stem]
        if fused is not None and fused.cut == "single" and {"up", "down"} <= set(keys):
            return tensors[keys["up"]].shape[0] != SINGLE_ROWS * tensors[keys["down"]].shape[-1]
    return False


def _claimed(families: list[str], metadata: Mapping[str, str]) -> str | None:
    version, architecture = metadata.get("ss_base_model_version", ""), metadata.get("modelspec.architecture", "")
    for family in families:
        if version.startswith(family_of(family).base_model_version):
            return family
    return next((family for family in families if architecture.startswith(_ARCHITECTURES[family])), None)


def _by_width(
    families: list[str], stems: list[str], roles: Mapping[str, Mapping[str, str]], tensors: Mapping[str, TensorInfo]
) -> str:
    """SD2's prompt is 1024 wide and SDXL's 2048; every other width (768, or a small model's) is taken for SD1."""
    for stem in stems:
        shape = tensors[roles[stem]["down"]].shape if "down" in roles[stem] else ()
        text = stem.startswith(("lora_te_", "text_encoder.")) and stem.endswith("q_proj")
        if len(shape) > 1 and (stem.endswith(_CROSS) or text) and "sd1" in families:
            width = {1024: "sd2", 2048: "sdxl"}.get(shape[1], "sd1")
            return width if width in families else families[0]
    if "sdxl" in families and any(name in stem for stem in stems for name in _ORIGINAL_UNET):
        return "sdxl"
    if set(families) == {"sd3", "flux"}:
        widths = {tensors[keys["down"]].shape[-1] for keys in roles.values() if "down" in keys}
        return "sd3" if widths & set(_SD3_WIDTHS) else "flux"
    return families[0]
