"""The JSON Schema of a recipe, made from the models that read it, for editors: completion, descriptions, red lines.

What a model accepts before it looks at types is said here: a step's short form, a value alone where a list is meant,
and ``${name}`` in place of any number or word.
"""

from __future__ import annotations

import json
from typing import Any

from loratools.recipe.schema.kinds import BorrowedOptions, StepKind, step_kinds
from loratools.recipe.schema.recipe import recipe_model

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"\$\{\s*\w+\s*\}", "description": "a variable of `vars`"}

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema, as JSON values."""
    recipe = recipe_model().model_json_schema()
    parts: Schema = recipe.pop("$defs")
    kinds = step_kinds()
    for kind in kinds.values():
        if isinstance(kind.options, BorrowedOptions):
            part = kind.options.schema()
            parts |= part.pop("$defs", {})
            parts[kind.options.name] = part
    step = parts["Step"]
    own = {name: value for name, value in step["properties"].items() if name not in kinds}
    step["properties"] = {name: _step_options(kind, parts[part_name(kind)]) for name, kind in kinds.items()} | own
    step["oneOf"] = [{"required": [name]} for name in kinds]
    parts = {name: _loose(part) for name, part in sorted(parts.items())}
    return {"$schema": _DRAFT, "title": "A loratools recipe", **_loose(_without_title(recipe)), "$defs": parts}


def schema_text() -> str:
    """The schema as it ships."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def part_name(kind: StepKind) -> str:
    """The name under ``$defs`` of a kind's options."""
    return kind.options.name if isinstance(kind.options, BorrowedOptions) else kind.options.__name__


def _step_options(kind: StepKind, part: Schema) -> Schema:
    """What may stand after a kind's name."""
    options: list[Schema] = [{"$ref": f"#/$defs/{part_name(kind)}"}]
    if not part.get("required"):
        options.append({"type": "null"})
    if kind.shorthand is not None:
        options.append({"type": ["string", "array"], "description": f"short for {{{kind.shorthand}: ...}}"})
    return {"description": str(part.get("description", "")).partition("\n")[0], "anyOf": options}


def _loose(part: Any) -> Any:
    """The part with what is read before types are looked at."""
    if isinstance(part, list):
        return [_loose(item) for item in part]
    if not isinstance(part, dict):
        return part
    loose = {key: _loose(value) for key, value in _without_title(part).items() if key not in ("properties", "$defs")}
    if "properties" in part:
        loose["properties"] = {key: _value(value) for key, value in part["properties"].items()}
    return loose


def _value(value: Schema) -> Schema:
    """One option: a list may be a single value, and a variable may stand for a number or a word."""
    loose = _loose(value)
    about = {key: loose.pop(key) for key in ("description", "default") if key in loose}
    options = loose["anyOf"] if set(loose) == {"anyOf"} else [loose]
    singles = [item["items"] for item in options if item.get("type") == "array" and isinstance(item.get("items"), dict)]
    if not any(_takes_text(item) for item in options):
        options = [*options, *(single for single in singles if single and single not in options)]
    if any("prefixItems" in item for item in options):
        options = [*options, {"type": ["integer", "string"]}]  # 512 or 512x768 for a pair
    if not any(_takes_text(item) for item in options):
        options = [*options, _VARIABLE]
    return about | (options[0] if len(options) == 1 else {"anyOf": options})


def _takes_text(option: Schema) -> bool:
    """Whether any text fits already: of a mapping or a reference the variables stand inside."""
    kinds = option.get("type", "object")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return "const" not in option and "enum" not in option and bool({"string", "object"} & set(kinds))


def _without_title(part: Schema) -> Schema:
    return {key: value for key, value in part.items() if key != "title" or isinstance(value, dict)}
