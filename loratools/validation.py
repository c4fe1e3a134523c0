"""What pydantic finds wrong with settings: the place, one sentence, and the line of the file with a caret."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from loratools.errors import RecipeError, did_you_mean
from loratools.yamlio import Document, Place

_EXPECTED = {  # the first word of pydantic's name of an error -> what would be right
    "int": "a whole number",
    "float": "a number",
    "finite": "a number that is not infinite",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "tuple": "a list",
    "list": "a list",
    "mapping": "keys and values",
    "dict": "keys and values",
    "model": "keys and values",
}
_BOUNDS = {
    "greater_than_equal": "{ge} or more",
    "greater_than": "above {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "below {lt}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text of {min_length} or more letters",
    "literal_error": "{expected}",
}
_CONFLICT = "conflict"  # pydantic's name of what conflict() makes
_ALONE = ("missing", "extra_forbidden", "value_error", _CONFLICT)  # each a mistake, not one form of several
_MOST_LISTED = 40  # valid keys in one message
_LONGEST = 60  # letters of a value in a message


@dataclass(frozen=True)
class Mistake:
    """A value, or a key, that a model refused.

    Attributes:
        place: the keys and list positions from the root of the data to it, as far as the data has them; of a value
            that may take one of several forms the place is the value's own, never pydantic's name of a form.
        message: what is wrong and what would be right, without the place.
        word: the key, where there is no such key.
        missing: whether a key that is needed is not there; the place is then that of what should have it.
    """

    place: Place
    message: str
    word: str | None = None
    missing: bool = False


def conflict(setting: str, message: str) -> PydanticCustomError:
    """What a validator over a whole model raises: a mistake that stands at ``setting``, one of the model's fields."""
    return PydanticCustomError(_CONFLICT, "{message}", {"message": message, "setting": setting})


def mistakes(
    error: ValidationError, data: Any, model: type[BaseModel] | None = None, listed_by: str = ""
) -> list[Mistake]:
    """Every mistake, in pydantic's order; all forms that a value may take are named in one.

    Args:
        data: what was validated.
        model: that refused it; its keys are listed where a key is unknown.
        listed_by: the command that lists the keys, for a model with too many of them for one message.
    """
    items = [(item, _setting(item["loc"], data), _place(item["loc"], data)) for item in error.errors(include_url=False)]
    inside = {setting for _, setting, place in items if len(place) > len(setting)}
    groups: dict[tuple[object, ...], list[ErrorDetails]] = {}
    for item, setting, place in items:
        if item["type"] in _ALONE:
            groups[(item["loc"], item["type"])] = [item]
        elif (
            place != setting or setting not in inside
        ):  # else a form that was not meant: another one fits but for a part
            groups.setdefault(place, []).append(item)
    return [_mistake(group, data, model, listed_by) for group in groups.values()]


def refusal(error: ValidationError, document: Document, model: type[BaseModel]) -> RecipeError:
    """The first mistake (by its line) in a document that ``model`` refused, and how many more there are."""
    wrong = mistakes(error, document.data, model)
    first = first_of(wrong, document)
    return document.error(first.place, f"{first.message}{and_more(wrong)}", first.word)


def first_of(wrong: Sequence[Mistake], document: Document | None = None) -> Mistake:
    """The mistake to show: the first by its line in ``document``; what is missing comes last, for a misspelled key may
    be why."""
    return min(wrong, key=lambda each: (document.span(each.place).line if document else 0, each.missing))


def and_more(wrong: Sequence[Mistake]) -> str:
    """How many mistakes there are besides the one that is shown, for the end of its message."""
    return f" (and {len(wrong) - 1} more after it)" if len(wrong) > 1 else ""


def _mistake(group: Sequence[ErrorDetails], data: Any, model: type[BaseModel] | None, listed_by: str) -> Mistake:
    first = group[0]
    where, place = first["loc"], _place(first["loc"], data)
    match first["type"]:
        case "missing":
            return Mistake(place, f"'{where[-1]}' is missing", missing=True)
        case "extra_forbidden":
            word, valid = str(where[-1]), _fields(model, where[:-1])
            many = len(valid) > _MOST_LISTED and listed_by
            known = f"`{listed_by}` lists them" if many else f"valid: {', '.join(valid)}"
            return Mistake(place, f"there is no such key{did_you_mean(word, valid)}; {known}", word)
        case "value_error":
            return Mistake(place, str(first["ctx"]["error"]))
        case "conflict":
            return Mistake((*place, first["ctx"]["setting"]), first["ctx"]["message"])
        case "model_type" if (valid := _fields(model, where)) and len(group) == 1:
            right = f"write its options as keys, such as {{{valid[0]}: ...}}; valid: {', '.join(valid)}"
            return Mistake(place, f"{_shown(first['input'])} cannot be used: {right}")
    return Mistake(place, _wrong_value(group))


def _wrong_value(group: Sequence[ErrorDetails]) -> str:
    """What would be right in the place of one value, by the errors of all forms that it may take."""
    first = group[0]
    forms = [form for form in dict.fromkeys(map(_expected, group)) if form is not None]
    given = f"(it is {_shown(first['input'])})"
    if not forms:
        return f"{first['msg'][:1].lower()}{first['msg'][1:]} {given}"
    literals = [str(item["ctx"]["expected"]) for item in group if item["type"] == "literal_error"]
    words = [word.strip("'") for text in literals for word in text.replace(" or ", ", ").split(", ")]
    return f"it must be {' or '.join(forms)} {given}{did_you_mean(str(first['input']), words)}"


def _expected(item: ErrorDetails) -> str | None:
    """What would be right in the place of the value that ``item`` is about; None where only pydantic can say."""
    if item["type"] in _BOUNDS:
        bounds = {name: f"{value:g}" if isinstance(value, float) else value for name, value in item["ctx"].items()}
        return _BOUNDS[item["type"]].format(**bounds)
    return _EXPECTED.get(item["type"].partition("_")[0])


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _has(data: Any, part: int | str) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)


def _setting(where: Sequence[int | str], data: Any) -> Place:
    """Pydantic's location up to the last key or number that ``data`` has without a gap."""
    place: list[int | str] = []
    for part in where:
        if not _has(data, part):
            break
        data = data[part]
        place.append(part)
    return tuple(place)


def _place(where: Sequence[int | str], data: Any) -> Place:
    """All keys and numbers of pydantic's location that ``data`` has; the rest are names of forms."""
    place: list[int | str] = []
    for part in where:
        if _has(data, part):
            data = data[part]
            place.append(part)
    return tuple(place)


def _fields(model: Any, where: Sequence[int | str]) -> tuple[str, ...]:
    """The keys that are valid at ``where`` inside ``model``."""
    current = model
    for part in where:
        current = _bare(current)
        arguments = typing.get_args(current)
        match typing.get_origin(current):
            case kind if kind is dict:
                current = arguments[1]
            case kind if kind in (tuple, list):
                current = arguments[0]
            case _ if _is_model(current) and part in current.model_fields:
                current = current.model_fields[part].annotation
    current = _bare(current)
    return tuple(current.model_fields) if _is_model(current) else ()


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _bare(annotation: Any) -> Any:
    """``X`` of ``X | None`` and of ``Annotated[X, ...]``; anything else as it is."""
    if typing.get_origin(annotation) is Annotated:
        return _bare(typing.get_args(annotation)[0])
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return next((part for part in typing.get_args(annotation) if part is not types.NoneType), annotation)
    return annotation
