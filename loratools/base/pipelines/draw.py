"""One picture by diffusers' own pipeline: our noise, its call, and the middle of a video."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratools.base.model import PictureSettings
from loratools.base.pipelines.model import PipelineBase
from loratools.base.pipelines.prompts import KeptPrompts
from loratools.base.quiet import quiet
from loratools.base.sampling.noise import SeededDraws
from loratools.base.sampling.noise_kinds import OWN
from loratools.errors import GridError

Pixels = NDArray[np.uint8]  # (height, width, 3)


def draw(
    base: PipelineBase,
    prompt: str,
    seed: int,
    settings: PictureSettings,
    *,
    prompts: KeptPrompts | None = None,
    text_state: Hashable = None,
    on_step: Callable[[int], None] | None = None,
) -> Pixels:
    """The picture (height, width, 3) in uint8 RGB, under whatever is in the base's modules now.

    The noise depends on the seed and the size alone: it is what the pipeline draws of a CPU generator with this seed in
    float32, whatever the dtype and the device.

    Args:
        prompts: keeps encoded prompts from one call to the next.
        text_state: equal where the text encoders hold equal numbers.
        on_step: called after each step with the number of steps so far; what it raises ends the drawing.
    Raises:
        GridError: if the pipeline refuses what it is asked for, or what comes out are no numbers.
    """
    pipeline = base.pipeline
    draws = SeededDraws(OWN, [seed])
    given = base.call.arguments(prompt, settings)
    given["generator"] = draws.generators[0]
    if on_step is not None and "callback_on_step_end" in base.call.defaults:
        given["callback_on_step_end"] = _hearing(on_step)
    kept = prompts or KeptPrompts(0)
    try:
        with quiet(), kept.used(pipeline, text_state), draws:
            made = pipeline(**given)
    except ValueError as error:  # of its check of inputs
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise GridError(f"{base.call.title} refuses what it is asked for ({reason})") from error
    finally:
        pipeline.maybe_free_model_hooks()  # after an error models would stay where they are
    return _pixels(made[0], base)


def _hearing(on_step: Callable[[int], None]) -> Callable[..., dict[str, Any]]:
    def heard(_pipeline: object, step: int, _time: object, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1)
        return tensors

    return heard


def _pixels(made: Any, base: PipelineBase) -> Pixels:
    """The first picture, or the middle frame of the first video, of what a pipeline gives as numbers in 0..1."""
    first = np.asarray(made[0], dtype=np.float32)
    picture = first[len(first) // 2] if first.ndim == 4 else first  # (frames, height, width, 3)
    if not np.isfinite(picture).all():
        raise GridError(
            f"{base.name} gives a picture without numbers in {str(base.dtype).removeprefix('torch.')}; use "
            "`dtype=bf16`, or fp32"
        )
    pixels: Pixels = (picture[..., :3] * 255).round().astype(np.uint8)
    return pixels
