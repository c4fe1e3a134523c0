"""What pydantic finds wrong with a config's values, as one sentence that says what a setting takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loratools.errors import did_you_mean

Place = tuple[str | int, ...]
_WANTED = {  # the first word of pydantic's name of an error -> what would be right
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


def first_mistake(error: ValidationError, values: Mapping[str, Any]) -> tuple[Place, str]:
    """Where the first mistake stands in ``values``, and what it is; all forms that a setting may have are named.

    The place of a value that is one of several forms is the setting itself, and not pydantic's name of a form.
    """
    found = error.errors(include_url=False)
    first = found[0]
    if first["type"] == "missing":
        *place, name = first["loc"]
        return tuple(place), f"'{name}' is missing"
    at = _place(first["loc"], values)
    if first["type"] == "value_error":
        return at, first["msg"].removeprefix("Value error, ")
    forms = [wanted(other) for other in found if _place(other["loc"], values) == at]
    told = [form for form in dict.fromkeys(forms) if form is not None]
    given = first["input"]
    if not told:
        return at, f"{first['msg'][:1].lower()}{first['msg'][1:]} (it is {given!r:.60})"
    expected = [str(other["ctx"]["expected"]) for other in found if other["type"] == "literal_error"]
    known = [word.strip("'") for text in expected for word in text.replace(" or ", ", ").split(", ")]
    return at, f"it must be {' or '.join(told)} (it is {given!r:.60}){did_you_mean(str(given), known)}"


def wanted(error: ErrorDetails) -> str | None:
    """What would be right in the place of the value that ``error`` is about; None where only pydantic can say."""
    if error["type"] in _BOUNDS:
        bounds = {name: f"{value:g}" if isinstance(value, float) else value for name, value in error["ctx"].items()}
        return _BOUNDS[error["type"]].format(**bounds)
    return _WANTED.get(error["type"].partition("_")[0])


def _place(where: tuple[int | str, ...], values: Any) -> Place:
    """``where`` up to the last key or number that ``values`` have."""
    found: list[str | int] = []
    for part in where:
        inside = (
            part in values
            if isinstance(values, Mapping)
            else (isinstance(values, (list, tuple)) and isinstance(part, int) and part < len(values))
        )
        if not inside:
            break
        values = values[part]
        found.append(part)
    return tuple(found)
