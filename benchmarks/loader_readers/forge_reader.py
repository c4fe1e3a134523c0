"""Forge's key maps and arithmetic, from a checkout: what it would add to each of the original networks' weights."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from safetensors.torch import load_file
from torch import nn

from benchmarks.loader_readers.measure import Asked, Case, Reading, checkout, report, version_of
from benchmarks.loader_readers.original import UNETS, stand_in, summed

_UNMATCHED = 12  # its LoRA extension applies nothing of a file that has more keys than that which no map knows


def read(case: Case, _: Mapping[str, Any]) -> Reading:
    """Load one file as its LoRA extension does: the network's keys first, the text encoders' from the rest."""
    lora = importlib.import_module("backend.patcher.lora")
    asked = Asked(case.original)
    repository = SimpleNamespace(
        huggingface_repo="black-forest-labs/FLUX.1-dev" if case.family == "flux" else case.family
    )
    network = stand_in(
        object, asked.shapes, config=repository, diffusion_model=SimpleNamespace(config=UNETS[case.family])
    )
    patches, rest = lora.load_lora(load_file(case.path), lora.model_lora_keys_unet(network, {}))
    more, rest = lora.load_lora(rest, lora.model_lora_keys_clip(stand_in(nn.Module, asked.shapes), {}))
    if len(rest) > _UNMATCHED:
        return Reading(len(asked.shapes), {})
    return summed(asked, {**patches, **more}, lora.merge_lora_to_weight)


def main() -> None:
    """Answer a job."""
    sys.path.insert(0, checkout())
    sys.argv[1:] = [*sys.argv[1:3], "--always-cpu"]
    report(read, f"Forge of {version_of(checkout())}")


if __name__ == "__main__":
    main()
