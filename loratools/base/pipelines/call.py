"""How a pipeline is called: what its signature takes, and what a picture's settings become there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loratools.base.model import PictureSettings
from loratools.base.pipelines.kinds import KINDS, PipelineKind
from loratools.errors import GridError

# the parameters that a CFG scale may go to: of a network that takes negative prompts, and of one that is told a number
_GUIDANCE, _EMBEDDED = ("true_cfg_scale", "guidance_scale"), ("distilled_guidance_scale", "guidance_scale")


@dataclass(frozen=True)
class PipelineCall:
    """What one loaded pipeline takes.

    Args:
        title: its class.
        defaults: its call's parameters, with their own values.
        embedded: whether its network was distilled to be told a guidance number, and no negative prompt.
        unguided: whether it takes no guidance at all: a variant that was distilled to few steps.
        frame_step: a video's frames less one are a multiple of this; 0 for pipelines that draw pictures.
    """

    title: str
    defaults: Mapping[str, Any]
    embedded: bool = False
    unguided: bool = False
    frame_step: int = 0

    @property
    def kind(self) -> PipelineKind:
        """What its signature does not say."""
        return KINDS.get(self.title, PipelineKind())

    @property
    def guidance(self) -> str:
        """The parameter that a CFG scale goes to; empty where there is none."""
        names = [name for name in (_EMBEDDED if self.embedded else _GUIDANCE) if name in self.defaults]
        return names[0] if names and not self.unguided else ""

    @property
    def negative(self) -> bool:
        """Whether it takes a negative prompt."""
        return "negative_prompt" in self.defaults and not self.embedded and bool(self.guidance)

    @property
    def usual_cfg(self) -> float:
        """The CFG scale of its signature; 1 where it takes none."""
        own = self.defaults.get(self.guidance) if self.guidance else None
        if isinstance(own, (int, float)):
            return float(own) + self.kind.shift
        return 1.0 if self.kind.cfg is None or not self.guidance else self.kind.cfg

    @property
    def edits(self) -> bool:
        """Whether it draws upon a picture that it is given."""
        return "image" in self.defaults and not self.kind.takes_image

    def check(self, settings: PictureSettings, scheduler: str) -> None:
        """Raise GridError for what it does not take.

        Args:
            scheduler: the class of the folder's scheduler.
        """
        if settings.sampler != scheduler:
            raise GridError(
                f"{self.title} draws by the scheduler of its folder, {scheduler}, and takes no sampler "
                f"'{settings.sampler}'; leave the sampler out"
            )
        if settings.clip_skip != 1:
            raise GridError(f"{self.title} takes no clip skip; leave it out")
        if settings.noise != "own":
            raise GridError(f"noise '{settings.noise}' is the WebUI's, for SD 1, SD 2 and SDXL alone; leave it out")
        self._check_guidance(settings)
        self._check_frames(settings.frames)

    def _check_guidance(self, settings: PictureSettings) -> None:
        if settings.negative and not self.negative:
            why = "was distilled to follow one prompt" if self.embedded or self.unguided else "has no such parameter"
            raise GridError(f"{self.title} takes no negative prompt: it {why}; leave it out")
        if not self.guidance and settings.cfg != self.usual_cfg:
            raise GridError(f"{self.title} takes no CFG scale here; leave it out, or use {self.usual_cfg:g}")
        if self.guidance and not self.embedded:
            least = self.kind.shift + self.kind.above
            if settings.cfg < 1 or 1 < settings.cfg <= least:
                more = f" or more than {least:g}" if least > 1 else " or more"
                raise GridError(f"{self.title} is not guided by a CFG scale of {settings.cfg:g}; use 1{more}")

    def _check_frames(self, frames: int) -> None:
        if frames and not self.frame_step:
            raise GridError(f"{self.title} draws pictures, not videos; leave out the number of frames")
        if self.frame_step and (frames < 1 or (frames - 1) % self.frame_step):
            near = max(0, round((frames - 1) / self.frame_step)) * self.frame_step + 1
            raise GridError(
                f"{self.title} draws videos of {self.frame_step}n + 1 frames, and {frames} are none; use {near}"
            )

    def arguments(self, prompt: str, settings: PictureSettings) -> dict[str, Any]:
        """The arguments of the pipeline's call, as far as a picture's text and settings decide them."""
        height, width = settings.size
        given: dict[str, Any] = {
            "prompt": prompt,
            "height": height,
            "width": width,
            "num_inference_steps": settings.steps,
            "output_type": "np",
            "return_dict": False,
        }
        if self.guidance:
            given[self.guidance] = settings.cfg - self.kind.shift
        if self.negative and settings.cfg > 1:
            given["negative_prompt"] = settings.negative or self.kind.empty
        if self.frame_step:
            given["num_frames"] = settings.frames
        if "use_resolution_binning" in self.defaults:  # would draw another size and scale it
            given["use_resolution_binning"] = False
        return given


def parameters_of(call: Any) -> dict[str, Any]:
    """The parameters of a pipeline's ``__call__`` that have names, with their defaults."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    given = inspect.signature(call).parameters.items()
    return {name: own.default for name, own in given if name != "self" and own.kind in kinds}
