"""The JSON Schema of a recipe, made from the models that read it, for editors: completion, descriptions, red lines.

What a model accepts before it looks at types is said here: a step's short form, a value alone where a list is meant,
and ``${name}`` in place of any number or word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from loratools.recipe.schema.fields import SHORT
from loratools.recipe.schema.kinds import KINDS
from loratools.recipe.schema.recipe import Recipe
from loratools.recipe.steps.lora.train import OURS

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"\$\{\s*\w+\s*\}", "description": "a variable of `vars`"}

Schema = dict[str, Any]


def json_schema() -> Schema:
    """The schema, as JSON values."""
    told = Recipe.model_json_schema()
    parts: Schema = told.pop("$defs")
    training = _training()
    parts |= training.pop("$defs", {})
    parts["Train"] = training
    parts["Basestyle"] = _basestyle(training)
    step = parts["Step"]
    for kind, model in KINDS.items():
        name = model.__name__ if model else kind.capitalize()
        step["properties"][kind] = _kind(kind, name, parts[name])
    step["oneOf"] = [{"required": [kind]} for kind in KINDS]
    parts = {name: _loose(part) for name, part in sorted(parts.items())}
    return {"$schema": _DRAFT, "title": "A loratools recipe", **_loose(_without_title(told)), "$defs": parts}


def schema_text() -> str:
    """The schema as it ships."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _kind(kind: str, name: str, part: Schema) -> Schema:
    whole: Schema = {"$ref": f"#/$defs/{name}"}
    options = [whole, *([{"type": "null"}] if not part.get("required") else [])]
    if (short := SHORT.get(kind)) is not None:
        options.append({"type": ["string", "array"], "description": f"short for {{{short}: ...}}"})
    return {"description": str(part.get("description", "")).partition("\n")[0], "anyOf": options}


def _training() -> Schema:
    """Training's own settings, room by room, without those that a recipe says elsewhere or not at all."""
    from loratools.train.config.config import TrainConfig

    told = TrainConfig.model_json_schema()
    # pydantic puts the settings of parents first, and the last parent's before the others'
    names = ["images", *(name for model in (TrainConfig, *TrainConfig.__bases__) for name in model.__annotations__)]
    about = {name: told["properties"][name] for name in names if name in told["properties"] and name not in OURS}
    about["seed"] = _seed(about["seed"])
    about["preset"] = {"enum": sorted(_presets()), **_described(about["preset"])}
    folder: Schema = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Subset"}]}
    about["images"] = {
        "description": "a folder, a `draw` step, or a list of them, each with settings of its own if need be",
        "anyOf": [{"type": "string"}, {"type": "array", "items": folder, "minItems": 1}],
    }
    return told | {
        "properties": about,
        "required": ["images"],
        "$defs": {"Subset": _subset(told["$defs"]["Subset"], about)},
    }


def _subset(told: Schema, run: Mapping[str, Schema]) -> Schema:
    """A folder's settings; those that are the run's own where they are left out are described as that."""
    about = {
        name: value | {"description": f"of this folder: {run[name]['description']}"}
        if "description" not in value
        else value
        for name, value in told["properties"].items()
    }
    return told | {"properties": about, "description": "A folder of pictures, its settings over the run's own."}


def _basestyle(training: Schema) -> Schema:
    from loratools.train.basestyle.generate import Generation

    drawn = TypeAdapter(Generation).json_schema()["properties"]
    told = {**training, "properties": {**training["properties"], **drawn}}
    del told["required"], told["properties"]["images"]
    told["properties"] = {key: _or_null(value) for key, value in told["properties"].items()}  # null: not given
    return told | {"description": "The LoRA of what the base draws by itself."}


def _seed(value: Schema) -> Schema:
    told = {key: item for key, item in value.items() if key != "default"}
    return told | {"description": "the recipe's seed if left out"}


def _described(value: Schema) -> Schema:
    return {key: value[key] for key in ("description", "default") if key in value}


def _or_null(value: Schema) -> Schema:
    about = _described(value)
    rest = {key: item for key, item in value.items() if key not in about}
    return about | {"anyOf": [*(rest.get("anyOf") or [rest]), {"type": "null"}]}


def _presets() -> Mapping[str, Any]:
    from loratools.train.config.read import presets

    return presets()


def _loose(part: Any) -> Any:
    """The part with what is read before types are looked at."""
    if isinstance(part, list):
        return [_loose(item) for item in part]
    if not isinstance(part, dict):
        return part
    told = {key: _loose(value) for key, value in _without_title(part).items() if key not in ("properties", "$defs")}
    if "properties" in part:
        told["properties"] = {key: _value(value) for key, value in part["properties"].items()}
    return told


def _value(value: Schema) -> Schema:
    """One option: a list may be a single value, and a variable may stand for a number or a word."""
    told = _loose(value)
    about = {key: told.pop(key) for key in ("description", "default") if key in told}
    options = told["anyOf"] if set(told) == {"anyOf"} else [told]
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
