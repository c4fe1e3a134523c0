"""Settings of what is measured and drawn while a run goes on. None of them changes a byte of what is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator, model_validator

from loratools.validation import conflict

# change no byte of the epoch files
MONITORING_SETTINGS = frozenset(
    {
        "validate_every_epochs",
        "validate_every_steps",
        "validation_images",
        "sample_prompts",
        "sample_every_epochs",
        "sample_every_steps",
        "sample_at_first",
        "sample_sampler",
        "tensorboard",
    }
)

_Every = Annotated[int, Field(ge=1)] | None
_OrNever = Annotated[int, Field(ge=0)] | None


class MonitoringConfig(BaseModel):
    """When the validation loss is measured and samples are drawn, of what, and where curves are kept.

    Images that are held out (``validation_split``) are measured after every epoch, unless ``validate_every_epochs`` is
    0. Without any, images that are trained on are measured where an interval asks for it: their noise is fixed as
    well, but they cannot show that a run learns by heart.

    ``tensorboard`` true keeps curves in ``NAME-tensorboard`` beside the epoch files, a folder in that folder's
    ``NAME``.
    """

    validate_every_epochs: _OrNever = Field(
        default=None,
        description="measure the validation loss every so many epochs; 1 where pictures are held out; 0: never",
    )
    validate_every_steps: _Every = Field(default=None, description="measure it every so many steps as well")
    validation_images: _Every = Field(
        default=None,
        description="measure it of at most so many pictures; all that are held out, or 8 of the others, if left out",
    )
    sample_prompts: Path | tuple[str, ...] | None = Field(
        default=None, description="a file of prompts in sd-scripts' syntax, or a list of such lines, to draw samples of"
    )
    sample_every_epochs: _Every = Field(
        default=None, description="draw samples every so many epochs; 1 where no interval is given"
    )
    sample_every_steps: _Every = Field(default=None, description="draw samples every so many steps")
    sample_at_first: bool = Field(default=False, description="draw samples before the first step too")
    sample_sampler: str | None = Field(
        default=None, description="of samples whose line does not say; the base's own if left out"
    )
    tensorboard: bool | Path = Field(default=False, description="keep curves for TensorBoard: true, or a folder")

    @field_validator("sample_prompts", mode="before")
    @classmethod
    def _lines(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value or None

    @model_validator(mode="after")
    def _drawable(self) -> MonitoringConfig:
        asked = [
            name for name in ("sample_every_epochs", "sample_every_steps", "sample_at_first") if getattr(self, name)
        ]
        if asked and not self.sample_prompts:
            raise conflict(
                asked[0],
                f"{asked[0]} is set but there are no prompts; name a file of them, or list them, at sample_prompts",
            )
        return self

    @property
    def samples_every_epochs(self) -> int | None:
        """Epochs between samples: 1 where there are prompts and no interval was given."""
        if self.sample_prompts and not self.sample_every_epochs and not self.sample_every_steps:
            return 1
        return self.sample_every_epochs
