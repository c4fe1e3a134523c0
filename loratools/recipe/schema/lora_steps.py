"""The kinds of steps that choose, make and change LoRA files, and the model that one is added to."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from loratools.dtypes import Dtype
from loratools.recipe.schema.fields import Above, Count, Fraction, Missing, NumberText, Short, Strict, Texts


class Select(Short):
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


class _Stored(Short):
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


class Convert(Short):
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
