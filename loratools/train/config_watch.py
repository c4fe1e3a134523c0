"""Settings of what a run keeps while it goes on. But for ``ema`` none of them changes a byte of what is learnt."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

# change no byte of the epoch files
KEPT_ONLY = frozenset({"save_every_epochs", "save_every_steps", "save_last_n", "save_state_every_steps"})

_Every = Annotated[int, Field(ge=1)] | None


class WatchConfig(BaseModel):
    """What is saved, and when; every epoch writes its file and the state anyway, and the last one's file stays.

    ``save_every_epochs`` n keeps the file of every n-th epoch, and removes another when the epoch after it is saved.
    ``save_last_n`` keeps the newest n files of epochs, and the newest n of steps, and removes older ones.
    """

    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay a step of the averaged weights, which are then saved
    save_every_epochs: _Every = None  # None: all
    save_every_steps: _Every = None  # NAME-step00000100.safetensors
    save_last_n: _Every = None  # None: all
    save_state_every_steps: _Every = None  # for --resume, beside the one of every epoch
