"""sd-scripts' networks, from a checkout: ``create_network_from_weights`` and ``merge_to`` on bare module trees."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.loader_readers.measure import Asked, Case, Reading, checkout, pretend, report, version_of

_CLASSES = (  # the classes below which its networks look for layers, by the path of such a module
    (r"(down_blocks|up_blocks)\.\d+\.attentions\.\d+|mid_block\.attentions\.0", "Transformer2DModel"),
    (r"(down_blocks|up_blocks|mid_block)(\.\d+)?\.resnets\.\d+", "ResnetBlock2D"),
    (r"down_blocks\.\d+\.downsamplers\.0|input_blocks\.[36]\.0", "Downsample2D"),
    (r"up_blocks\.\d+\.upsamplers\.0|output_blocks\.[25]\.2", "Upsample2D"),
    (r"(input|output)_blocks\.\d+\.1|middle_block\.1", "Transformer2DModel"),
    (r"(input|output)_blocks\.\d+\.0|middle_block\.[02]", "ResnetBlock2D"),
    (r"double_blocks\.\d+", "DoubleStreamBlock"),
    (r"single_blocks\.\d+", "SingleStreamBlock"),
    (r".*\.self_attn", "CLIPAttention"),
    (r".*\.mlp", "CLIPMLP"),
)


def tree(shapes: Mapping[str, tuple[int, ...]], root: type = nn.Module) -> nn.Module:
    """Layers of zeros at the paths of ``shapes``, below modules of the classes that the networks look for."""
    top: nn.Module = type(root.__name__, (root,), {"__init__": nn.Module.__init__})()
    for path, shape in shapes.items():
        parent, parts = top, path.split(".")
        for depth, part in enumerate(parts[:-1], 1):
            if part not in parent._modules:
                here = ".".join(parts[:depth])
                name = next((name for pattern, name in _CLASSES if re.fullmatch(pattern, here)), "Module")
                parent.add_module(part, type(name, (nn.Module,), {})())
            parent = parent._modules[part]  # type: ignore[assignment]
        parent.add_module(parts[-1], layer(shape))
    return top


def layer(shape: tuple[int, ...]) -> nn.Module:
    """A layer of zeros."""
    if len(shape) == 2:
        made: nn.Linear | nn.Conv2d = nn.Linear(shape[1], shape[0], bias=False)
    else:
        made = nn.Conv2d(shape[1], shape[0], shape[2], padding=shape[2] // 2, bias=False)
    nn.init.zeros_(made.weight)
    return made


def below(asked: Asked, prefix: str) -> dict[str, tuple[int, ...]]:
    """Path -> shape of the asked weights of one component."""
    return {
        key.removeprefix(prefix).removesuffix(".weight"): shape
        for key, shape in asked.shapes.items()
        if key.startswith(prefix)
    }


def read(case: Case, _: Mapping[str, Any]) -> Reading:
    """Merge one file into trees of zeros."""
    flux = case.family == "flux"
    lora = importlib.import_module("networks.lora_flux" if flux else "networks.lora")
    names = Asked(case.canonical if case.family == "sd1" else case.original)
    prefixes = (
        ("unet.", "text_encoder.")
        if case.family == "sd1"
        else ("diffusion_model.", "clip_l.transformer.", "clip_g.transformer.")
    )
    root = lora.SdxlUNet2DConditionModel if case.family == "sdxl" else nn.Module
    network = tree(below(names, prefixes[0]), root)
    encoders = [tree(paths) for prefix in prefixes[1:] if (paths := below(names, prefix))]
    texts = encoders if len(encoders) > 1 or flux else encoders[0]
    weights = load_file(case.path)
    made, _ = lora.create_network_from_weights(1.0, None, None, texts, network, dict(weights), for_inference=True)
    made.merge_to(texts, network, weights, torch.float32, "cpu")
    trees = dict(zip(prefixes, (network, *encoders), strict=False))
    changed = {
        key: names.compare(key, module.weight)
        for prefix, top in trees.items()
        for path, module in top.named_modules()
        for key in (f"{prefix}{path}{'' if case.family == 'sd1' else '.weight'}",)
        if key in names.shapes and bool(module.weight.count_nonzero())
    }
    return Reading(len(names.shapes), changed)


def main() -> None:
    """Answer a job."""
    pretend("torchvision", "cv2")
    sys.path.insert(0, checkout())
    report(read, f"sd-scripts of {version_of(checkout())}")


if __name__ == "__main__":
    main()
