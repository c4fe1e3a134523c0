"""``basestyle``: the base draws its own pictures, and a LoRA is trained on them."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import LoratoolsError
from loratools.files import sha256
from loratools.recipe.plan.base_adapters import KEYS, BaseAdapters, read_base_adapters
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.train import (
    check_devices,
    check_settings,
    checked_config,
    located,
    pruned_by,
    refuse_keys,
    sealed,
    settings_without_places,
    staying,
)

if TYPE_CHECKING:
    from loratools.train.basestyle.generate import Generation

REVISION = 2  # 2: prompts are read in the WebUI's syntax and at any length


def default_out(name: str) -> Path:
    """A folder."""
    return Path(name)


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Check the settings: those of the pictures here, those of the training by its own model."""
    from loratools.train.basestyle.generate import PROMPTS

    body = {"seed": planner.recipe.seed, **(step.basestyle or {})}
    own = _own()
    if "images" in body:
        raise planner.error(name, "basestyle", "images", message="'images' does not stand here; the base draws them")
    refuse_keys(body, name, "basestyle", planner, own)
    generation = _generation(body, name, planner)
    training = {key: value for key, value in body.items() if key not in own}
    preset = "pocket-style" if planner.paths.base == "pocket" else "style-004"
    values = {"preset": preset, **training, "base": planner.paths.base, "images": "images", "name": name}
    config = checked_config(values, name, "basestyle", planner)
    under = read_base_adapters(body, name, "basestyle", planner)
    places, beside = located(config, name, "basestyle", planner)
    check_settings(config.model_copy(update=places), name, "basestyle", planner)
    plain = {key: value for key, value in settings_without_places(config).items() if key not in KEYS}
    options = {"drawn": asdict(generation), "prompts": sha256(PROMPTS), **plain, **under.options()}
    settings = {**training, **asdict(generation), **{key: str(path) for key, path in places.items()}}
    return Draft(
        options,
        (planner.paths.base_input(), *under.inputs, *beside),
        lambda out, context: _make(out, context, name, settings, under, planner),
        epochs=config.epochs,
        family=planner.paths.base_family,
        numbers=staying(config),
        pruned_by=pruned_by(config),
        check=check_devices,
        units=3.0 * int(generation.images_per_framing) * config.repeats * config.epochs,
        assist=lambda out, context: _assist(out, context, name, settings, under, planner),
    )


def _own() -> tuple[str, ...]:
    from loratools.train.basestyle.generate import Generation

    return tuple(field.name for field in fields(Generation))


def _generation(body: dict[str, Any], name: str, planner: Planner) -> Generation:
    """How the pictures are drawn; what is null is not given."""
    from loratools.preview.request.numbers import parse_size
    from loratools.recipe.steps.pictures.picture_size import check_size
    from loratools.train.basestyle.generate import read_generation

    drawn = {key: body[key] for key in _own() if body.get(key) is not None}
    if isinstance(size := drawn.get("size"), str | int) and not isinstance(size, bool):
        try:
            drawn["size"] = parse_size(str(size))
        except LoratoolsError as error:
            raise planner.error(name, "basestyle", "size", message=str(error)) from error
    generation, mistake = read_generation(drawn)
    if mistake is not None:
        raise planner.error(name, "basestyle", mistake[0], message=mistake[1])
    if generation.size is not None:
        check_size(generation.size, planner, name, "basestyle", "size")
    return generation


def _make(
    out: Path, context: RunContext, name: str, settings: dict[str, Any], under: BaseAdapters, planner: Planner
) -> Outcome:
    from loratools.train.basestyle.basestyle import basestyle

    whole = {**settings, **under.settings(planner.paths.base_family)}
    result = basestyle(
        planner.paths.base,
        out,
        name=name,
        settings=whole,
        device=context.device,
        force=context.force,
        progress=context.progress,
        share=lambda resumes: context.share(resumes=resumes, needed=True),
    )
    return sealed(result, name, planner)


def _assist(
    out: Path, context: RunContext, name: str, settings: dict[str, Any], under: BaseAdapters, planner: Planner
) -> int:
    from loratools.train.basestyle.basestyle import assist

    whole = {**settings, **under.settings(planner.paths.base_family)}
    assist(planner.paths.base, out, name=name, settings=whole, device=context.device, resumes=context.resume)
    return 0
