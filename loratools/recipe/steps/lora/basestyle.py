"""``basestyle``: the base draws its own pictures, and a LoRA is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import LoratoolsError
from loratools.files import sha256
from loratools.recipe.plan.base_adapters import BaseAdapters
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.kinds import BorrowedOptions, StepKind, UnitCost
from loratools.recipe.steps.lora.train_settings import (
    outcome_of_run,
    read_settings,
    refuse_keys,
    train_schema,
)

if TYPE_CHECKING:
    from loratools.train.drawing.generate import Generation


def generation_options() -> tuple[str, ...]:
    """The options that say how the pictures are drawn."""
    from loratools.train.drawing.generate import Generation

    return tuple(field.name for field in fields(Generation))


def basestyle_schema() -> dict[str, Any]:
    """The JSON Schema of the options: training's without ``images``, and how the pictures are drawn."""
    from pydantic import TypeAdapter

    from loratools.train.drawing.generate import Generation

    training = train_schema()
    training.pop("$defs")
    drawn = TypeAdapter(Generation).json_schema()["properties"]
    options = {key: value for key, value in training["properties"].items() if key != "images"} | drawn
    schema = {key: value for key, value in training.items() if key != "required"}
    return schema | {
        "properties": {key: _or_null(value) for key, value in options.items()},  # null: not given
        "description": "The LoRA of what the base draws by itself.",
    }


def _or_null(value: dict[str, Any]) -> dict[str, Any]:
    about = {key: value[key] for key in ("description", "default") if key in value}
    rest = {key: item for key, item in value.items() if key not in about}
    return about | {"anyOf": [*(rest.get("anyOf") or [rest]), {"type": "null"}]}


OPTIONS = BorrowedOptions(
    "Basestyle",
    basestyle_schema,
    "The LoRA of what the base draws by itself. Its options are those of `train` (names of steps too), without "
    "`images`, and how the pictures are drawn:",
    generation_options,
)
KIND = StepKind(
    "basestyle",
    OPTIONS,
    "run",
    revision=2,  # 2: prompts are read in the WebUI's syntax and at any length
    loads_model=True,
    shared="required",
    guess=UnitCost(seconds=0.12),
)


def draft(request: StepRequest) -> Draft:
    """Check the settings: those of the pictures here, those of the training by its own model."""
    from loratools.train.drawing.generate import PROMPTS

    given, own = {"seed": request.planner.recipe.seed, **request.step.settings}, generation_options()
    if "images" in given:
        raise request.error("images", message="'images' does not stand here; the base draws them")
    refuse_keys(given, request, own)
    generation = _generation(given, request)
    training = {key: value for key, value in given.items() if key not in own}
    base = request.paths.base
    preset = "pocket-style" if base == "pocket" else "style-004"
    values = {"preset": preset, **training, "base": base, "images": "images", "name": request.name}
    settings = read_settings(request, values)
    files = {key: str(path) for key, path in settings.paths.items()}
    step = BasestyleStep(request, {**training, **asdict(generation), **files}, settings.base_adapters)
    return Draft(
        {"drawn": asdict(generation), "prompts": sha256(PROMPTS), **settings.options()},
        (request.paths.base_input(), *settings.base_adapters.inputs, *settings.files),
        step.make,
        check=settings.check,
        warnings=settings.lacking,
        epochs=settings.config.epochs,
        family=request.paths.base_family,
        kept_epochs=settings.kept_epochs(),
        pruned_by=settings.pruned_by(),
        units=3.0 * int(generation.images_per_framing) * settings.config.repeats * settings.config.epochs,
        most_processes=settings.config.batch_size,
    )


def _generation(given: Mapping[str, Any], request: StepRequest) -> Generation:
    """How the pictures are drawn; what is null is not given."""
    from loratools.preview.request.numbers import parse_size
    from loratools.recipe.steps.pictures.picture_size import check_size
    from loratools.train.drawing.generate import read_generation

    drawn = {key: given[key] for key in generation_options() if given.get(key) is not None}
    if isinstance(size := drawn.get("size"), str | int) and not isinstance(size, bool):
        try:
            drawn["size"] = parse_size(str(size))
        except LoratoolsError as error:
            raise request.error("size", message=str(error)) from error
    generation, mistake = read_generation(drawn)
    if mistake is not None:
        raise request.error(mistake[0], message=mistake[1])
    if generation.size is not None:
        check_size(generation.size, request, "size")
    return generation


@dataclass(frozen=True)
class BasestyleStep:
    """A base style whose ``settings`` are checked: those of the pictures and of the training, in one mapping."""

    request: StepRequest
    settings: Mapping[str, Any]
    base_adapters: BaseAdapters

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Draw and train into the folder ``out``."""
        from loratools.train.basestyle.basestyle import basestyle

        context.kept.close()
        result = basestyle(
            self.request.paths.base,
            out,
            name=self.request.name,
            settings=self._settings(),
            device=context.device,
            force=context.force,
            progress=context.progress,
            recipe=context.recipe(),
        )
        return outcome_of_run(result)

    def _settings(self) -> dict[str, Any]:
        return {**self.settings, **self.base_adapters.settings()}
