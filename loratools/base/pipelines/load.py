"""Load a Diffusers folder of any family as a base that diffusers' own pipeline draws with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from loratools.base.base_path import BaseLocation
from loratools.base.model import Defaults
from loratools.base.picture_size import USUAL_SCALE_FACTOR
from loratools.base.pipelines.call import PipelineCall, parameters_of
from loratools.base.pipelines.empty import empty_pipeline
from loratools.base.pipelines.folder import PipelineFolder
from loratools.base.pipelines.kinds import (
    IS_DISTILLED,
    KINDS,
    SCHNELL,
    TURBO,
    FewSteps,
    PipelineKind,
    family_of_pipeline,
)
from loratools.base.pipelines.model import PipelineBase
from loratools.base.quiet import quiet
from loratools.base.text_model import read_json
from loratools.errors import BaseModelError

_USUAL_SIDE = 1024
_SPATIAL = ("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_spatial_scale_factor", "vae_scale_factor")
_UNGUIDED = ("Flux2KleinPipeline",)  # whose distilled variants take no guidance at all


def load_pipeline(
    location: BaseLocation, *, device: torch.device, dtype: torch.dtype, offload: bool = False, weights: bool = True
) -> PipelineBase:
    """The pipeline of the folder at ``location``, for inference; its digest is left empty.

    Quantised weights stay as they are.

    Args:
        offload: keep only the model that works on ``device`` (diffusers' ``enable_model_cpu_offload``).
        weights: without them the models are on torch's ``meta`` device, as of :func:`loratools.base.load.load_base`.
    Raises:
        BaseModelError: if the folder is damaged or not whole, or its pipeline cannot be used here.
        UnavailableError: if its weights need a package that is not installed, or another device.
    """
    folder = PipelineFolder.read(location.path)
    with quiet():  # importing it brings notices of its own
        kind = folder.pipeline_class()
    call = PipelineCall(folder.kind, parameters_of(kind.__call__))
    if call.edits:
        raise BaseModelError(
            f"{location.path} is drawn by {folder.kind}, which draws upon a picture that it is given; give a "
            "text-to-image model"
        )
    folder.check(tuple(getattr(kind, "_optional_components", ())), device.type)
    with quiet():
        pipeline = _from_pretrained(folder, kind, dtype) if weights else empty_pipeline(folder, kind, dtype)
        base = _described(pipeline, folder, call, location, device, dtype)
        if weights:
            _place(base, offload)
    return base


def _from_pretrained(folder: PipelineFolder, kind: Any, dtype: torch.dtype) -> Any:
    full_vae = dtype != torch.float32 and not KINDS.get(folder.kind, PipelineKind()).half_vae
    types: Any = {"default": dtype, "vae": torch.float32} if full_vae else dtype
    try:
        pipeline = kind.from_pretrained(folder.path, torch_dtype=types, variant=folder.variant(), local_files_only=True)
    except Exception as error:  # diffusers, transformers, safetensors and torch raise a dozen types for damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseModelError(f"cannot load {folder.path} ({reason}); is the download complete?") from error
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def _place(base: PipelineBase, offload: bool) -> None:
    """Put the weights where they belong; where they do not fit the device, the caller loads once more, offloaded."""
    if offload:
        base.offload()
    elif base.device.type != "cpu":
        base.pipeline.to(base.device)


def _described(
    pipeline: Any,
    folder: PipelineFolder,
    call: PipelineCall,
    location: BaseLocation,
    device: torch.device,
    dtype: torch.dtype,
) -> PipelineBase:
    """What the loaded pipeline says of itself: its family, how it is guided, its usual size, steps and CFG scale."""
    network = pipeline.transformer
    few = _few_steps(pipeline, folder.kind, location)
    call = PipelineCall(
        call.title,
        call.defaults,
        embedded=bool(network.config.get("guidance_embeds")),
        unguided=few is not None and folder.kind in _UNGUIDED,
        frame_step=_frame_step(pipeline) if "num_frames" in call.defaults else 0,
    )
    step = _size_step(pipeline)
    return PipelineBase(
        pipeline=pipeline,
        call=call,
        size_step=step,
        family=family_of_pipeline(folder.kind, type(network).__name__),
        digest="",
        name=location.label,
        resolution=_resolution(pipeline, call, step),
        device=device,
        dtype=dtype,
        defaults=_defaults(pipeline, folder.path, call, few),
    )


def _few_steps(pipeline: Any, kind: str, location: BaseLocation) -> FewSteps | None:
    """How a variant that was distilled to few steps is drawn; None for all others."""
    if pipeline.config.get("is_distilled") and kind in IS_DISTILLED:
        return IS_DISTILLED[kind]
    if kind == "FluxPipeline" and not pipeline.transformer.config.get("guidance_embeds"):
        return SCHNELL
    named = " ".join((location.name, *location.path.parts[-3:])).lower()  # of a hub's model the path has the name
    return TURBO[kind] if kind in TURBO and "turbo" in named else None


def _defaults(pipeline: Any, path: Path, call: PipelineCall, few: FewSteps | None) -> Defaults:
    """The folder's own ``loratools.json`` over the variant's usual values, and these over the signature's."""
    steps, cfg = call.defaults.get("num_inference_steps"), call.usual_cfg
    if few is not None:
        steps, cfg = few.steps, few.cfg
    own = read_json(path / "loratools.json") if (path / "loratools.json").is_file() else {}
    frames = own.get("frames", call.defaults.get("num_frames") or call.kind.frames) if call.frame_step else 0
    return Defaults(
        int(own.get("steps", steps or 30)), float(own.get("cfg", cfg)), type(pipeline.scheduler).__name__, int(frames)
    )


def _size_step(pipeline: Any) -> int:
    """Pixels of a side for each token of the network, or for each latent."""
    factor = _first(pipeline, _SPATIAL, USUAL_SCALE_FACTOR)
    patch = pipeline.transformer.config.get("patch_size", 1)
    patch = patch[-1] if isinstance(patch, (list, tuple)) else patch
    processor = getattr(pipeline, "image_processor", None)
    of_processor = int(processor.config.vae_scale_factor) if processor is not None else 1
    return math.lcm(factor * int(patch or 1), of_processor)


def _frame_step(pipeline: Any) -> int:
    """Frames of a video for each latent one."""
    names = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio", "vae_temporal_scale_factor")
    return _first(pipeline, names, 1)


def _first(pipeline: Any, names: Sequence[str], otherwise: int) -> int:
    """The first attribute that the pipeline has of these: each calls its VAE's factors otherwise."""
    return next((int(own) for name in names if (own := getattr(pipeline, name, None))), otherwise)


def _resolution(pipeline: Any, call: PipelineCall, step: int) -> tuple[int, int]:
    """(height, width) in pixels: the signature's, or what the pipeline makes of its default size."""
    height, width = call.defaults.get("height"), call.defaults.get("width")
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    side = getattr(pipeline, "default_sample_size", None)
    pixels = side * _first(pipeline, _SPATIAL, USUAL_SCALE_FACTOR) if isinstance(side, int) else _USUAL_SIDE
    return max(step, pixels // step * step), max(step, pixels // step * step)
