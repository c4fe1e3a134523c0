"""From a failed validation to one sentence with the file, the line, the key and the nearest valid word."""

from __future__ import annotations

import re
import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from loratools.errors import RecipeError, did_you_mean
from loratools.validation import wanted
from loratools.yamlio import Document, Place


def located(error: ValidationError, document: Document, model: type[BaseModel]) -> RecipeError:
    """The first mistake (by line) that ``model`` found in ``document``, with its place, and how many more there are."""

    def order(item: ErrorDetails) -> tuple[int, bool]:
        return document.span(_real(document.data, item["loc"])).line, item["type"] == "missing"

    found = sorted(error.errors(), key=order)
    first = found[0]
    more = f" (and {len(found) - 1} more after it)" if len(found) > 1 else ""
    place, told = _real(document.data, first["loc"]), _explain(first, model)
    word = str(first["loc"][-1]) if first["type"] == "extra_forbidden" else None
    return RecipeError(f"{document.where(place)}: {told}{more}", document.excerpt(place, word, told))


def _real(data: Any, location: tuple[str | int, ...]) -> Place:
    """The part of pydantic's location that exists in the file; the rest are names of types and short forms."""
    place: list[str | int] = []
    for part in location:
        match data, part:
            case dict(), str() if part in data:
                data = data[part]
            case list(), int() if part < len(data):
                data = data[part]
            case _:
                continue
        place.append(part)
    return tuple(place)


def _explain(item: ErrorDetails, model: type[BaseModel]) -> str:
    location, given = item["loc"], item.get("input")
    match item["type"]:
        case "extra_forbidden":
            valid = _fields(model, location[:-1])
            return f"there is no such key{did_you_mean(str(location[-1]), valid)}; valid: {', '.join(valid)}"
        case "missing":
            return f"'{location[-1]}' is missing"
        case "literal_error":
            hint = did_you_mean(str(given), re.findall(r"'([^']*)'", item["ctx"]["expected"]))
            return f"{_shown(given)} is not one of {item['ctx']['expected']}{hint}"
        case "value_error":
            return str(item["ctx"]["error"])
    return f"{_shown(given)} cannot be used: {_right(item, model)}"


def _right(item: ErrorDetails, model: type[BaseModel]) -> str:
    """What would be right in the place of a value that is wrong."""
    if item["type"] == "model_type":
        valid = _fields(model, item["loc"])
        return f"write its options as keys, such as {{{valid[0]}: ...}}; valid: {', '.join(valid)}"
    told = wanted(item)
    return f"it must be {told}" if told else f"{item['msg'][:1].lower()}{item['msg'][1:]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys that are valid at ``location`` inside ``model``."""
    current: Any = model
    for part in location:
        if typing.get_origin(current) is dict:
            current = typing.get_args(current)[1]
        elif _is_model(current) and part in current.model_fields:
            current = _without_none(current.model_fields[part].annotation)
    return tuple(current.model_fields) if _is_model(current) else ()


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _without_none(annotation: Any) -> Any:
    """``X`` of ``X | None``; anything else as it is."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next((part for part in typing.get_args(annotation) if part is not types.NoneType), annotation)
    return annotation
