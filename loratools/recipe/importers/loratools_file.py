"""Files of our own as recipes: the whole recipe where the header holds one, else the one step that made the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import Provenance
from loratools.ops.merging.methods.declared import PARAMETERS
from loratools.recipe.importers.model import Imported, base_notes, imported_recipe, term_name
from loratools.recipe.importers.write import step_name
from loratools.recipe.plan.lineage import Lineage

_SUBTRACT = ("mode", "energy", "side", "mu", "most")


def from_lineage(path: Path, lineage: Lineage, base: str | None) -> Imported:
    """The recipe in the header, as it was: ``base`` is another one than it names."""
    rest = {key: value for key, value in lineage.data.items() if key not in ("version", "base", "blocks", "steps")}
    note = f"{path.name} is what its step '{lineage.step}' made; its paths begin where '{lineage.name}' lay"
    return imported_recipe(
        f"the recipe in the header of {path.name}",
        lineage.data["steps"],
        base or lineage.data.get("base"),
        [note],
        blocks=lineage.data.get("blocks"),
        more=rest,
    )


@dataclass(frozen=True)
class StepSettings:
    """A step as a recipe writes it: ``left_out`` are the header's keys that no option of the step stands for."""

    kind: str
    options: dict[str, Any]
    left_out: tuple[str, ...] = ()


def from_step(path: Path, provenance: Provenance, base: str | None) -> Imported | None:
    """The step that a command of ours ran; None for a training, whose ``ss_*`` entries say more."""
    settings = _settings(provenance)
    if settings is None:
        return None
    storage = {key: provenance.step[key] for key in ("rank", "dtype") if key in provenance.step}
    notes = [f"'{key}' of {path.name} is not taken over" for key in settings.left_out]
    notes.append("the header tells files by name: put them beside the recipe, or name their folders at `lora_dirs:`")
    notes += base_notes(base)
    steps = {step_name(path.stem): {settings.kind: {**settings.options, **storage}}}
    return imported_recipe(f"a {settings.kind} by loratools", steps, base, notes)


def has_step(provenance: Provenance) -> bool:
    """Whether :func:`from_step` can write the step that made a file as a recipe."""
    return _settings(provenance) is not None


def _settings(provenance: Provenance) -> StepSettings | None:
    step = provenance.step
    files = {str(item.get("role", "")): str(item.get("name")) for item in provenance.inputs}
    match step:
        case {"merge": [*terms], "into": {"name": name}}:
            left_out = tuple(key for key in step if key not in ("merge", "into", "rank", "dtype"))
            options = {"terms": _terms(terms), "into": str(name), **_of_terms(terms)}
            return StepSettings("merge_into", options, left_out)
        case {"merge": [*terms]}:
            method = {key: step[key] for key in ("method", "compat", *PARAMETERS) if key in step}
            understood = {"rank", "dtype", "merge", *method}
            left_out = tuple(key for key in step if key not in understood)
            return StepSettings("merge", {"terms": _terms(terms), **method, **_of_terms(terms)}, left_out)
        case {"subtract": {"style": [*style], "base": [*base_style]}}:
            options = {key: step["subtract"][key] for key in _SUBTRACT if key in step["subtract"]}
            if isinstance(blocks := step["subtract"].get("blocks"), dict):
                options["blocks"] = _vector(blocks)
            negative = [{**term, "weight": -float(term.get("weight", 1))} for term in base_style]
            options |= _of_terms([*style, *base_style, step["subtract"]])
            return StepSettings("subtract", {"style": _terms(style), "base_style": _terms(negative), **options})
        case {"resize": {"name": name}}:
            return StepSettings("resize", {"lora": str(name)})
        case {"convert": str(name)}:
            return StepSettings("convert", {"lora": name, "to": step.get("to", "kohya")})
        case {"extract": dict()} if {"base", "tuned"} <= set(files):
            options = {
                key: step["extract"][key] for key in ("conv", "norms", "biases", "seed") if key in step["extract"]
            }
            return StepSettings("extract", {"tuned": files["tuned"], "base": files["base"], **options})
    return None


def _of_terms(terms: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The options of a step that stand with its terms in the header: what blocks that a vector does not list get, and
    that norms were matched."""
    missing = next((term["missing"] for term in terms if term.get("missing") is not None), None)
    matched = {"match_norm": True} if any(term.get("scales") for term in terms) else {}
    return matched | ({} if missing is None else {"missing": missing})


def _vector(weights: Mapping[str, Any]) -> str:
    """Weights by block, and by rule, as text."""
    return ",".join(f"{where}={_number(value)}" for where, value in weights.items())


def _number(value: Any) -> str:
    """A weight with all its digits, so that a third stays one: the same bits follow from it."""
    return repr(float(value)).removesuffix(".0")


def _terms(terms: Iterable[Mapping[str, Any]]) -> str:
    """Terms as the header lists them, as a merge string."""
    return ", ".join(_term(term) for term in terms)


def _term(term: Mapping[str, Any]) -> str:
    text = term_name(re.sub(r"\.safetensors\Z", "", str(term.get("name"))))
    text += f":{_number(term.get('weight', 1))}"
    if isinstance(term.get("vector"), dict):
        rules = term.get("rules")
        if term.get("written"):
            return f"{text}:{','.join(_number(value) for value in term['vector'].values())}"
        text += ":" + _vector({**term["vector"], **(rules if isinstance(rules, dict) else {})})
    return text + "".join(f":{key}={_number(term[key])}" for key in ("te", "unet") if key in term)
