"""The options of a grid step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from loratools.dtypes import Dtype
from loratools.recipe.schema.fields import AxisText, Count, Missing, NumberText, Strict, listed


class Grid(Strict):
    """Pictures of every row at every weight, or of any axes against each other, beside the base alone."""

    rows: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="runs, epochs, files or merge strings; one or a list"
    )
    weights: NumberText | None = Field(
        None, description="first:last:step, or a list; 0:1:0.25 if left out and there are no axes"
    )
    x: AxisText | None = Field(
        None, description="what differs across: `{KIND: VALUES}`, such as `{cfg: [4, 7]}`; see `loratools grid --help`"
    )
    y: AxisText | None = Field(None, description="what differs down")
    z: AxisText | None = Field(None, description="what differs between sub-grids")
    base_alone: bool = Field(True, description="the base alone in front")
    most: Count | None = Field(None, description="pictures that are allowed (5000)")
    prompts: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="prompts, or one file of them, a line each"
    )
    negative: str = Field("", description="the negative prompt")
    seeds: NumberText | None = Field(None, description="1, [1, 2] or 1-4; the recipe's seed if left out")
    steps: Count | None = Field(None, description="sampler steps; the base's own if left out")
    cfg: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(None, description="guidance scale")
    sampler: str | None = Field(None, description="the WebUI's sampler and schedule type, such as `DPM++ 2M Karras`")
    size: NumberText | None = Field(None, description="512 or 512x768")
    clip_skip: Annotated[int, Field(ge=1, le=12)] | None = Field(None, description="1: the last text layer")
    frames: Count | None = Field(
        None, description="of a video base's videos, whose middle is shown; the base's own if left out"
    )
    noise: Literal["own", "webui-cpu", "webui-gpu"] = Field(
        "own", description="webui-gpu, webui-cpu: the WebUI's noise and noise levels, by its setting of RNG"
    )
    embeddings: str | None = Field(None, description="a folder of textual-inversion embeddings that prompts may name")
    batch_size: Count | None = Field(None, description="pictures at once")
    dtype: Dtype | None = Field(None, description="compute type")
    missing: Missing | None = Field(
        None, description="weight of the modules in blocks that a short vector does not list"
    )
    presets: str | None = Field(None, description="a file of more named vectors")
    allow_unknown: bool = Field(False, description="read LoRAs with keys that no table knows instead of refusing them")
    title: str = Field("", description="over the sheet")
    labels: dict[str, str] = Field(default_factory=dict, description="what a value is called: `{style@8: the eighth}`")
    captions: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="lines under the sheet; one or a list"
    )
    sheets: Annotated[tuple[Literal["webp", "jpg", "png"], ...], BeforeValidator(listed)] = Field(
        (), description="draw the sheet in these formats as well"
    )
    full_size: bool = Field(False, description="pictures unreduced in the files of `sheets`")
    embed: bool | None = Field(
        None, description="a grid.html that carries its pictures; by default if they are no more than 64 MiB"
    )
    compile: bool | None = Field(
        None, description="compile the UNet's blocks: up to a minute at first; by default where it pays"
    )
    mixed: bool | None = Field(
        None, description="LoRAs and weights share batches; by default on a GPU, where each has few pictures"
    )
    offload: bool = Field(False, description="keep only the model that works on the device")
    sliced: bool = Field(False, description="decode pictures one by one")
    tiled: bool = Field(False, description="decode each picture in tiles")
    judge: str | None = Field(None, description="pocket only: score how much of this drawing style each row shows")
    score: bool = Field(False, description="figures under each picture: how far from the base and what follows")
    score_images: str | None = Field(
        None, description="score: training images, a folder or a `draw` step: the nearest one (copy risk)"
    )
    held_out: str | None = Field(
        None, description="score: images that were not trained on, a folder or a `draw` step: closeness to them"
    )
    score_models: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="score: folders of a CLIP or DINO on this machine, to compare by; one or a list"
    )

    @model_validator(mode="after")
    def _complete(self) -> Grid:
        axes = [axis for axis in (self.x, self.y, self.z) if axis is not None]
        if not self.rows and not axes:
            raise ValueError("'rows' is missing; name what to show, or an axis such as x: {adapter: [style, final]}")
        if not self.prompts and not any(axis.lstrip().lower().startswith("prompt") for axis in axes):
            raise ValueError("'prompts' is missing; give one, or an axis of them")
        if self.full_size and not self.sheets:
            raise ValueError("'full_size' goes with 'sheets'; say which format, such as sheets: webp")
        compared = [key for key in ("score_images", "held_out", "score_models") if getattr(self, key)]
        if compared and not self.score:
            raise ValueError(f"'{compared[0]}' says what 'score' compares with; add score: true")
        return self
