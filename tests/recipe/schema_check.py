"""As much of JSON Schema as the recipe's own uses: what of a value it does not allow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, Any] = {
    "string": str,
    "array": list,
    "object": dict,
    "null": type(None),
    "boolean": bool,
}


def wrong(value: Any, schema: Any, parts: Any) -> Iterator[str]:
    """What of ``value`` the schema does not allow: as much of JSON Schema as ours uses."""
    if "$ref" in schema:
        yield from wrong(value, parts[schema["$ref"].rpartition("/")[2]], parts)
    if "anyOf" in schema and all(any(True for _ in wrong(value, option, parts)) for option in schema["anyOf"]):
        yield f"{value!r} is none of what is allowed"
    if "oneOf" in schema and sum(not list(wrong(value, option, parts)) for option in schema["oneOf"]) != 1:
        yield f"{value!r} is not exactly one"
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds and not any(is_a(value, kind) for kind in kinds):
        yield f"{value!r} is no {kinds}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{value!r} is not one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{value!r} is not {schema['const']}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{value!r} does not match"
    if isinstance(value, dict):
        yield from (f"{key} is missing" for key in schema.get("required", []) if key not in value)
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
            if inner is False:
                yield f"{key} is unknown"
            elif inner is not True:
                yield from wrong(item, inner, parts)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            yield from wrong(item, schema["items"], parts)


def is_a(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _TYPES[kind])
