"""The kinds of steps whose result is there to be looked at: drawings, grids, and the folder to hand out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from loratools.dtypes import Dtype
from loratools.recipe.schema.fields import AxisText, Count, Missing, NumberText, Seed, Short, Strict, listed


class Draw(Strict):
    """Captioned drawings by the pocket's own drawing program, to train a style on."""

    style: str = Field(description="the drawing style, such as ink")
    count: Count = Field(24, description="how many pictures")
    seed: Seed | None = Field(None, description="the recipe's seed if left out")
    size: Annotated[int, Field(ge=32, le=1024)] = Field(128, description="side in pixels")
    figure: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="tags that every picture has, such as [blue_hair, twintails]: a character"
    )
    trigger: str | None = Field(None, description="a word at the front of every caption")


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
    compile: bool = Field(False, description="by torch.compile: minutes to start; for hundreds of pictures")
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


class Publish(Short):
    """A folder to hand out: the LoRA under its own name, a preview, the WebUI's side-car JSON and a model card."""

    lora: str = Field(description="a step, an epoch `run@8`, or a file: what is published")
    name: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="the file's name without its ending; the folder's own if left out"
    )
    title: str | None = Field(None, description="the card's heading; the name if left out")
    description: str = Field("", description="a sentence about it, for the card and the WebUI")
    activation: str | None = Field(
        None, description="trigger words; the tags that every training picture has if left out"
    )
    negative: str = Field("", description="what belongs into the negative prompt with it")
    weight: Annotated[float, Field(gt=0, le=2)] = Field(1.0, description="the weight that it is meant for")
    notes: str = Field("", description="more, in Markdown, for the card and the WebUI's notes")
    author: str = Field("", description="who made it")
    license: str | None = Field(None, description="its licence, such as cc-by-4.0 or creativeml-openrail-m")
    base_model: str | None = Field(None, description="the hub id of the base that the card names")
    preview: str = Field("render", description="render, none, a picture, or a grid step (or a grid's folder)")
    row: str | None = Field(None, description="of a grid: the row shown; the LoRA's own if left out")
    prompt: str | None = Field(None, description="render: the prompt; the trigger words if left out")
    seed: Seed | None = Field(None, description="render: the recipe's seed if left out")
    size: NumberText | None = Field(None, description="render: 512 or 512x768")
    steps: Count | None = Field(None, description="render: sampler steps; the base's own if left out")
    cfg: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(None, description="render: guidance scale")
    sampler: str | None = Field(
        None, description="render: the WebUI's sampler and schedule type, such as `DPM++ 2M Karras`"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Publish:
        given = [key for key in ("prompt", "seed", "size", "steps", "cfg", "sampler") if getattr(self, key) is not None]
        if given and self.preview != "render":
            raise ValueError(f"'{given[0]}' goes with preview: render; drop it, or the other preview")
        if self.row is not None and self.preview in ("render", "none"):
            raise ValueError("'row' goes with a preview that is a grid; name its step at 'preview'")
        if self.name is not None and (set(self.name) & set('/\\:*?"<>|') or self.name.startswith(".")):
            raise ValueError(f"'{self.name}' is no plain file name; the folder is named with 'out' beside the kind")
        return self
