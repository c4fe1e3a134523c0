"""The model that all of the API's models are made from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """A value that goes over the wire: keys that no field knows are refused, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")
