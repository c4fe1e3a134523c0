"""What a training run is asked to do: every setting, its range and its default, as one frozen model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from loratools.train.config_data import DATA_PLACES, OF_DATA_SETS, DataConfig, DataSet, Folders, Resolution, Subset
from loratools.train.config_look import LOOK_ONLY, LookConfig
from loratools.train.config_network import NetworkConfig
from loratools.train.config_objective import ObjectiveConfig
from loratools.train.config_optimizer import OptimizerConfig
from loratools.train.config_speed import SPEED_ONLY, SpeedConfig
from loratools.train.config_watch import KEPT_ONLY, WatchConfig

# settings that change no byte of the result
PLACE_ONLY = frozenset({
    "out", "device", "resume", "force", "preset", "offline", "guide_factor", *DATA_PLACES, *SPEED_ONLY, *KEPT_ONLY,
    *LOOK_ONLY,
})  # fmt: skip

Count = Annotated[int, Field(ge=1)]


Described = Literal["title", "author", "description", "license", "tags", "usage_hint", "merged_from", "trigger_phrase",
                    "preprocessor", "is_negative_embedding"]  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, populate_by_name=True)


class TrainConfig(
    DataConfig, NetworkConfig, ObjectiveConfig, OptimizerConfig, SpeedConfig, WatchConfig, LookConfig, _Strict
):
    """The settings of one run. A preset's values come first, then the file's, then the command line's.

    ``resolution`` None is the base's own.
    """

    # what
    base: str
    vae: Path | None = None  # a VAE of its own: a Diffusers folder, a single file or a hub id; None: the base's
    offline: bool = False  # never ask the hub
    images: Folders = ()
    datasets: tuple[DataSet, ...] = ()  # in the place of ``images``: several, each with its own resolution and batch
    out: Path = Path("runs")
    name: str = ""
    preset: str = "default"
    comment: str | None = None
    modelspec: Mapping[Described, str] = Field(default_factory=dict)  # what the files say of themselves to a person
    # how long, how much
    epochs: Count = 10
    max_steps: Count | None = None  # in the place of ``epochs``: as many whole epochs as these optimiser steps take
    batch_size: Count = 1
    gradient_accumulation: Count = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    # network
    dim: Annotated[int, Field(ge=1, le=4096)] = 32
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # None: as dim
    # text
    clip_skip: Annotated[int, Field(ge=1, le=12)] = 1
    # images
    resolution: Resolution | None = None
    buckets: bool = True
    bucket_min: Count | None = None  # None: half the resolution's shorter side
    bucket_max: Count | None = None  # None: twice the resolution's longer side
    bucket_steps: Count = 64
    guide_factor: Annotated[float, Field(gt=0)] | None = None  # of guide 004's sum; None: 2 if mirrored, else 4
    bucket_no_upscale: bool = False
    # machine
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None  # None: bf16 where the device has it, else no
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"  # of the files
    device: str = "auto"
    resume: bool = False
    force: bool = False
    _notes: tuple[str, ...] = PrivateAttr(())

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value != value.strip() or value.startswith(".") or any(letter in value for letter in '/\\:*?"<>|\0\n'):
            raise ValueError(f"'{value}' cannot be a file's name; use letters, digits, '-' and '_'")
        return value

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("name"):
            return value
        datasets = value.get("datasets")
        first_set = datasets[0] if isinstance(datasets, (list, tuple)) and datasets else value
        images = first_set.get("images") if isinstance(first_set, dict) else None
        first = images[0] if isinstance(images, (list, tuple)) and images else images
        folder = first.get("folder") if isinstance(first, dict) else first
        if isinstance(first, dict) and folder in (None, listed := first.get("metadata_file")):
            folder = Path(listed).with_suffix("") if isinstance(listed, (str, Path)) else None
        return {**value, "name": Path(folder).name} if isinstance(folder, (str, Path)) else value

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.learned_rates() == (0, 0):
            raise ValueError("unet_lr and te_lr are both 0, so there is nothing to train; raise one of them")
        if self.graph == "on" and self.drops and self.gradient_checkpointing:
            raise ValueError("a graph cannot draw again what dropout left out under gradient_checkpointing; set graph: "
                             "off, or leave one of them out")  # fmt: skip
        if bool(self.images) == bool(self.datasets):
            raise ValueError("give either `images` or `datasets`; a data set lists its folders under its own `images`")
        for part in self.parts():
            if part.buckets and part.bucket_steps is not None and part.bucket_steps % 8:
                raise ValueError(f"bucket_steps {part.bucket_steps} is no multiple of 8; 64 is usual")
        changing = [name for name in ("random_crop", "color_aug")
                    if getattr(self, name) or any(getattr(subset, name) for subset in self.subsets())]  # fmt: skip
        if changing and self.cache_latents:
            raise ValueError(f"{changing[0]} changes an image at every use, which cache_latents cannot keep; set "
                             "cache_latents: false, or leave it out")  # fmt: skip
        return self

    def parts(self) -> tuple[DataSet, ...]:
        """The run's data sets with the run's own settings filled in; a ``resolution`` of None is the base's."""
        found = []
        for part in self.datasets or (DataSet(images=self.images),):
            unset = [name for name in OF_DATA_SETS if getattr(part, name) is None]
            found.append(part.model_copy(update={name: getattr(self, name) for name in unset}))
        return tuple(found)

    def subsets(self) -> tuple[Subset, ...]:
        """The folders of all data sets."""
        return tuple(subset for part in self.datasets for subset in part.images) or self.images

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the file that this was read from."""
        return self._notes

    def noted(self, notes: Sequence[str]) -> TrainConfig:
        """The same settings with ``notes``."""
        copied = self.model_copy()
        copied._notes = tuple(notes)
        return copied

    @property
    def network_alpha(self) -> float:
        """alpha as it is written: ``dim`` where none was given, so that the scale is 1."""
        return float(self.dim if self.alpha is None else self.alpha)

    def settings(self) -> dict[str, Any]:
        """Every setting that has a say in the result, as plain JSON values."""
        return self.model_dump(mode="json", exclude=set(PLACE_ONLY))
