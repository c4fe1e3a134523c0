"""What a training run is asked to do: every setting, its range and its default, as one frozen model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from loratools.dtypes import Dtype
from loratools.errors import FileError
from loratools.file_names import bad_signs, check_writable_name, is_reserved
from loratools.files import windows_path
from loratools.train.config.data import CACHE_SETTINGS, OF_DATA_SETS, DataConfig, DataSet, Folders, Resolution, Subset
from loratools.train.config.full import FULL_SETTINGS, PER_WEIGHT, FullConfig
from loratools.train.config.monitoring import MONITORING_SETTINGS, MonitoringConfig
from loratools.train.config.network import NetworkConfig, Rank
from loratools.train.config.objective import ObjectiveConfig
from loratools.train.config.optimizer import OptimizerConfig
from loratools.train.config.performance import PERFORMANCE_SETTINGS, PerformanceConfig
from loratools.train.config.saving import SAVING_SETTINGS, SavingConfig
from loratools.validation import conflict

# settings that change no byte of the epoch files
WITHOUT_EFFECT = frozenset(
    {
        "out",
        "device",
        "resume",
        "force",
        "preset",
        "offline",
        "guide_factor",
        *CACHE_SETTINGS,
        *PERFORMANCE_SETTINGS,
        *SAVING_SETTINGS,
        *MONITORING_SETTINGS,
    }
)

Count = Annotated[int, Field(ge=1)]


ModelSpecField = Literal[
    "title",
    "author",
    "description",
    "license",
    "tags",
    "usage_hint",
    "merged_from",
    "trigger_phrase",
    "preprocessor",
    "is_negative_embedding",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, populate_by_name=True)


class TrainConfig(
    DataConfig,
    NetworkConfig,
    FullConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PerformanceConfig,
    SavingConfig,
    MonitoringConfig,
    _Strict,
):
    """The settings of one run. A preset's values come first, then the file's, then the command line's.

    ``resolution`` None is the base's own.
    """

    # what
    base: str = Field(description="a Diffusers folder, a .safetensors or .ckpt file, a hub id, or pocket")
    vae: Path | None = Field(
        default=None,
        description="a VAE of its own, which a full training's checkpoints have too: a folder, a file or a hub id",
    )
    offline: bool = Field(default=False, description="never ask the hub")
    images: Folders = Field(
        default=(), description="folders of pictures, each with captions beside them; one or a list"
    )
    datasets: tuple[DataSet, ...] = Field(
        default=(), description="in the place of `images`: several, each with its own resolution and batch"
    )
    out: Path = Field(default=Path("runs"), description="folder of the epoch files")
    name: str = Field(default="", description="what the files are called; the images' folder if left out")
    preset: str = Field(
        default="default",
        description="a guide's numbers: style-004, character-002, character-003, object, pose, scene, pocket-style; "
        "full, dreambooth-001 ...",
    )
    comment: str | None = Field(default=None, description="free text for the files' headers")
    modelspec: Mapping[ModelSpecField, str] = Field(
        default_factory=dict,
        description="what the files say of themselves to a person: title, author, description, license and so on",
    )
    # how long, how much
    epochs: Count = Field(default=10, description="times through all pictures; each leaves a file")
    max_steps: Count | None = Field(
        default=None, description="in the place of `epochs`: as many whole epochs as these optimiser steps take"
    )
    batch_size: Count = Field(default=1, description="pictures a step")
    gradient_accumulation: Count = Field(default=1, description="batches whose gradients make one step")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(default=1, description="the same seed gives the same files")
    # network
    dim: Rank = Field(
        default=32, description="rank of the LoRA; at most 4096, but of a LoKr 100000 asks for whole matrices"
    )
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="the LoRA is scaled by alpha / dim; `dim` if left out"
    )
    # text
    clip_skip: Annotated[int, Field(ge=1, le=12)] = Field(
        default=1, description="1: the last text layer; 2 for anime bases of NovelAI's family"
    )
    # images
    resolution: Resolution | None = Field(
        default=None, description="512 or 512x768 in pixels; the base's own if left out"
    )
    buckets: bool = Field(
        default=True,
        description="pictures of other shapes get sizes of the same area; false: all are cut to `resolution`",
    )
    bucket_min: Count | None = Field(
        default=None, description="least side of a bucket in pixels; half the resolution's shorter side if left out"
    )
    bucket_max: Count | None = Field(
        default=None, description="greatest side of a bucket in pixels; twice the resolution's longer side if left out"
    )
    bucket_steps: Count = Field(default=64, description="sides of buckets are multiples of this many pixels")
    guide_factor: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="of guide 004's sum for the number of steps; 2 if mirrored, else 4, if left out"
    )
    bucket_no_upscale: bool = Field(default=False, description="small pictures keep their size")
    # machine
    mixed_precision: Literal["no", "fp16", "bf16"] | None = Field(
        default=None, description="what is computed in; bf16 where the device has it, else no, if left out"
    )
    dtype: Dtype = Field(default="fp16", description="number type of the files")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:N or mps")
    resume: bool = Field(default=False, description="go on with a run that was cut short")
    force: bool = Field(default=False, description="overwrite another run's files")

    @field_validator("out")
    @classmethod
    def _writable(cls, value: Path) -> Path:
        try:
            check_writable_name(value)
        except FileError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value != value.strip() or value.startswith(".") or bad_signs(value) or is_reserved(value):
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
        if not isinstance(folder, (str, Path)):
            return value
        path = windows_path(folder) or Path(folder)
        if path.name in ("", ".."):  # the current folder, or the one above it
            path = Path(folder).resolve()
        return {**value, "name": path.name}

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        if self.learned_rates() == (0, 0):
            raise conflict("unet_lr", "unet_lr and te_lr are both 0, so there is nothing to train; raise one of them")
        self._check_full_or_not()
        self.check_rank("dim", self.dim)
        if self.graph == "on" and self.drops and self.gradient_checkpointing:
            raise conflict(
                "graph",
                "a graph cannot draw again what dropout left out under gradient_checkpointing; set graph: "
                "off, or leave one of them out",
            )
        if bool(self.images) == bool(self.datasets):
            raise conflict(
                "images", "give either `images` or `datasets`; a data set lists its folders under its own `images`"
            )
        for part in self.data_sets():
            if part.buckets and part.bucket_steps is not None and part.bucket_steps % 8:
                raise conflict("bucket_steps", f"bucket_steps {part.bucket_steps} is no multiple of 8; 64 is usual")
        changing = [
            name
            for name in ("random_crop", "color_aug")
            if getattr(self, name) or any(getattr(subset, name) for subset in self.subsets())
        ]
        if changing and self.cache_latents:
            raise conflict(
                changing[0],
                f"{changing[0]} changes an image at every use, which cache_latents cannot keep; set "
                "cache_latents: false, or leave it out",
            )
        return self

    def _check_full_or_not(self) -> None:
        """What is of a full training alone, and what cannot go together in one."""
        if not self.is_full:
            fields = FullConfig.model_fields
            if given := [name for name in sorted(FULL_SETTINGS) if getattr(self, name) != fields[name].default]:
                raise conflict(given[0], f"{given[0]} is for network_type full; leave it out of a LoRA's training")
            return
        if self.weights == "bf16" and self.mixed_precision not in (None, "bf16"):
            raise conflict(
                "weights",
                f"weights: bf16 computes in bf16, not {self.mixed_precision}; leave mixed_precision out, or set it to "
                "bf16",
            )
        if self.weights == "bf16" and not self.steps_each_weight:
            raise conflict(
                "optimizer",
                f"{self.optimizer} cannot move bf16 weights one by one; use Adafactor, AdamW8bit, Lion or "
                "AdamW, or weights: fp32",
            )
        if self.fused_backward_pass == "on" and (reason := self.why_not_fused()):
            raise conflict("fused_backward_pass", reason)

    @property
    def is_full(self) -> bool:
        """Whether all weights are trained."""
        return self.network_type == "full"

    @property
    def steps_each_weight(self) -> bool:
        """Whether the optimiser can step one weight at a time."""
        return self.optimizer.lower().rpartition(".")[2] in PER_WEIGHT

    def why_not_fused(self) -> str:
        """Why the optimiser cannot step within the backward pass; nothing where it can."""
        if not self.steps_each_weight:
            return f"{self.optimizer} needs all gradients at once; use Adafactor, AdamW8bit, Lion or AdamW"
        if self.gradient_accumulation > 1:
            return "gradient_accumulation keeps gradients; set it to 1 (a larger batch_size does the same)"
        if self.mixed_precision == "fp16":
            return "the loss scaling of fp16 needs all gradients at once; use mixed_precision: bf16 or no"
        return ""

    def steps_in_backward(self, processes: int = 1) -> bool:
        """Whether the optimiser steps within the backward pass; ``auto`` does where it costs no second pass."""
        if not self.is_full or self.fused_backward_pass == "off":
            return False
        if self.fused_backward_pass == "on":
            return True
        return not self.why_not_fused() and self.max_grad_norm == 0 and processes == 1

    def data_sets(self) -> tuple[DataSet, ...]:
        """The run's data sets with the run's own settings filled in; a ``resolution`` of None is the base's."""
        parts = []
        for part in self.datasets or (DataSet(images=self.images),):
            unset = [name for name in OF_DATA_SETS if getattr(part, name) is None]
            parts.append(part.model_copy(update={name: getattr(self, name) for name in unset}))
        return tuple(parts)

    def subsets(self) -> tuple[Subset, ...]:
        """The folders of all data sets."""
        return tuple(subset for part in self.datasets for subset in part.images) or self.images

    @property
    def network_alpha(self) -> float:
        """alpha as it is written: ``dim`` where none was given, so that the scale is 1."""
        return float(self.dim if self.alpha is None else self.alpha)

    def settings(self) -> dict[str, Any]:
        """Every setting that changes the result, as plain JSON values; of a LoRA none of a full training's, and of a
        full training no rank, so that what is written makes a config again."""
        without = set(WITHOUT_EFFECT) | ({"dim", "alpha"} if self.is_full else FULL_SETTINGS)
        without |= {name for name in ("te2_lr", "prior") if getattr(self, name) is None}
        without |= {"caption_encoding"} if self.caption_encoding == "auto" else set()  # older keys stay
        value = self.model_dump(mode="json", exclude=without)
        parts = [value, *value.get("datasets", ())]
        for subset in (one for part in parts for one in part.get("images") or ()):
            if subset["caption_encoding"] is None:
                del subset["caption_encoding"]
        return value
