"""Settings of what a run keeps while it goes on. But for ``ema`` none of them changes a byte of what is learnt."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

# change no byte of the epoch files
SAVING_SETTINGS = frozenset({"save_every_epochs", "save_every_steps", "save_last_n", "save_state_every_steps"})

_Every = Annotated[int, Field(ge=1)] | None


class SavingConfig(BaseModel):
    """What is saved, and when; every epoch writes its file and the state anyway, and the last one's file stays.

    What is not kept is removed when the state after it is saved, so that a run that is stopped has a file to show.
    """

    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="saves the average of the weights, whose decay a step is this; 0.999 is usual"
    )
    save_every_epochs: _Every = Field(
        default=None, description="keep the file of every so many epochs, and the last; all if left out"
    )
    save_every_steps: _Every = Field(default=None, description="files within epochs as well, every so many steps")
    save_last_n: _Every = Field(
        default=None, description="keep only the newest so many files of epochs, and of steps; all if left out"
    )
    save_state_every_steps: _Every = Field(
        default=None,
        description="save what a stopped run goes on from every so many steps, beside the end of every epoch",
    )
