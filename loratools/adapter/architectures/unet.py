"""The modules of the SD1, SD2 and SDXL UNets, generated: Diffusers' paths, the original ones, and old ones."""

from __future__ import annotations

from collections.abc import Iterator

from loratools.adapter.architectures.family import Module, ModuleKind, UNet


def modules(net: UNet) -> Iterator[Module]:
    """Every linear and convolutional module, by Diffusers path below ``unet``."""
    yield Module("conv_in", "conv", 3, False)
    yield from (Module(f"time_embedding.linear_{i}", "linear", 1, False) for i in (1, 2))
    if net.original_names:
        yield from (Module(f"add_embedding.linear_{i}", "linear", 1, False) for i in (1, 2))
    yield from _down_modules(net)
    yield from _resnet("mid_block.resnets.0", False)
    yield from _attention("mid_block.attentions.0", net.mid, net.linear_projection)
    yield from _resnet("mid_block.resnets.1", False)
    yield from _up_modules(net)
    yield Module("conv_out", "conv", 3, False)


def others(net: UNet) -> Iterator[Module]:
    """What only full differences change: norms, and layers that networks of other widths have beside the family's."""
    yield from norms(net)
    own = {module.name for module in modules(net)}
    firsts = (f"down_blocks.{level}.resnets.0.conv_shortcut" for level in range(len(net.down)))
    yield from (Module(name, "conv", 1, False) for name in firsts if name not in own)


def norms(net: UNet) -> Iterator[Module]:
    """Every normalisation layer, by Diffusers path below ``unet``."""
    seen: dict[str, None] = {}
    for module in modules(net):
        parent, _, last = module.name.rpartition(".")
        if last in ("conv1", "conv2"):
            seen[f"{parent}.norm{last[-1]}"] = None
        elif last == "proj_in":
            seen[f"{parent}.norm"] = None
        elif ".transformer_blocks." in module.name and module.name.endswith("attn1.to_q"):
            block = parent.removesuffix(".attn1")
            seen.update(dict.fromkeys(f"{block}.norm{i}" for i in (1, 2, 3)))
    yield from (Module(name, "norm", 1, False) for name in (*seen, "conv_norm_out"))


def old_paths(path: str) -> Iterator[str]:
    """How early Diffusers spelled an attention layer: as a part of its processor."""
    parent, _, last = path.removesuffix(".0").rpartition(".")
    if parent.endswith(("attn1", "attn2")) and last in ("to_q", "to_k", "to_v", "to_out"):
        yield f"{parent}.processor.{last}_lora"


def original_path(net: UNet, path: str) -> str:
    """The original (CompVis) path: ``input_blocks.4.1.proj_in`` for SDXL's ``down_blocks.1.attentions.0.proj_in``."""
    if path in SINGLES:
        return SINGLES[path]
    side, *rest = path.split(".")
    if side == "mid_block":
        kind, index, *tail = rest
        slot = {("resnets", "0"): 0, ("attentions", "0"): 1, ("resnets", "1"): 2}[kind, index]
        return ".".join(["middle_block", str(slot), *_original_tail(kind, tail)])
    level, kind, index, *tail = rest
    if kind == "downsamplers":
        return f"input_blocks.{3 * int(level) + 3}.0.op"
    if kind == "upsamplers":
        slot = 2 if net.up[int(level)] else 1  # after the attention where there is one
        return f"output_blocks.{3 * int(level) + 2}.{slot}.conv"
    block = 3 * int(level) + int(index) + (1 if side == "down_blocks" else 0)
    where = "input_blocks" if side == "down_blocks" else "output_blocks"
    return ".".join([where, str(block), "0" if kind == "resnets" else "1", *_original_tail(kind, tail)])


def _down_modules(net: UNet) -> Iterator[Module]:
    last = len(net.down) - 1
    for level, depth in enumerate(net.down):
        for layer in range(2):
            # a level's first block widens the channels, except the first and last of four, which keep their input's
            yield from _resnet(f"down_blocks.{level}.resnets.{layer}", layer == 0 and level in (1, 2))
            if depth:
                yield from _attention(f"down_blocks.{level}.attentions.{layer}", depth, net.linear_projection)
        if level < last:
            yield Module(f"down_blocks.{level}.downsamplers.0.conv", "conv", 3, False)


def _up_modules(net: UNet) -> Iterator[Module]:
    last = len(net.up) - 1
    for level, depth in enumerate(net.up):
        for layer in range(3):
            yield from _resnet(f"up_blocks.{level}.resnets.{layer}", True)
            if depth:
                yield from _attention(f"up_blocks.{level}.attentions.{layer}", depth, net.linear_projection)
        if level < last:
            yield Module(f"up_blocks.{level}.upsamplers.0.conv", "conv", 3, False)


def _resnet(path: str, shortcut: bool) -> Iterator[Module]:
    yield Module(f"{path}.conv1", "conv", 3, False)
    yield Module(f"{path}.time_emb_proj", "linear", 1, False)
    yield Module(f"{path}.conv2", "conv", 3, False)
    if shortcut:
        yield Module(f"{path}.conv_shortcut", "conv", 1, False)


def _attention(path: str, depth: int, linear: bool) -> Iterator[Module]:
    projection: ModuleKind = "linear" if linear else "conv"
    yield Module(f"{path}.proj_in", projection, 1, True)
    for block in range(depth):
        for attention in ("attn1", "attn2"):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                yield Module(f"{path}.transformer_blocks.{block}.{attention}.{part}", "linear", 1, True)
        yield Module(f"{path}.transformer_blocks.{block}.ff.net.0.proj", "linear", 1, True)
        yield Module(f"{path}.transformer_blocks.{block}.ff.net.2", "linear", 1, True)
    yield Module(f"{path}.proj_out", projection, 1, True)


def _original_tail(kind: str, tail: list[str]) -> list[str]:
    return [RESNET[tail[0]]] if kind == "resnets" else tail


# what the original network calls a ResNet's layers, and the modules outside its blocks
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
SINGLES = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
