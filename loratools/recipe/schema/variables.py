"""``vars``: ``${name}`` in a recipe's values, typed, with the command line's ``--set name=value`` on top."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from loratools.errors import RecipeError, did_you_mean
from loratools.yamlio import Document, Place, load_yaml

_USE = re.compile(r"\$\{\s*(?P<name>[^}]*?)\s*\}")
_NAME = re.compile(r"[^\W\d]\w*\Z")
_TYPES: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def filled(document: Document, values: Mapping[str, str]) -> Document:
    """The document with every ``${name}`` replaced. A value that is nothing but ``${name}`` keeps the variable's type.

    Raises:
        RecipeError: for a name that is not under ``vars``, or a value of another type.
    """
    variables = document.data.get("vars", {})
    if not isinstance(variables, dict):
        raise document.error(("vars",), "write `name: value` pairs here, such as `style_weight: 0.8`")
    known = {name: _plain(document, name, value) for name, value in variables.items()}
    for name, text in values.items():
        known[name] = _set(document, known, name, text)
    body = {
        key: value if key == "vars" else _fill(document, value, (key,), known) for key, value in document.data.items()
    }
    return replace(document, data={**body, "vars": known} if "vars" in body else body)


def check_used(document: Document) -> None:
    """Raise RecipeError if nothing in the document, as it was before it was filled, uses one of its own variables.

    Those of an included file are there for whoever includes it, and need not all be used.
    """
    body = [value for key, value in document.data.items() if key != "vars"]
    used = set(_names(body))
    for name in document.data.get("vars", {}):
        if name not in used and not document.span(("vars", name)).source:
            message = f"nothing uses '{name}'; write ${{{name}}} where it belongs, or drop it"
            raise document.error(("vars", name), message, name)


def _names(value: Any) -> Iterator[str]:
    """The variables that the texts in ``value`` name."""
    match value:
        case dict():
            value = list(value.values())
        case str():
            yield from (use["name"] for use in _USE.finditer(value))
            return
    for item in value if isinstance(value, list) else []:
        yield from _names(item)


def _plain(document: Document, name: str, value: Any) -> Any:
    if not _NAME.match(name):
        raise document.error(("vars", name), f"'{name}' is no name for a variable; use letters, digits and '_'", name)
    if not isinstance(value, (bool, int, float, str)):
        raise document.error(("vars", name), f"'{name}' should be a number, text, or true or false")
    return value


def _set(document: Document, known: Mapping[str, Any], name: str, text: str) -> Any:
    """The command line's value for a variable, of the type that the recipe's own has."""
    if name not in known:
        have = f"it has {', '.join(known)}" if known else "it has none; write `vars:` into it"
        raise RecipeError(
            f"{name}={text}: {document.source} has no variable '{name}'{did_you_mean(name, known)}; {have}"
        )
    kind = type(known[name])
    if kind is str:
        return text
    value = load_yaml(text, f"the value of {name}").data
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind and not (kind is int and type(value) is float):
        raise RecipeError(
            f"{name}={text}: {name} should be {_TYPES[kind]}, as in {document.source} ({name}: {known[name]})"
        )
    return value


def _fill(document: Document, value: Any, place: Place, known: Mapping[str, Any]) -> Any:
    match value:
        case dict():
            return {key: _fill(document, item, (*place, key), known) for key, item in value.items()}
        case list():
            return [_fill(document, item, (*place, index), known) for index, item in enumerate(value)]
        case str() if "${" in value:
            return _filled(document, value, place, known)
    return value


def _filled(document: Document, text: str, place: Place, known: Mapping[str, Any]) -> Any:
    for use in _USE.finditer(text):
        name = use["name"]
        if name not in known:
            have = f"; there are {', '.join(known)}" if known else "; write it under `vars:`"
            raise document.error(place, f"there is no variable '{name}'{did_you_mean(name, known)}{have}", name)
    whole = _USE.fullmatch(text.strip())
    if whole is not None:
        return known[whole["name"]]
    return _USE.sub(lambda use: _written(known[use["name"]]), text)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
