"""Files of our own as recipes: the whole recipe where the header holds one, else the one step that made the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import Provenance
from loratools.ops.merging.merge_string import quoted
from loratools.recipe.importers.detect import Imported, finished
from loratools.recipe.importers.write import step_name
from loratools.recipe.plan.lineage import Lineage

_HOW = ("mode", "energy", "side", "mu", "most")


def of_lineage(path: Path, lineage: Lineage, base: str | None) -> Imported:
    """The recipe in the header, as it was: ``base`` is another one than it names."""
    rest = {key: value for key, value in lineage.data.items() if key not in ("version", "base", "blocks", "steps")}
    note = f"{path.name} is what its step '{lineage.step}' made; its paths begin where '{lineage.name}' lay"
    return finished(
        f"the recipe in the header of {path.name}",
        lineage.data["steps"],
        base or lineage.data.get("base"),
        [note],
        lineage.data.get("blocks"),
        more=rest,
    )


def of_step(path: Path, made: Provenance, base: str | None) -> Imported | None:
    """The step that a command of ours ran; None for a training, whose ``ss_*`` entries say more."""
    told = _body(made)
    if told is None:
        return None
    (kind, options), rest = told
    stored = {key: made.step[key] for key in ("rank", "dtype") if key in made.step}
    notes = [f"'{key}' of {path.name} is not taken over" for key in rest]
    notes.append("the header tells files by name: put them beside the recipe, or name their folders at `lora_dirs:`")
    what = f"a {kind} by loratools"
    return finished(what, {step_name(path.stem): {kind: {**options, **stored}}}, base, notes)


def can_tell(made: Provenance) -> bool:
    """Whether :func:`of_step` knows how to say what made a file."""
    return _body(made) is not None


def _body(made: Provenance) -> tuple[tuple[str, dict[str, Any]], list[str]] | None:
    """(kind, options), and the keys of the step that no option says."""
    step = made.step
    files = {str(item.get("role", "")): str(item.get("name")) for item in made.inputs}
    rest = [key for key in step if key not in ("rank", "dtype")]
    match step:
        case {"merge": [*terms], "into": {"name": name}}:
            return ("merge_into", {"terms": _terms(terms), "into": str(name)}), []
        case {"merge": [*terms]}:
            method = {key: step[key] for key in ("method", "density", "compat") if key in step}
            return ("merge", {"terms": _terms(terms), **method}), [key for key in rest if key not in ("merge", *method)]
        case {"subtract": {"style": [*style], "base": [*taken]}}:
            how = {key: step["subtract"][key] for key in _HOW if key in step["subtract"]}
            removed = [{**term, "weight": -float(term.get("weight", 1))} for term in taken]
            return ("subtract", {"style": _terms(style), "base_style": _terms(removed), **how}), []
        case {"resize": {"name": name}}:
            return ("resize", {"lora": str(name)}), []
        case {"convert": str(name)}:
            return ("convert", {"lora": name, "to": step.get("to", "kohya")}), []
        case {"extract": dict()} if {"base", "tuned"} <= set(files):
            how = {key: step["extract"][key] for key in ("conv", "seed") if key in step["extract"]}
            return ("extract", {"tuned": files["tuned"], "base": files["base"], **how}), []
    return None


def _terms(terms: Iterable[Mapping[str, Any]]) -> str:
    """Terms as the header tells them, as a merge string."""
    return ", ".join(_term(told) for told in terms)


def _term(told: Mapping[str, Any]) -> str:
    name = re.sub(r"\.safetensors\Z", "", str(told.get("name")))
    text = name if re.fullmatch(r"[\w./-]+", name) else quoted(name)
    text += f":{float(told.get('weight', 1)):.10g}"
    if isinstance(told.get("vector"), dict):
        text += ":" + ",".join(f"{block}={float(value):.10g}" for block, value in told["vector"].items())
    return text + "".join(f":{key}={float(told[key]):.10g}" for key in ("te", "unet") if key in told)
