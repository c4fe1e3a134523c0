"""Every module name of the known families, generated from each one's structure: canonical, kohya, and all others read.

A canonical name is the Diffusers dotted path with the component first: ``unet.down_blocks.0.attentions.0.proj_in``,
``transformer.transformer_blocks.0.attn.to_q``, ``text_encoder.text_model.encoder.layers.0.mlp.fc1``. It keeps
``text_model.`` whatever transformers is installed. SDXL's, SD3's and Flux's kohya files use the original networks'
names; both spellings are read, the original one is written. An unknown family's modules keep the file's own names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from loratools.adapter.algebra.fused_rows import FusedWeight
from loratools.adapter.architectures import text_encoders, transformer, unet
from loratools.adapter.architectures.block_transformer import BlockTransformer, PlacedWeight, Weight, placed
from loratools.adapter.architectures.family import (
    UNKNOWN,
    Family,
    Module,
    ModuleKind,
    TextEncoder,
    Transformer,
    UNet,
)
from loratools.adapter.architectures.known_families import FAMILIES, family_of
from loratools.errors import FormatError, did_you_mean
from loratools.module_path import is_text, split_path

__all__ = [
    "FAMILIES",
    "UNKNOWN",
    "Family",
    "FusedWeight",
    "Module",
    "Naming",
    "family_of",
    "is_text",
    "kohya_name",
    "kohya_weights",
    "lora_targets",
    "module_tree",
    "other_tree",
    "resolve",
    "stem_of",
    "stored_weights",
]  # fmt: skip

Naming = Literal["kohya", "diffusers", "comfy", "original"]
"""By which names a file spells its modules: sd-scripts' flat ones, Diffusers' canonical ones, and the original
network's dotted ones as ComfyUI takes them (behind ``diffusion_model.``) or bare."""

_MAX_TEXT_LAYERS = 64  # no text encoder is deeper; the table costs nothing
_NEVER_TRAINED = ("unet.conv_in", "unet.conv_out", "unet.time_embedding", "unet.add_embedding")


@lru_cache(maxsize=64)
def module_tree(family: str, text_layers: int | None = None) -> tuple[Module, ...]:
    """Every module of ``family`` that LoRA or LoCon can change, text encoders first; none of an unknown family.

    Args:
        family: a key of ``FAMILIES``, or ``unknown``.
        text_layers: depth of each text encoder; the family's own if None.
    """
    kind = family_of(family)
    tree: list[Module] = []
    for encoder in kind.text:
        tree += _below(encoder.component, text_encoders.modules(encoder, text_layers or encoder.layers))
    match kind.network:
        case UNet() as net:
            tree += _below("unet", unet.modules(net))
        case Transformer() as net:
            tree += _below("transformer", transformer.modules(net))
        case BlockTransformer() as net:
            tree += [
                module for weight in placed(net) if weight.stored and not weight.norm for module in _modules(weight)
            ]
    return tuple(tree)


@lru_cache(maxsize=64)
def other_tree(family: str, text_layers: int | None = None) -> tuple[Module, ...]:
    """The other modules with weights, which only full differences change: norms, embeddings, text projections, and
    the shortcuts that a UNet of other widths than the family's has."""
    kind = family_of(family)
    tree: list[Module] = []
    for encoder in kind.text:
        tree += _below(encoder.component, text_encoders.others(encoder, text_layers or encoder.layers))
    match kind.network:
        case UNet() as net:
            tree += _below("unet", unet.others(net))
        case Transformer() as net:
            tree += _below("transformer", transformer.norms(net))
        case BlockTransformer() as net:
            tree += [module for weight in placed(net) if weight.stored and weight.norm for module in _modules(weight)]
    return tuple(tree)


