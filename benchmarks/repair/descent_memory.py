"""Memory of the gradient by block weights:
``python -m benchmarks.repair.descent_memory [--model sd15|sdxl] [--device D]``.

A UNet of random weights in full shapes (bf16) under a LoRA of rank 32 on its attention modules, one number a block; two
calls of it forwards and backwards, as two sampler steps are. One line: the most memory that there was beyond the UNet's
own, with factors beside the weights, or with ``--formed`` with every weight formed from dense differences.
"""

from __future__ import annotations

import argparse
import dataclasses
import threading
import time
from collections import defaultdict
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.base import weight_function
from loratools.base.load import load_base

RANK = 32
MODELS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sdxl": {
        "cross_attention_dim": 2048,
        "attention_head_dim": [5, 10, 20],
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


def unet_of(model: str, device: torch.device) -> UNet2DConditionModel:
    """A UNet in bf16 with random weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**MODELS[model])
    unet = unet.to(torch.bfloat16).to_empty(device=device).requires_grad_(False).eval()
    for parameter in unet.parameters():
        parameter.normal_(0, 0.02)
    return unet


def directions_of(unet: UNet2DConditionModel) -> list[dict[str, Delta]]:
    """A random LoRA on all layers within attention blocks, parted by blocks."""
    parts: dict[str, dict[str, Delta]] = defaultdict(dict)
    for name, module in unet.named_modules():
        if "attentions" in name and isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            rows, columns = module.weight.shape[0], module.weight[0].numel()
            factors = torch.randn(rows, RANK) / RANK, torch.randn(RANK, columns) / columns
            parts[".".join(name.split(".")[:2])][f"unet.{name}"] = LowRank(*factors, tuple(module.weight.shape))
    return list(parts.values())


class Memory:
    """The most memory of this process, or of its GPU, since it was made."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        import psutil

        self._process, self.peak = psutil.Process(), 0
        threading.Thread(target=self._watch, daemon=True).start()

    def most(self) -> int:
        """In bytes."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else self.peak

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._process.memory_info().rss)
            time.sleep(0.01)


def main() -> None:
    """Measure one way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="sd15")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", type=int, default=256, help="pixels along a side")
    parser.add_argument("--formed", action="store_true", help="form every weight")
    args = parser.parse_args()
    device = torch.device(args.device)
    unet = unet_of(args.model, device)
    base = dataclasses.replace(load_base("pocket", device=args.device), unet=unet, dtype=torch.bfloat16)
    if args.formed:
        weight_function._LARGE = 1 << 62
    directions = directions_of(unet)
    modules = sum(map(len, directions))
    memory = Memory(device)
    before = sum(parameter.nbytes for parameter in unet.parameters())
    begun = time.perf_counter()
    function = weight_function.WeightFunction(base, {}, directions)
    point = torch.ones(len(directions), device=device, requires_grad=True)
    call = function.at(point)
    kind: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    hidden = torch.randn(2, 77, MODELS[args.model]["cross_attention_dim"], **kind)
    added = {"text_embeds": torch.randn(2, 1280, **kind), "time_ids": torch.randn(2, 6, **kind)}
    latents = torch.randn(2, 4, args.size // 8, args.size // 8, **kind)
    for step in (500, 100):
        latents = call(latents, torch.tensor(step, device=device), hidden, added)
    (gradient,) = torch.autograd.grad(latents.float().square().mean(), [point])
    seconds, finite = time.perf_counter() - begun, bool(torch.isfinite(gradient).all())
    print(
        f"{args.model}, {args.device}, {args.size} px, rank {RANK} on {modules} modules, "
        f"{'every weight formed' if args.formed else 'factors beside the weights'}: {before / 2**30:.2f} GiB of UNet, "
        f"{memory.most() / 2**30:.2f} GiB at most, {seconds:.1f} s, gradient finite: {finite}"
    )


if __name__ == "__main__":
    main()
