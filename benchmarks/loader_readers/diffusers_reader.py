"""diffusers with PEFT, of any version since 0.30: ``load_lora_weights`` of a tiny pipeline, and PEFT's own products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from benchmarks.loader_readers.measure import Asked, Case, Pair, Reading, report

Sizes = Mapping[str, Mapping[str, Any]]


def pipeline(family: str, sizes: Sizes) -> Any:
    """A pipeline of random weights, whose modules have the sizes of the job's files."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    parts: dict[str, Any] = {"tokenizer": None, "vae": diffusers.AutoencoderKL()}  # 0.32 wants a VAE and a scheduler
    parts["scheduler"] = diffusers.DDIMScheduler(clip_sample=False)
    parts["text_encoder"] = CLIPTextModel(CLIPTextConfig(**sizes["text_encoder"]))
    if family == "flux":
        with torch.device("meta"):
            transformer = diffusers.FluxTransformer2DModel(**sizes["transformer"])
        parts["transformer"] = transformer.to_empty(device="cpu")  # of true width: memory that nothing reads
        return diffusers.FluxPipeline(**parts, text_encoder_2=None, tokenizer_2=None)
    parts["unet"] = diffusers.UNet2DConditionModel(**sizes["unet"])
    if family == "sd1":
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return diffusers.StableDiffusionPipeline(**parts)
    second = CLIPTextModelWithProjection(CLIPTextConfig(**sizes["text_encoder_2"]))
    return diffusers.StableDiffusionXLPipeline(**parts, text_encoder_2=second, tokenizer_2=None, add_watermarker=False)


def canonical(component: str, path: str) -> str:
    """The canonical name of a module; newer transformers have no ``text_model`` in their module trees."""
    bare = component.startswith("text_encoder") and not path.startswith("text_model.")
    return f"{component}.text_model.{path}" if bare else f"{component}.{path}"


def applied(component: str, model: nn.Module, asked: Asked) -> dict[str, Pair]:
    """What PEFT's layers of a loaded model add to its weights, against what was asked."""
    changed = {}
    for path, layer in model.named_modules():
        if not hasattr(layer, "get_delta_weight") or not layer.lora_A:
            continue
        name, delta = canonical(component, path), layer.get_delta_weight(next(iter(layer.lora_A)))
        if name in asked.shapes:
            changed[name] = asked.compare(name, delta)
        elif delta.is_meta or bool(delta.count_nonzero()):
            changed[name] = (float("inf"), float("inf"))
    return changed


def read(case: Case, sizes: Sizes) -> Reading:
    """Load one file into a fresh pipeline, as a user would."""
    loaded, asked = pipeline(case.family, sizes), Asked(case.canonical)
    loaded.load_lora_weights(case.path)
    parts = {component: getattr(loaded, component) for component in sizes}
    changed: dict[str, Pair] = {}
    for component, model in parts.items():
        changed |= applied(component, model, asked)
    return Reading(len(asked.shapes), changed)


def main() -> None:
    """Answer a job."""
    import diffusers
    import peft

    report(read, f"diffusers {diffusers.__version__}, PEFT {peft.__version__}")


if __name__ == "__main__":
    main()