def lora_targets(family: str, names: Iterable[str] | None = None, *, conv: bool = False) -> tuple[str, ...]:
    """The canonical names that sd-scripts' networks train: attention, feed-forward and text layers.

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
    """The kohya stem (``lora_unet_...``, ``lora_te_...``) of the weight that holds a module, as sd-scripts writes it.

    Raises:
        FormatError: if the family has no such module.
    """
    if family == UNKNOWN.name:
        return canonical
    table = _kohya_stems(family)
    if canonical not in table:
        raise FormatError(f"{family_of(family).title} has no module '{canonical}'{did_you_mean(canonical, table)}")
    return table[canonical]


@lru_cache(maxsize=16)
def kohya_weights(family: str) -> dict[str, FusedWeight]:
    """kohya stem -> the modules that it holds: several where the original network fuses them."""
    kind = family_of(family)
    table: dict[str, FusedWeight] = {}
    for encoder in kind.text:
        for module in (
            *text_encoders.modules(encoder, _MAX_TEXT_LAYERS),
            *text_encoders.others(encoder, _MAX_TEXT_LAYERS),
        ):
            table[f"{encoder.prefix}_{_flat(module.name)}"] = FusedWeight((f"{encoder.component}.{module.name}",))
    for path, fused in _kohya_network(kind):
        table[f"lora_unet_{_flat(path)}"] = fused
    return table


def stem_of(canonical: str, family: str, naming: Naming) -> str:
    """The stem by which the weight that holds a module is stored.

    Raises:
        FormatError: if the family has no such module.
    """
    if naming == "kohya":
        return kohya_name(canonical, family)
    table = _original_stems(family, naming)
    if canonical not in table:
        raise FormatError(f"{family_of(family).title} has no module '{canonical}'{did_you_mean(canonical, table)}")
    return table[canonical]


def stored_weights(family: str, naming: Naming) -> dict[str, FusedWeight]:
    """Stem -> the modules that it holds, in one naming; none of an unknown family, whose stems are its modules."""
    if family == UNKNOWN.name:
        return {}
    return kohya_weights(family) if naming == "kohya" else _original_weights(family, naming)


@lru_cache(maxsize=16)
def _original_weights(family: str, naming: Naming) -> dict[str, FusedWeight]:
    """The original network's dotted paths, as ComfyUI names a model's weights: the network's behind
    ``diffusion_model.`` (``comfy``) or bare (``original``), a text encoder's behind its own name in both."""
    kind, before = family_of(family), "diffusion_model." if naming == "comfy" else ""
    table: dict[str, FusedWeight] = {}
    for encoder in kind.text:
        for module in (
            *text_encoders.modules(encoder, _MAX_TEXT_LAYERS),
            *text_encoders.others(encoder, _MAX_TEXT_LAYERS),
        ):
            path = text_encoders.bundled_path(encoder, module.name)
            table[f"text_encoders.{encoder.bundle}.transformer.{path}"] = FusedWeight(
                (f"{encoder.component}.{module.name}",)
            )
    match kind.network:
        case UNet() as net:
            for module in (*unet.modules(net), *unet.others(net)):
                table[f"{before}{unet.original_path(net, module.name)}"] = FusedWeight((f"unet.{module.name}",))
        case _:
            table |= {f"{before}{path}": fused for path, fused in _kohya_network(kind)}
    return table


@lru_cache(maxsize=16)
def _original_stems(family: str, naming: Naming) -> dict[str, str]:
    return {name: stem for stem, fused in _original_weights(family, naming).items() for name in fused.names}


@lru_cache(maxsize=16)
def declared_weights(family: str) -> dict[tuple[str, ...], Weight]:
    """Canonical modules that a stem may hold together -> the declared weight that says their shapes."""
    network = family_of(family).network
    table: dict[tuple[str, ...], Weight] = {}
    for weight in placed(network) if isinstance(network, BlockTransformer) else ():
        table[weight.fused.names] = weight.weight
        for name in weight.fused.names if weight.stored else ():
            table[(name,)] = weight.weight
    return table


def resolve(stem: str, family: str) -> FusedWeight | None:
    """The modules that a key's stem means in ``family``, in any spelling that is known, or None.

    Two dimensions are decided apart: the namespace (which component, and whether its path is dotted or flat), and the
    path below it (Diffusers' new or old, the original network's, an attention processor's). Wrappers of PEFT and torch
    and components that are named twice are looked through.
    """
    if family == UNKNOWN.name:
        return FusedWeight((stem,))
    return _resolve(stem, family) or _resolve(split_path(stem).unwrapped, family)


def _resolve(stem: str, family: str) -> FusedWeight | None:
    for space in _namespaces(family):
        if stem.startswith(space.prefix):
            paths = _paths(family, space.component)
            fused = (paths.flat if space.flat else paths.dotted).get(stem[len(space.prefix) :])
            if fused is not None:
                return fused
    return None


@dataclass(frozen=True)
class _Namespace:
    """A prefix of key names; the rest of such a key is a path of ``component``."""

    prefix: str
    component: str
    flat: bool


@dataclass(frozen=True)
class _Paths:
    """Every spelling of one component's paths: with dots, and with underscores."""

    dotted: dict[str, FusedWeight]
    flat: dict[str, FusedWeight]


