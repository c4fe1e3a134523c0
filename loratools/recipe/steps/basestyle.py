"""``basestyle``: the base draws its own pictures, and a LoRA is trained on them."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from loratools.files import sha256
from loratools.recipe.plan import Draft, Outcome, Planner
from loratools.recipe.schema import Step
from loratools.recipe.session import Session
from loratools.recipe.steps.train import (
    checked_config,
    located,
    pruned_by,
    refuse_ours,
    sealed,
    settings_without_places,
    staying,
)

REVISION = 1


def default_out(name: str) -> Path:
    """A folder."""
    return Path(name)


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Check the settings: those of the pictures here, those of the training by its own model."""
    from loratools.recipe.steps.grid import check_size
    from loratools.train.basestyle import PROMPTS, Generation, read_generation

    body = dict(step.basestyle or {})
    refuse_ours({key: body[key] for key in body if key != "images"}, name, "basestyle", planner)
    body.setdefault("seed", planner.recipe.seed)
    drawn = {field.name: body[field.name] for field in fields(Generation)
             if body.get(field.name) is not None}  # fmt: skip
    if (mistake := read_generation(drawn)[1]) is not None:
        raise planner.fail(name, "basestyle", mistake[0], message=mistake[1])
    if drawn.get("size"):
        check_size(drawn["size"], planner, name, "basestyle", "size")
    training = {key: value for key, value in body.items() if key not in {field.name for field in fields(Generation)}}
    preset = "pocket-style" if planner.base == "pocket" else "style-004"
    values = {"preset": preset, **training, "base": planner.base, "images": "images", "name": name}
    config = checked_config(values, name, "basestyle", planner)
    generation = Generation(**drawn)
    places, beside = located(config, name, "basestyle", planner)
    options = {"drawn": asdict(generation), "prompts": sha256(PROMPTS), **settings_without_places(config)}
    settings = {**body, **{key: str(path) for key, path in places.items()}}
    return Draft(options, (planner.base_source(), *beside),
                 lambda out, session: _make(out, session, name, settings, planner),
                 epochs=config.epochs, family=planner.base_family, numbers=staying(config), pruned_by=pruned_by(config),
                 units=3.0 * int(generation.images_per_framing) * config.repeats * config.epochs)  # fmt: skip


def _make(out: Path, session: Session, name: str, body: dict[str, Any], planner: Planner) -> Outcome:
    from loratools.train.basestyle import basestyle

    result = basestyle(planner.base, out, name=name, settings=body, device=session.device, force=session.force,
                       progress=session.progress)  # fmt: skip
    return sealed(result, name, planner)
