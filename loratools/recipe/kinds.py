"""The kinds of steps that a recipe may hold: one frozen model each, every option with what it does."""

from __future__ import annotations

import typing
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _joined(value: Any) -> Any:
    """A bare number or a list of numbers, written out as the text that the option takes."""
    items = value if isinstance(value, list) else [value]
    if items and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items):
        return ",".join(format(item, "g") for item in items)
    return value


def _no_truth(value: Any) -> Any:
    """Pydantic takes true for 1; a person who writes it means something else."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    return value


def _axis(value: Any) -> Any:
    """``{cfg: [4, 7]}`` as the text ``cfg: 4; 7`` that the command line takes."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, values),) = value.items()
    items = [format(item, "g") if isinstance(item, float) else str(item) for item in _listed(values)]
    if not isinstance(values, list):
        return f"{kind}: {items[0]}"
    marked = ['"' + item.replace('"', '""') + '"' if set(item) & set(';,"') else item for item in items]
    return f"{kind}: {'; '.join(marked)}"


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
_NUMBERS = {"anyOf": [{"type": ["string", "number"]}, {"type": "array", "items": {"type": "number"}}]}
NumberText = Annotated[str, BeforeValidator(_joined), WithJsonSchema(_NUMBERS)]
Number = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]
_AXIS = {"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]}
AxisText = Annotated[str, BeforeValidator(_axis), WithJsonSchema(_AXIS)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Dtype = Literal["fp16", "bf16", "fp32"]
Missing = Literal[0, 1]


def _takes_truth(annotation: Any) -> bool:
    return annotation is bool or any(_takes_truth(part) for part in typing.get_args(annotation))


class Strict(BaseModel):
    """A frozen model whose unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: Any, info: ValidationInfo) -> Any:
        about = cls.model_fields.get(info.field_name or "")
        return value if about is None or _takes_truth(about.annotation) else _no_truth(value)


class _Short(Strict):
    """A step whose commonest option may stand alone, without its key."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {SHORT[cls.__name__.lower()]: value} if isinstance(value, (str, list)) else value


class Draw(Strict):
    """Captioned drawings by the pocket's own drawing program, to train a style on."""

    style: str = Field(description="the drawing style, such as ink")
    count: Count = Field(24, description="how many pictures")
    seed: Seed | None = Field(None, description="the recipe's seed if left out")
    size: Annotated[int, Field(ge=32, le=1024)] = Field(128, description="side in pixels")
    figure: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="tags that every picture has, such as [blue_hair, twintails]: a character"
    )
    trigger: str | None = Field(None, description="a word at the front of every caption")


class Select(_Short):
    """One epoch of a run as a file: a byte-for-byte copy."""

    run: str = Field(description="a train or basestyle step, or a run on disk")
    epoch: NumberText = Field(
        "best", description="best (the shortlist's first), last, a number, or 6-8 for the mean of several"
    )
    votes: str | None = Field(
        None,
        description="instead of epoch: the votes.json that grid.html exports, or a JSON file of {label: count}",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Select:
        if self.votes is not None and "epoch" in self.model_fields_set:
            raise ValueError("give either 'epoch' or 'votes', not both")
        return self


class _Stored(_Short):
    """Options of every step that writes a LoRA file."""

    rank: NumberText = Field("exact", description="exact, a number, error=0.01, energy=0.999 or size=36MiB")
    dtype: Dtype = Field("fp16", description="storage type")


class _Termed(_Stored):
    """Options of steps that read merge strings."""

    missing: Missing | None = Field(
        None, description="weight of the modules in blocks that a short vector does not list"
    )
    presets: str | None = Field(None, description="a file of more named vectors")
    dora: bool = Field(False, description="read DoRA files with the weights of the recipe's base")
    allow_unknown: bool = Field(False, description="carry keys that no table knows instead of refusing their file")


class Merge(_Termed):
    """The exact weighted sum of LoRA files or earlier steps."""

    terms: str = Field(description="the merge string, such as `style@8:1:GP1, base_style:-1:GP2`")
    method: Literal["exact", "ties"] = Field(
        "exact", description="exact: the weighted sum; ties: trim, elect signs and average"
    )
    density: Fraction | None = Field(None, description="ties: the part of the entries that takes part (0.5)")
    match_norm: bool = Field(False, description="bring the LoRAs to equal norm in each block before the weights")
    compat: Literal["supermerger", "supermerger-strength", "lbw"] | None = Field(
        None, description="what another tool would make of the terms"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Merge:
        if self.density is not None and self.method != "ties":
            raise ValueError("'density' goes with method: ties")
        if self.compat and (self.method != "exact" or self.match_norm):
            raise ValueError("'compat' reproduces another tool as it is; drop 'method' and 'match_norm'")
        return self


class Subtract(_Termed):
    """A style with the base's own style removed, in one of four ways."""

    style: str = Field(description="a merge string: what to keep")
    base_style: str = Field(description="a merge string: what to remove")
    mode: Literal["direct", "matched", "project", "soft"] = Field(
        "direct", description="direct: all of it; matched: what lies along it; project: its directions; soft: in part"
    )
    blocks: NumberText | None = Field(
        None, description="how strongly in each block: a preset, numbers (text or a list) or names"
    )
    energy: Fraction = Field(0.99, description="project, soft: the part of its energy that its directions must hold")
    side: Literal["output", "input", "both"] = Field("output", description="project, soft: which side is freed")
    mu: Above = Field(1.0, description="soft: what its directions keep is 1 / (1 + mu)")
    most: Annotated[float, Field(ge=0)] | None = Field(None, description="matched: the largest multiple removed")

    @model_validator(mode="after")
    def _of_its_mode(self) -> Subtract:
        modes = {"energy": "project soft", "side": "project soft", "mu": "soft", "most": "matched"}
        for key, fit in modes.items():
            if key in self.model_fields_set and self.mode not in fit.split():
                raise ValueError(f"'{key}' goes with mode: {fit.replace(' ', ' or ')}; this one is {self.mode}")
        return self


class Soup(_Termed):
    """The mean of several LoRAs, such as the epochs of a run."""

    files: Texts = Field(description="files, steps, or `run@6-8`")


class Resize(_Stored):
    """Another rank, the loss stated for each block."""

    lora: str = Field(description="a step, an epoch `run@8`, or a file")
    dora: bool = Field(False, description="read a DoRA file with the weights of the recipe's base")


class Extract(_Stored):
    """A LoRA of what tuning did to a model."""

    tuned: str = Field(description="the model after tuning: a file, a folder, or a merge_into step")
    base: str | None = Field(None, description="the model before it; the recipe's base if left out")
    conv: bool = Field(False, description="3x3 convolutions too")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of the random projections")


class Fix(_Stored):
    """A merge step again, its block vectors moved by the rules for what is wrong with the pictures."""

    merge: str = Field(description="the merge step that is meant")
    symptoms: Texts = Field(("hands",), description="hands, limbs, face, clothes, style or chaos; one or several")
    step: Above = Field(0.1, description="size of one step, absolute")
    times: Count = Field(1, description="how many steps of each rule")


class Convert(_Short):
    """The same differences in another style of keys."""

    lora: str = Field(description="a step, an epoch `run@8`, or a file")
    to: Literal["kohya", "diffusers"] = Field("kohya", description="how keys are spelled")
    dtype: Dtype | None = Field(None, description="storage type; the file's own if left out")
    dora: bool = Field(False, description="read a DoRA file with the weights of the recipe's base")
    allow_unknown: bool = Field(False, description="carry keys that no table knows through untouched")


class MergeInto(Strict):
    """A merge added to a checkpoint's weights."""

    terms: str = Field(description="the merge string")
    into: str = Field(
        description="the .safetensors checkpoint that it is added to; `base` is the recipe's (of a folder, its UNet)"
    )
    missing: Missing | None = Field(
        None, description="weight of the modules in blocks that a short vector does not list"
    )
    presets: str | None = Field(None, description="a file of more named vectors")
    match_norm: bool = Field(False, description="bring the LoRAs to equal norm in each block before the weights")
    dora: bool = Field(False, description="read DoRA files with the weights of the recipe's base")
    allow_unknown: bool = Field(False, description="leave out keys that no table knows instead of refusing their file")


class Publish(_Short):
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
    sampler: str | None = Field(None, description="render: a WebUI name such as `DPM++ 2M Karras`")

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


class Grid(Strict):
    """Pictures of every row at every weight, or of any axes against each other, beside the base alone."""

    rows: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
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
    prompts: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="prompts, or one file of them, a line each"
    )
    negative: str = Field("", description="the negative prompt")
    seeds: NumberText | None = Field(None, description="1, [1, 2] or 1-4; the recipe's seed if left out")
    steps: Count | None = Field(None, description="sampler steps; the base's own if left out")
    cfg: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(None, description="guidance scale")
    sampler: str | None = Field(None, description="a WebUI name such as `DPM++ 2M Karras`")
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
    captions: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (), description="lines under the sheet; one or a list"
    )
    sheets: Annotated[tuple[Literal["webp", "jpg", "png"], ...], BeforeValidator(_listed)] = Field(
        (), description="draw the sheet in these formats as well"
    )
    full_size: bool = Field(False, description="pictures unreduced in the files of `sheets`")
    embed: bool = Field(False, description="a grid.html that carries its pictures: one file to send")
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
    score_models: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
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


KINDS: dict[str, type[Strict] | None] = {  # None: the settings of another room's model
    "draw": Draw, "train": None, "basestyle": None, "select": Select, "merge": Merge, "subtract": Subtract,
    "soup": Soup, "fix": Fix, "resize": Resize, "extract": Extract, "convert": Convert, "merge_into": MergeInto,
    "grid": Grid, "publish": Publish,
}  # fmt: skip
SHORT = {  # the option that may stand alone
    "select": "run", "merge": "terms", "soup": "files", "resize": "lora", "convert": "lora",
    "subtract": "style", "extract": "tuned", "fix": "merge",
    "publish": "lora",
}  # fmt: skip
FILES = frozenset({"select", "merge", "subtract", "soup", "fix", "resize", "extract", "convert", "merge_into"})
LORAS = frozenset(FILES - {"merge_into"})  # kinds whose file is a LoRA
RUNS = frozenset({"train", "basestyle"})