@lru_cache(maxsize=16)
def _namespaces(family: str) -> tuple[_Namespace, ...]:
    """All prefixes of key names, the more specific ones first."""
    kind = family_of(family)
    main, spaces = kind.component, []
    for encoder in kind.text:
        flat = (f"{encoder.prefix}_", *(f"{prefix}_" for prefix in encoder.more_prefixes))
        dotted = (
            f"{encoder.component}.",
            f"base_model.model.{encoder.component}.",
            f"text_encoders.{encoder.bundle}.transformer.",
            f"{encoder.bundle}.transformer.",
            f"{encoder.bundle}.",
        )
        spaces += [_Namespace(prefix, encoder.component, True) for prefix in flat]
        spaces += [_Namespace(prefix, encoder.component, False) for prefix in dotted]
    if isinstance(kind.network, BlockTransformer):
        spaces += [_Namespace(f"{word}.", main, False) for word in kind.network.more_components]
    for component in kind.components[1:]:
        spaces += [_Namespace(f"{before}{component}.", component, False) for before in ("", "base_model.model.")]
    for prefix in ("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_unet_", "lycoris_"):
        spaces.append(_Namespace(prefix, main, True))
    for prefix in (
        f"{main}.",
        "diffusion_model.",
        "model.diffusion_model.",
        "net.",
        f"base_model.model.{main}.",
        "base_model.model.",
        "",
    ):
        spaces.append(_Namespace(prefix, main, False))
    for encoder in kind.text:  # without a component, only the path tells; the first encoder that has it is meant
        spaces += [
            _Namespace("base_model.model.", encoder.component, False),
            _Namespace("", encoder.component, False),
            _Namespace("lycoris_", encoder.component, True),
        ]
    return tuple(spaces)


@lru_cache(maxsize=64)
def _paths(family: str, component: str) -> _Paths:
    dotted: dict[str, FusedWeight] = {}
    for path, fused in _spellings(family_of(family), component):
        dotted.setdefault(path, fused)
    return _Paths(dotted, {_flat(path): fused for path, fused in reversed(dotted.items())})


def _spellings(kind: Family, component: str) -> Iterator[tuple[str, FusedWeight]]:
    for encoder in kind.text:
        if encoder.component == component:
            yield from ((path, _in_component(component, fused)) for path, fused in _text_spellings(encoder))
    if isinstance(kind.network, BlockTransformer):
        yield from _declared_spellings(kind.network, component)
    elif component == kind.component:
        yield from ((path, _in_component(component, fused)) for path, fused in _network_spellings(kind.network))


def _network_spellings(network: UNet | Transformer | None) -> Iterator[tuple[str, FusedWeight]]:
    match network:
        case UNet() as net:
            for module in (*unet.modules(net), *unet.others(net)):
                yield module.name, FusedWeight((module.name,))
                yield unet.original_path(net, module.name), FusedWeight((module.name,))
                yield from ((path, FusedWeight((module.name,))) for path in unet.old_paths(module.name))
        case Transformer() as net:
            for module in (*transformer.modules(net), *transformer.norms(net)):
                yield module.name, FusedWeight((module.name,))
            yield from transformer.originals(net)
            yield from transformer.processor_paths(net)


def _declared_spellings(net: BlockTransformer, component: str) -> Iterator[tuple[str, FusedWeight]]:
    """Diffusers' paths below one component; the original paths are all below the network's own."""
    for weight in placed(net):
        for name in weight.fused.names:
            if name.startswith(f"{component}."):
                yield name.removeprefix(f"{component}."), FusedWeight((name,))
        if component == net.component:
            yield from ((path, weight.fused) for path in weight.originals)


def _text_spellings(encoder: TextEncoder) -> Iterator[tuple[str, FusedWeight]]:
    for module in (*text_encoders.modules(encoder, _MAX_TEXT_LAYERS), *text_encoders.others(encoder, _MAX_TEXT_LAYERS)):
        yield from ((path, FusedWeight((module.name,))) for path in text_encoders.other_paths(encoder, module.name))


def _kohya_network(kind: Family) -> Iterator[tuple[str, FusedWeight]]:
    match kind.network:
        case UNet() as net:
            for module in (*unet.modules(net), *unet.others(net)):
                path = unet.original_path(net, module.name) if net.original_names else module.name
                yield path, FusedWeight((f"unet.{module.name}",))
        case Transformer() as net:
            yield from ((path, _in_component("transformer", fused)) for path, fused in transformer.originals(net))
        case BlockTransformer() as net:
            yield from ((weight.originals[0], weight.fused) for weight in placed(net) if weight.stored)


def _modules(weight: PlacedWeight) -> Iterator[Module]:
    """The modules that a declared weight holds."""
    kernel = max((int(size) for size in weight.weight.shape.split()[2:]), default=1)
    kind: ModuleKind = "norm" if weight.norm else "conv" if kernel > 1 else "linear"
    for name in weight.fused.names:
        yield Module(name, kind, kernel, weight.weight.trained)


@lru_cache(maxsize=16)
def _kohya_stems(family: str) -> dict[str, str]:
    return {name: stem for stem, fused in kohya_weights(family).items() for name in fused.names}


def _below(component: str, modules: Iterable[Module]) -> Iterator[Module]:
    return (replace(module, name=f"{component}.{module.name}") for module in modules)


def _in_component(component: str, fused: FusedWeight) -> FusedWeight:
    return replace(fused, names=tuple(f"{component}.{name}" for name in fused.names))


def _flat(path: str) -> str:
    return path.replace(".", "_")


def _trained(module: Module, conv: bool) -> bool:
    if module.attention or not conv or not module.name.startswith("unet."):
        return module.attention
    return not module.name.startswith(_NEVER_TRAINED)
