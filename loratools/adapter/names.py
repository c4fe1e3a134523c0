"""Every module name of SD1, SD2 and SDXL, generated from each family's structure: canonical, kohya and back.

A canonical name is the Diffusers dotted path with the component first: ``unet.down_blocks.0.attentions.0.proj_in``,
``text_encoder.text_model.encoder.layers.0.mlp.fc1``. It keeps ``text_model.`` whatever transformers is installed.
SDXL's kohya files use the original (CompVis) UNet names; both spellings are read, the original one is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from loratools.errors import FormatError, did_you_mean

_MAX_TEXT_LAYERS = 64  # no CLIP is deeper; the table costs nothing


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder: its canonical component, kohya's prefix, and its usual depth."""

    component: str
    prefix: str
    layers: int


@dataclass(frozen=True)
class Family:
    """What sets one model family's tree apart; ``down`` and ``up`` give the transformer depth of each level."""

    name: str
    title: str
    base_model_version: str
    architecture: str
    down: tuple[int, ...]
    mid: int
    up: tuple[int, ...]
    linear_projection: bool
    original_names: bool
    text: tuple[TextEncoder, ...]


@dataclass(frozen=True)
class Module:
    """One module that an adapter may change. ``kernel`` is 1 for linear modules and 1x1 convolutions, else 3."""

    name: str
    kind: Literal["linear", "conv"]
    kernel: int
    attention: bool

    @property
    def text(self) -> bool:
        """Whether it belongs to a text encoder."""
        return self.name.startswith("text_encoder")


_SD1 = Family(
    "sd1", "Stable Diffusion 1", "sd_v1", "stable-diffusion-v1/lora",
    down=(1, 1, 1, 0), mid=1, up=(0, 1, 1, 1), linear_projection=False, original_names=False,
    text=(TextEncoder("text_encoder", "lora_te", 12),),
)  # fmt: skip
_SD2 = Family(
    "sd2", "Stable Diffusion 2", "sd_v2", "stable-diffusion-v2-512/lora",
    down=(1, 1, 1, 0), mid=1, up=(0, 1, 1, 1), linear_projection=False, original_names=False,
    text=(TextEncoder("text_encoder", "lora_te", 23),),
)  # fmt: skip
_SDXL = Family(
    "sdxl", "Stable Diffusion XL", "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora",
    down=(0, 2, 10), mid=10, up=(10, 2, 0), linear_projection=True, original_names=True,
    text=(TextEncoder("text_encoder", "lora_te1", 12), TextEncoder("text_encoder_2", "lora_te2", 32)),
)  # fmt: skip

FAMILIES: dict[str, Family] = {family.name: family for family in (_SD1, _SD2, _SDXL)}


