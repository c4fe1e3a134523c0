"""What an option of a step may be: types with their ranges, and the strict model that every kind of step is."""

from __future__ import annotations

import typing
from typing import Annotated, Any, ClassVar, Literal

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


def listed(value: Any) -> Any:
    """One value as the list that may be written in its place."""
    return value if isinstance(value, list) else [value]


def _joined(value: Any) -> Any:
    """A bare number or a list of numbers, written out as the text that the option takes."""
    items = listed(value)
    if items and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items):
        return ",".join(format(item, "g") for item in items)
    return value


def _no_truth(value: Any) -> Any:
    """Pydantic takes true for 1; a person who writes it means something else."""
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no number")
    return value


def axis_text(value: Any) -> Any:
    """``{cfg: [4, 7]}`` as the text ``cfg: 4; 7`` that the command line takes."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, values),) = value.items()
    items = [format(item, "g") if isinstance(item, float) else str(item) for item in listed(values)]
    if not isinstance(values, list):
        return f"{kind}: {items[0]}"
    marked = ['"' + item.replace('"', '""') + '"' if set(item) & set(';,"') else item for item in items]
    return f"{kind}: {'; '.join(marked)}"


Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Texts = Annotated[tuple[str, ...], BeforeValidator(listed), Field(min_length=1)]
_NUMBERS = {"anyOf": [{"type": ["string", "number"]}, {"type": "array", "items": {"type": "number"}}]}
NumberText = Annotated[str, BeforeValidator(_joined), WithJsonSchema(_NUMBERS)]
RuleText = Annotated[str, Field(pattern="/[^=]*=")]  # of kinds of layers in a block, OUT05/attn1=0.3
Number = Annotated[float, BeforeValidator(_no_truth), Field(allow_inf_nan=False)]
_AXIS = {"anyOf": [{"type": "string"}, {"type": "object", "minProperties": 1, "maxProperties": 1}]}
AxisText = Annotated[str, BeforeValidator(axis_text), WithJsonSchema(_AXIS)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Part = Annotated[float, Field(ge=0, lt=1)]
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


class Short(Strict):
    """A step of which one option, ``shorthand``, may stand alone, without its key."""

    shorthand: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {cls.shorthand: value} if isinstance(value, (str, list)) else value
