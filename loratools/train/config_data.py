"""Settings of images and captions: those of one folder, and the run's own that folders fall back to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

DATA_PLACES = frozenset({"cache_dir"})  # where things lie, which changes no byte of the result

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Interpolation = Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]
Warmup = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Subset(BaseModel):
    """One folder of images; what is left at None is taken from the run's own setting."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    folder: Path
    repeats: Count | None = None  # None: the number before the folder's name, as in ``10_name``, or the run's
    class_tokens: str | None = None  # stands in for the caption of an image that has none
    metadata_file: Path | None = None  # captions by image: JSON ``{name: {caption, tags}}``, or JSON lines
    caption_extension: str | None = None
    shuffle_tags: bool | None = None
    keep_tokens: Natural | None = None
    keep_tokens_separator: str | None = None
    caption_separator: Annotated[str, Field(min_length=1)] | None = None
    secondary_separator: str | None = None
    wildcards: bool | None = None
    caption_dropout: Fraction | None = None
    caption_dropout_every: Natural | None = None
    tag_dropout: Fraction | None = None
    token_warmup_min: Natural | None = None
    token_warmup: Warmup | None = None
    caption_prefix: str | None = None
    caption_suffix: str | None = None
    regularisation: bool = False  # pictures of the class: shown as often as all others, at ``prior_loss_weight``
    flip: bool | None = None
    random_crop: bool | None = None
    color_aug: bool | None = None
    resize_interpolation: Interpolation | None = None
    plain_name: bool = False  # True: the folder's name means nothing (an sd-scripts dataset config)


class DataConfig(BaseModel):
    """The run's own settings of captions and caches.

    ``token_warmup`` is in batches, or a fraction of the run below 1. ``cache_latents`` is true (in memory), ``disk``
    (in ``cache_dir`` as well, for the next run) or false (every use of an image is encoded).
    """

    repeats: Count = 1
    caption_extension: str | None = None  # None: ``.txt``, then ``.caption``
    allow_uncaptioned: bool = False
    shuffle_tags: bool = True
    keep_tokens: Natural = 0
    keep_tokens_separator: str = ""
    caption_separator: Annotated[str, Field(min_length=1)] = ","
    secondary_separator: str = ""
    wildcards: bool = False
    caption_dropout: Fraction = 0.0
    caption_dropout_every: Natural = 0
    tag_dropout: Fraction = 0.0
    token_warmup_min: Natural = 1
    token_warmup: Warmup = 0.0
    caption_prefix: str = ""
    caption_suffix: str = ""
    prior_loss_weight: Warmup = 1.0  # of regularisation images
    flip: bool = False
    random_crop: bool = False
    color_aug: bool = False
    resize_interpolation: Interpolation | None = None  # None: Lanczos to shrink, bicubic to grow
    cache_latents: bool | Literal["disk"] = True
    cache_dir: Path | None = None  # None: ``latents`` in the folder of the epoch files

    @field_validator("caption_extension")
    @classmethod
    def _dotted(cls, value: str | None) -> str | None:
        return value if not value or value.startswith(".") else f".{value}"

    @field_validator("cache_latents", mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        words = {"true": True, "yes": True, "memory": True, "false": False, "no": False}
        return words.get(value.lower(), value) if isinstance(value, str) else value
