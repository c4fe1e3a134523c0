"""The modules of the Flux and SD3 transformers, generated: Diffusers' paths, and the original ones with their fusions.

Sources: the published networks themselves (Diffusers' ``FluxTransformer2DModel`` and ``SD3Transformer2DModel``, and the
reference implementations by Black Forest Labs and Stability AI).
"""

from __future__ import annotations

from collections.abc import Iterator

from loratools.adapter.algebra.fused_rows import FusedWeight, Split
from loratools.adapter.architectures.family import Module, Transformer

_QKV = ("to_q", "to_k", "to_v")
_ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
_NEVER_TRAINED = ("x_embedder", "context_embedder", "time_text_embed", "pos_embed", "norm_out", "proj_out")

# Diffusers' path below one block -> the original one's: modules that are the same in both
_FLUX_DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
_FLUX_DOUBLE_NORMS = {
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
}
_FLUX_SINGLE = {"norm.linear": "modulation.lin", "proj_out": "linear2"}
_FLUX_SINGLE_NORMS = {"attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm"}
_FLUX_OUTER = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "proj_out": "final_layer.linear",
}
_SD3_BLOCK = {
    "norm1.linear": "x_block.adaLN_modulation.1",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn2.to_out.0": "x_block.attn2.proj",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}
_SD3_NORMS = {
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
}
_SD3_OUTER = {
    "context_embedder": "context_embedder",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "pos_embed.proj": "x_embedder.proj",
    "proj_out": "final_layer.linear",
}


def originals(net: Transformer) -> Iterator[tuple[str, FusedWeight]]:
    """``(original path, fused)`` of every stored weight, norms included; names are Diffusers paths."""
    yield from _flux(net) if net.kind == "flux" else _sd3(net)


def modules(net: Transformer) -> Iterator[Module]:
    """Every linear and convolutional module, by Diffusers path."""
    for _, fused in originals(net):
        for name in fused.names:
            if not _is_norm(name):
                trained = name.split(".")[0] not in _NEVER_TRAINED
                patch = name == "pos_embed.proj"
                yield Module(name, "conv" if patch else "linear", 2 if patch else 1, trained)


def norms(net: Transformer) -> Iterator[Module]:
    """Every normalisation layer with weights, by Diffusers path."""
    names = (name for _, fused in originals(net) for name in fused.names)
    yield from (Module(name, "norm", 1, False) for name in names if _is_norm(name))


def processor_paths(net: Transformer) -> Iterator[tuple[str, FusedWeight]]:
    """XLabs' Flux spelling, whose factors stand in attention processors: 1 is the image's stream, 2 the text's."""
    if net.kind != "flux":
        return
    for i in range(net.double):
        block, here = f"transformer_blocks.{i}.attn", f"double_blocks.{i}.processor"
        yield f"{here}.qkv_lora1", _fused(block, _QKV)
        yield f"{here}.qkv_lora2", _fused(block, _ADDED)
        yield f"{here}.proj_lora1", FusedWeight((f"{block}.to_out.0",))
        yield f"{here}.proj_lora2", FusedWeight((f"{block}.to_add_out",))
    for i in range(net.single):
        block, here = f"single_transformer_blocks.{i}", f"single_blocks.{i}.processor"
        yield f"{here}.qkv_lora", _fused(f"{block}.attn", _QKV)
        yield f"{here}.proj_lora", FusedWeight((f"{block}.proj_out",))


def _flux(net: Transformer) -> Iterator[tuple[str, FusedWeight]]:
    yield from _same("", "", _FLUX_OUTER)
    yield "final_layer.adaLN_modulation.1", FusedWeight(("norm_out.linear",), "halves")
    for i in range(net.double):
        here, there = f"transformer_blocks.{i}", f"double_blocks.{i}"
        yield from _same(f"{here}.", f"{there}.", {**_FLUX_DOUBLE, **_FLUX_DOUBLE_NORMS})
        yield f"{there}.img_attn.qkv", _fused(f"{here}.attn", _QKV)
        yield f"{there}.txt_attn.qkv", _fused(f"{here}.attn", _ADDED)
    for i in range(net.single):
        here, there = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        yield from _same(f"{here}.", f"{there}.", {**_FLUX_SINGLE, **_FLUX_SINGLE_NORMS})
        names = (*(f"{here}.attn.{part}" for part in _QKV), f"{here}.proj_mlp")
        yield f"{there}.linear1", FusedWeight(names, "single")


def _sd3(net: Transformer) -> Iterator[tuple[str, FusedWeight]]:
    yield from _same("", "", _SD3_OUTER)
    yield "final_layer.adaLN_modulation.1", FusedWeight(("norm_out.linear",), "halves")
    for i in range(net.double):
        here, there = f"transformer_blocks.{i}", f"joint_blocks.{i}"
        yield from _same(f"{here}.", f"{there}.", {**_SD3_BLOCK, **_SD3_NORMS})
        modulation = FusedWeight((f"{here}.norm1_context.linear",), "last halves")
        yield f"{there}.context_block.adaLN_modulation.1", modulation
        yield f"{there}.x_block.attn.qkv", _fused(f"{here}.attn", _QKV)
        yield f"{there}.context_block.attn.qkv", _fused(f"{here}.attn", _ADDED)
        yield f"{there}.x_block.attn2.qkv", _fused(f"{here}.attn2", _QKV)


def _same(here: str, there: str, table: dict[str, str]) -> Iterator[tuple[str, FusedWeight]]:
    yield from ((f"{there}{original}", FusedWeight((f"{here}{path}",))) for path, original in table.items())


def _fused(parent: str, parts: tuple[str, ...]) -> FusedWeight:
    cut: Split = "equal"
    return FusedWeight(tuple(f"{parent}.{part}" for part in parts), cut)


def _is_norm(name: str) -> bool:
    return name.rpartition(".")[2] in ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
