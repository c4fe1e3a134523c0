"""Files of our own as recipes: the whole recipe where the header holds one, else the one step that made the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import Provenance
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
            return StepSettings("merge_into", {"terms": _terms(terms), "into": str(name)})
        case {"merge": [*terms]}:
            method = {key: step[key] for key in ("method", "density", "compat") if key in step}
            understood = {"rank", "dtype", "merge", *method}
            left_out = tuple(key for key in step if key not in understood)
            return StepSettings("merge", {"terms": _terms(terms), **method}, left_out)
        case {"subtract": {"style": [*style], "base": [*base_style]}}:
            options = {key: step["subtract"][key] for key in _SUBTRACT if key in step["subtract"]}
            negative = [{**term, "weight": -float(term.get("weight", 1))} for term in base_style]
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


def _terms(terms: Iterable[Mapping[str, Any]]) -> str:
    """Terms as the header lists them, as a merge string."""
    return ", ".join(_term(term) for term in terms)


def _term(term: Mapping[str, Any]) -> str:
    text = term_name(re.sub(r"\.safetensors\Z", "", str(term.get("name"))))
    text += f":{float(term.get('weight', 1)):.10g}"
    if isinstance(term.get("vector"), dict):
        text += ":" + ",".join(f"{block}={float(value):.10g}" for block, value in term["vector"].items())
    return text + "".join(f":{key}={float(term[key]):.10g}" for key in ("te", "unet") if key in term)
