"""The original (CompVis, OpenCLIP) parameter names of single-file checkpoints, generated from each family's structure.

The tables pair canonical path beginnings with original ones, so that weights, biases and norms all follow from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from loratools.adapter.algebra.fused_rows import Rows
from loratools.adapter.architectures.family import UNet
from loratools.adapter.architectures.known_families import family_of
from loratools.adapter.architectures.unet import RESNET, SINGLES, original_path
from loratools.errors import FormatError

UNET = "model.diffusion_model."
# family -> the original prefix of each text encoder, in the order of the family's encoders
TEXT = {
    "sd1": ("cond_stage_model.transformer.",),
    "sd2": ("cond_stage_model.model.",),
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
}


@dataclass(frozen=True)
class ParameterView:
    """A canonical parameter inside a stored tensor.

    Attributes:
        name: the canonical parameter name.
        third: 0, 1 or 2 where the stored tensor's rows are q, k and v together; None where it is the whole tensor.
        transposed: whether the stored matrix is the transpose.
        rows: which of the stored rows it is, in its own order; None where ``third`` tells.
    """

    name: str
    third: int | None = None
    transposed: bool = False
    rows: Rows | None = None


def views_of(key: str, family: str) -> tuple[ParameterView, ...]:
    """The canonical parameters that a checkpoint's tensor ``key`` holds: none for its VAE, schedule and the like."""
    if key.startswith(UNET):
        canonical = _renamed(key.removeprefix(UNET), _unet_names(family))
        return (ParameterView(f"unet.{canonical}"),) if canonical else ()
    for encoder, prefix in zip(family_of(family).text, TEXT[family], strict=True):
        if key.startswith(prefix):
            rest = key.removeprefix(prefix)
            if prefix.endswith(".model."):
                return open_clip_views(rest, f"{encoder.component}.")
            return (ParameterView(f"{encoder.component}.{with_text_model(rest)}"),)
    return ()


def original_keys(names: Iterable[str], family: str) -> dict[str, tuple[ParameterView, ...]]:
    """The keys under which a single-file checkpoint holds canonical parameters, each with what its tensor holds.

    Raises:
        FormatError: if the family is none of single-file checkpoints.
    """
    net = family_of(family).network
    if family not in TEXT or not isinstance(net, UNet):
        raise FormatError(f"{family_of(family).title} has no single-file checkpoints of CompVis' names")
    prefixes = dict(zip((e.component for e in family_of(family).text), TEXT[family], strict=True))
    keys: dict[str, list[ParameterView]] = {}
    for name in names:
        component, _, path = name.partition(".")
        if component == "unet":
            module, _, kind = path.rpartition(".")
            keys[f"{UNET}{original_path(net, module)}.{kind}"] = [ParameterView(name)]
        elif prefixes[component].endswith(".model."):
            key, third, transposed = _open_clip_key(path)
            keys.setdefault(f"{prefixes[component]}{key}", []).append(ParameterView(name, third, transposed))
        else:
            keys[f"{prefixes[component]}{path}"] = [ParameterView(name)]
    return {key: tuple(sorted(views, key=lambda view: view.third or 0)) for key, views in keys.items()}


def _open_clip_key(path: str) -> tuple[str, int | None, bool]:
    """OpenCLIP's key of a transformers path, which third of its rows that is, and whether it is the transpose."""
    if path == "text_projection.weight":
        return "text_projection", None, True
    outside = {ours: theirs for theirs, ours in _OPEN_CLIP.items()}
    if path in outside:
        return outside[path], None, False
    layer, _, rest = path.removeprefix("text_model.encoder.layers.").partition(".")
    module, _, kind = rest.rpartition(".")
    stem = f"transformer.resblocks.{layer}."
    if module.startswith("self_attn.") and module != "self_attn.out_proj":
        return f"{stem}attn.in_proj_{kind}", "qkv".index(module.removeprefix("self_attn.")[0]), False
    inside = {ours: theirs for theirs, ours in _OPEN_CLIP_LAYER.items()}
    return f"{stem}{inside[module]}.{kind}", None, False


def with_text_model(path: str) -> str:
    """``text_model.`` in front of a CLIP path, which some writers leave out; projections stand outside it."""
    outside = path.startswith(("text_model.", "text_projection", "logit_scale"))
    return path if outside else f"text_model.{path}"


def _renamed(key: str, table: dict[str, str]) -> str | None:
    """``key`` with the longest prefix that is in ``table`` replaced; None if none is."""
    end = len(key)
    while (end := key.rfind(".", 0, end)) > 0:
        if key[:end] in table:
            return f"{table[key[:end]]}{key[end:]}"
    return None


@lru_cache(maxsize=8)
def _unet_names(family: str) -> dict[str, str]:
    net = family_of(family).network
    return {original: canonical for canonical, original in _unet_pairs(net)} if isinstance(net, UNet) else {}


def _unet_pairs(net: UNet) -> Iterator[tuple[str, str]]:
    yield from SINGLES.items()
    for level in range(len(net.down)):
        for layer in range(2):
            yield from _pair(f"down_blocks.{level}", layer, f"input_blocks.{3 * level + layer + 1}")
        yield f"down_blocks.{level}.downsamplers.0.conv", f"input_blocks.{3 * level + 3}.0.op"
    for layer in range(2):
        yield from _resnet(f"mid_block.resnets.{layer}", f"middle_block.{2 * layer}")
    yield "mid_block.attentions.0", "middle_block.1"
    for level, depth in enumerate(net.up):
        for layer in range(3):
            yield from _pair(f"up_blocks.{level}", layer, f"output_blocks.{3 * level + layer}")
        slot = 2 if depth else 1  # the sampler comes after the attention where there is one
        yield f"up_blocks.{level}.upsamplers.0.conv", f"output_blocks.{3 * level + 2}.{slot}.conv"


def _pair(level: str, layer: int, block: str) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{level}.resnets.{layer}", f"{block}.0")
    yield f"{level}.attentions.{layer}", f"{block}.1"


def _resnet(canonical: str, original: str) -> Iterator[tuple[str, str]]:
    yield from ((f"{canonical}.{new}", f"{original}.{old}") for new, old in RESNET.items())


_OPEN_CLIP = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_OPEN_CLIP_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def open_clip_views(path: str, component: str = "") -> tuple[ParameterView, ...]:
    """What a tensor of OpenCLIP's text tower holds: q, k and v are one there, and the projection is transposed.

    Names are transformers', after ``component``; none for what its encoder has no place for.
    """
    if path == "text_projection":
        return (ParameterView(f"{component}text_projection.weight", transposed=True),)
    if path in _OPEN_CLIP:
        return (ParameterView(component + _OPEN_CLIP[path]),)
    match path.split(".", 3):
        case ["transformer", "resblocks", layer, rest]:
            return _open_clip_layer(f"{component}text_model.encoder.layers.{layer}.", rest)
    return ()


def _open_clip_layer(stem: str, rest: str) -> tuple[ParameterView, ...]:
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        return tuple(
            ParameterView(f"{stem}self_attn.{letter}_proj.{kind}", third) for third, letter in enumerate("qkv")
        )
    module, _, kind = rest.rpartition(".")
    return (ParameterView(f"{stem}{_OPEN_CLIP_LAYER[module]}.{kind}"),) if module in _OPEN_CLIP_LAYER else ()
