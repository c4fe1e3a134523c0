"""``train``: a folder of captioned images, or an earlier ``draw`` step, to one LoRA file an epoch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import RecipeError
from loratools.recipe.plan import Draft, Outcome, Planner, Source
from loratools.recipe.schema import Step
from loratools.recipe.session import Session

if TYPE_CHECKING:
    from loratools.train.config import TrainConfig
    from loratools.train.loop import RunResult

REVISION = 1
_OURS = ("base", "out", "name", "device", "resume", "force")  # settled by the recipe or by flags
_COUNTED = re.compile(r"\d+_")


def default_out(name: str) -> Path:
    """A folder."""
    return Path(name)


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Check the settings by training's own model, and find the images."""
    from loratools.train.read_config import make_config

    body = dict(step.train or {})
    refuse_ours(body, name, "train", planner)
    if not body.get("images"):
        raise RecipeError(f"{planner.where(name, 'train')}: 'images' is missing; name a folder, or a `draw` step")
    entries, sources = _images(body["images"], name, planner)
    values = {
        "base": planner.base,
        "images": entries,
        "out": str(planner.work / (step.out or default_out(name))),
        "name": name,
        "seed": body.get("seed", planner.recipe.seed),
    }
    config = make_config(values, planner.document.source, under=body, document=planner.train_document(name, "train"))
    options = {**settings_without_places(config), "images": _subsets(config)}
    return Draft(options, (planner.base_source(), *sources), lambda out, session: _make(out, session, config),
                 epochs=config.epochs)  # fmt: skip


def refuse_ours(body: Mapping[str, Any], name: str, kind: str, planner: Planner) -> None:
    """Raise RecipeError for a setting that a recipe settles elsewhere."""
    for key in _OURS:
        if key in body:
            where = planner.where(name, kind, key)
            hint = {
                "base": "write `base:` at the top of the recipe",
                "out": "write `out:` beside the step's kind",
                "name": "the step's own name is the run's",
            }.get(key, f"use --{key}" if key != "resume" else "an interrupted run goes on by itself")
            raise RecipeError(f"{where}: '{key}' does not stand here; {hint}")


def settings_without_places(config: TrainConfig) -> dict[str, Any]:
    """The settings that determine a run's result; the base and the images count by digest instead."""
    return {key: value for key, value in config.settings().items() if key not in ("base", "images")}


def summary_of(result: RunResult) -> Outcome:
    """A finished run in a line."""
    losses = [round(loss, 6) for loss in result.losses]
    text = f"{len(result.epochs)} epochs, {result.steps} steps, mean loss {losses[0]:.4f} -> {losses[-1]:.4f}"
    return Outcome(text, {"epochs": len(result.epochs), "steps": result.steps, "losses": losses})


def _images(value: Any, name: str, planner: Planner) -> tuple[list[dict[str, Any]], list[Source]]:
    entries, sources = [], []
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        place = ("train", "images", index) if isinstance(value, list) else ("train", "images")
        entry = dict(item) if isinstance(item, dict) else {"folder": item}
        source = planner.source(str(entry.get("folder", "")), name, *place)
        if source.step is not None and planner.step(source.step).kind != "draw":
            kind = planner.step(source.step).kind
            raise RecipeError(f"{planner.where(name, *place)}: the step '{source.step}' is a {kind}, which makes no "
                              "pictures to train on; name a `draw` step or a folder")  # fmt: skip
        entries.append({**entry, "folder": str(source.path)})
        sources.append(source)
    return entries, sources


def _subsets(config: TrainConfig) -> list[dict[str, Any]]:
    """Each folder's settings; of its path only a name such as ``10_name`` counts, which tells the repeats."""
    found = []
    for subset in config.images:
        folder = subset.folder.name if _COUNTED.match(subset.folder.name) else ""
        found.append({**subset.model_dump(mode="json"), "folder": folder})
    return found


def _make(out: Path, session: Session, config: TrainConfig) -> Outcome:
    from loratools.train.loop import train

    changed = {"out": out, "device": session.device, "force": session.force, "resume": session.resume}
    return summary_of(train(config.model_copy(update=changed), progress=session.progress))