def family_of(name: str) -> Family:
    """The family called ``name``.

    Raises:
        FormatError: if there is none of that name.
    """
    if name not in FAMILIES:
        raise FormatError(f"unknown model family '{name}'{did_you_mean(name, FAMILIES)}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]


@lru_cache(maxsize=32)
def module_tree(family: str, text_layers: int | None = None) -> tuple[Module, ...]:
    """Every module of ``family`` that LoRA or LoCon can change, text encoders first.

    Args:
        family: a key of ``FAMILIES``.
        text_layers: depth of each text encoder; the family's own if None.
    """
    kind = family_of(family)
    text = (m for encoder in kind.text for m in _text_modules(encoder, text_layers or encoder.layers))
    return (*text, *_unet_modules(kind))


def lora_targets(family: str, names: Iterable[str] | None = None, *, conv: bool = False) -> tuple[str, ...]:
    """The canonical names that sd-scripts' ``networks.lora`` trains: attention, feed-forward and text layers.

    Args:
        family: a key of ``FAMILIES``.
        names: keep only these (a live model's own modules); the family's full tree if None.
        conv: also the residual blocks' and samplers' convolutions, as ``conv_dim`` does.
    """
    if names is None:
        return tuple(m.name for m in module_tree(family) if _trained(m, conv))
    deepest = {m.name: m for m in module_tree(family, _MAX_TEXT_LAYERS)}
    return tuple(name for name in names if name in deepest and _trained(deepest[name], conv))


def kohya_name(canonical: str, family: str) -> str:
    """``lora_unet_...`` / ``lora_te_...`` for a canonical name, as sd-scripts writes that family.

    Raises:
        FormatError: if the family has no such module.
    """
    table = _kohya_table(family)
    if canonical not in table:
        raise FormatError(f"{family_of(family).title} has no module '{canonical}'{did_you_mean(canonical, table)}")
    return table[canonical]


def canonical_name(kohya: str, family: str) -> str | None:
    """The canonical name of a kohya key stem, in either spelling, or None if the family has no such module."""
    return _canonical_table(family).get(kohya)


def known_canonical(name: str, family: str) -> bool:
    """Whether ``name`` is a canonical module name of ``family``."""
    return name in _kohya_table(family)


@lru_cache(maxsize=8)
def _kohya_table(family: str) -> dict[str, str]:
    kind = family_of(family)
    prefixes = {encoder.component: encoder.prefix for encoder in kind.text}
    table = {}
    for module in module_tree(family, _MAX_TEXT_LAYERS):
        component, _, path = module.name.partition(".")
        if component == "unet":
            path = _original_path(kind, path) if kind.original_names else path
        table[module.name] = f"{prefixes.get(component, 'lora_unet')}_{path.replace('.', '_')}"
    return table


@lru_cache(maxsize=8)
def _canonical_table(family: str) -> dict[str, str]:
    table = {kohya: canonical for canonical, kohya in _kohya_table(family).items()}
    for canonical in tuple(table.values()):
        component, _, path = canonical.partition(".")
        if component == "unet":
            table.setdefault(f"lora_unet_{path.replace('.', '_')}", canonical)
    return table


def _trained(module: Module, conv: bool) -> bool:
    return module.attention or (conv and not module.name.startswith(_NEVER_TRAINED))


_NEVER_TRAINED = ("unet.conv_in", "unet.conv_out", "unet.time_embedding", "unet.add_embedding")


def _text_modules(encoder: TextEncoder, layers: int) -> Iterator[Module]:
    parts = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
    for layer in range(layers):
        for part in parts:
            yield Module(f"{encoder.component}.text_model.encoder.layers.{layer}.{part}", "linear", 1, True)


def _unet_modules(family: Family) -> Iterator[Module]:
    yield Module("unet.conv_in", "conv", 3, False)
    yield from (Module(f"unet.time_embedding.linear_{i}", "linear", 1, False) for i in (1, 2))
    if family.original_names:
        yield from (Module(f"unet.add_embedding.linear_{i}", "linear", 1, False) for i in (1, 2))
    yield from _down_modules(family)
    yield from _resnet("unet.mid_block.resnets.0", False)
    yield from _attention("unet.mid_block.attentions.0", family.mid, family.linear_projection)
    yield from _resnet("unet.mid_block.resnets.1", False)
    yield from _up_modules(family)
    yield Module("unet.conv_out", "conv", 3, False)


def _down_modules(family: Family) -> Iterator[Module]:
    last = len(family.down) - 1
    for level, depth in enumerate(family.down):
        for layer in range(2):
            # a level's first block widens the channels, except the first and last of four, which keep their input's
            yield from _resnet(f"unet.down_blocks.{level}.resnets.{layer}", layer == 0 and level in (1, 2))
            if depth:
                yield from _attention(f"unet.down_blocks.{level}.attentions.{layer}", depth, family.linear_projection)
        if level < last:
            yield Module(f"unet.down_blocks.{level}.downsamplers.0.conv", "conv", 3, False)


def _up_modules(family: Family) -> Iterator[Module]:
    last = len(family.up) - 1
    for level, depth in enumerate(family.up):
        for layer in range(3):
            yield from _resnet(f"unet.up_blocks.{level}.resnets.{layer}", True)
            if depth:
                yield from _attention(f"unet.up_blocks.{level}.attentions.{layer}", depth, family.linear_projection)
        if level < last:
            yield Module(f"unet.up_blocks.{level}.upsamplers.0.conv", "conv", 3, False)


def _resnet(path: str, shortcut: bool) -> Iterator[Module]:
    yield Module(f"{path}.conv1", "conv", 3, False)
    yield Module(f"{path}.time_emb_proj", "linear", 1, False)
    yield Module(f"{path}.conv2", "conv", 3, False)
    if shortcut:
        yield Module(f"{path}.conv_shortcut", "conv", 1, False)


def _attention(path: str, depth: int, linear: bool) -> Iterator[Module]:
    projection: Literal["linear", "conv"] = "linear" if linear else "conv"
    yield Module(f"{path}.proj_in", projection, 1, True)
    for block in range(depth):
        for attention in ("attn1", "attn2"):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                yield Module(f"{path}.transformer_blocks.{block}.{attention}.{part}", "linear", 1, True)
        yield Module(f"{path}.transformer_blocks.{block}.ff.net.0.proj", "linear", 1, True)
        yield Module(f"{path}.transformer_blocks.{block}.ff.net.2", "linear", 1, True)
    yield Module(f"{path}.proj_out", projection, 1, True)


def _original_path(family: Family, path: str) -> str:
    """SDXL's own (CompVis) path: ``input_blocks.4.1.proj_in`` for ``down_blocks.1.attentions.0.proj_in``."""
    if path in _ORIGINAL_SINGLES:
        return _ORIGINAL_SINGLES[path]
    side, *rest = path.split(".")
    if side == "mid_block":
        kind, index, *tail = rest
        slot = {("resnets", "0"): 0, ("attentions", "0"): 1, ("resnets", "1"): 2}[kind, index]
        return ".".join(["middle_block", str(slot), *_original_tail(kind, tail)])
    level, kind, index, *tail = rest
    if kind == "downsamplers":
        return f"input_blocks.{3 * int(level) + 3}.0.op"
    if kind == "upsamplers":
        slot = 2 if family.up[int(level)] else 1  # after the attention where there is one
        return f"output_blocks.{3 * int(level) + 2}.{slot}.conv"
    block = 3 * int(level) + int(index) + (1 if side == "down_blocks" else 0)
    where = "input_blocks" if side == "down_blocks" else "output_blocks"
    return ".".join([where, str(block), "0" if kind == "resnets" else "1", *_original_tail(kind, tail)])


def _original_tail(kind: str, tail: list[str]) -> list[str]:
    return [_ORIGINAL_RESNET[tail[0]]] if kind == "resnets" else tail


_ORIGINAL_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ORIGINAL_SINGLES = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
