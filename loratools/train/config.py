"""What a training run is asked to do: every setting, its range and its default, as one frozen model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from loratools.train.config_data import DATA_PLACES, DataConfig, Subset
from loratools.train.config_objective import ObjectiveConfig
from loratools.train.config_optimizer import OptimizerConfig
from loratools.train.config_speed import SPEED_ONLY, SpeedConfig

# settings that change no byte of the result
PLACE_ONLY = frozenset({"out", "device", "resume", "force", "preset"}) | DATA_PLACES | SPEED_ONLY

Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, populate_by_name=True)


class TrainConfig(DataConfig, ObjectiveConfig, OptimizerConfig, SpeedConfig, _Strict):
    """The settings of one run. A preset's values come first, then the file's, then the command line's.

    ``resolution`` None is the base's own.
    """

    # what
    base: str
    images: tuple[Subset, ...] = Field(min_length=1)
    out: Path = Path("runs")
    name: str = ""
    preset: str = "default"
    comment: str | None = None
    # how long, how much
    epochs: Count = 10
    batch_size: Count = 1
    gradient_accumulation: Count = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    # network
    dim: Annotated[int, Field(ge=1, le=4096)] = 32
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # None: as dim
    # text
    clip_skip: Annotated[int, Field(ge=1, le=12)] = 1
    # images
    resolution: tuple[int, int] | None = None
    buckets: bool = True
    bucket_min: Count | None = None  # None: half the resolution's shorter side
    bucket_max: Count | None = None  # None: twice the resolution's longer side
    bucket_steps: Count = 64
    bucket_no_upscale: bool = False
    # machine
    mixed_precision: Literal["no", "fp16", "bf16"] | None = None  # None: bf16 where the device has it, else no
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"  # of the files
    device: str = "auto"
    resume: bool = False
    force: bool = False

    @field_validator("images", mode="before")
    @classmethod
    def _folders(cls, value: Any) -> Any:
        items = value if isinstance(value, (list, tuple)) else [value]
        return [{"folder": item} if isinstance(item, (str, Path)) else item for item in items]

    @field_validator("resolution", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = value.lower().replace(",", "x").split("x")
            value = value[0] if len(value) == 1 else value
        return (value, value) if isinstance(value, (int, float, str)) else value

    @field_validator("resolution")
    @classmethod
    def _multiple(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and any(side < 64 or side % 8 for side in value):
            raise ValueError(f"{value[0]}x{value[1]}: both sides must be multiples of 8, and at least 64 pixels")
        return value

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
        images = value.get("images")
        first = images[0] if isinstance(images, (list, tuple)) and images else images
        folder = first.get("folder") if isinstance(first, dict) else first
        return {**value, "name": Path(folder).name} if isinstance(folder, (str, Path)) else value

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.learned_rates() == (0, 0):
            raise ValueError("unet_lr and te_lr are both 0, so there is nothing to train; raise one of them")
        if self.buckets and self.bucket_steps % 8:
            raise ValueError(f"bucket_steps {self.bucket_steps} is no multiple of 8; 64 is usual")
        changing = [name for name in ("random_crop", "color_aug")
                    if getattr(self, name) or any(getattr(subset, name) for subset in self.images)]  # fmt: skip
        if changing and self.cache_latents:
            raise ValueError(f"{changing[0]} changes an image at every use, which cache_latents cannot keep; set "
                             "cache_latents: false, or leave it out")  # fmt: skip
        return self

    @property
    def network_alpha(self) -> float:
        """alpha as it is written: ``dim`` where none was given, so that the scale is 1."""
        return float(self.dim if self.alpha is None else self.alpha)

    def settings(self) -> dict[str, Any]:
        """Every setting that has a say in the result, as plain JSON values."""
        return self.model_dump(mode="json", exclude=set(PLACE_ONLY))
