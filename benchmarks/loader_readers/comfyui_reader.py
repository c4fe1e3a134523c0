"""ComfyUI's key maps and arithmetic, from a checkout: what it would add to each of the original networks' weights."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from safetensors.torch import load_file
from torch import nn

from benchmarks.loader_readers.measure import Asked, Case, Reading, checkout, pretend, report, version_of
from benchmarks.loader_readers.original import UNETS, stand_in, summed


def read(case: Case, _: Mapping[str, Any]) -> Reading:
    """Load one file as its LoRA node does."""
    lora, convert, base = (importlib.import_module(f"comfy.{name}") for name in ("lora", "lora_convert", "model_base"))
    asked = Asked(case.original)
    kind = base.Flux if case.family == "flux" else base.BaseModel
    config = type("Config", (), {"unet_config": UNETS[case.family]})
    keys = lora.model_lora_keys_unet(stand_in(kind, asked.shapes, model_config=config), {})
    keys = lora.model_lora_keys_clip(stand_in(nn.Module, asked.shapes), keys)
    patches = lora.load_lora(convert.convert_lora(load_file(case.path)), keys)
    return summed(asked, patches, lora.calculate_weight)


def main() -> None:
    """Answer a job."""
    pretend("torchvision", "torchaudio")
    sys.path.insert(0, checkout())
    importlib.import_module("comfy.cli_args").args.cpu = True
    report(read, f"ComfyUI of {version_of(checkout())}")


if __name__ == "__main__":
    main()
