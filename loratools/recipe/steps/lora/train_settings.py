"""Training's settings as a recipe holds them: what is left out, checked by training's own model, paths.

Shared by ``train`` and ``basestyle``, whose options are these settings.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import LoratoolsError, RecipeError, UnavailableError, did_you_mean
from loratools.launch import Rank
from loratools.recipe.plan.base_adapters import KEYS, BaseAdapters, read_base_adapters
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Outcome, StepInput

if TYPE_CHECKING:
    from loratools.train.config.config import TrainConfig
    from loratools.train.trainer import RunResult

# training's settings that stand elsewhere in a recipe, or in none -> what to do instead
ELSEWHERE: Mapping[str, str] = {
    "base": "write `base:` at the top of the recipe",
    "out": "write `out:` beside the step's kind",
    "name": "the step's own name is the run's",
    "device": "use --device",
    "resume": "an interrupted run goes on by itself",
    "force": "use --force",
    "datasets": "write folders under `images`, or train by a config of its own",
    "max_steps": "write `epochs`, which other steps can name",
}
_KEPT_FILES = ("save_every_epochs", "save_every_steps", "save_last_n")  # which files a run leaves; not what is in one


@dataclass(frozen=True)
class RunSettings:
    """A run's settings, checked, and what it reads beside its base and pictures.

    Attributes:
        config: as the recipe has it.
        paths: of the files that its settings ``vae`` and ``sample_prompts`` name.
        base_adapters: what it builds on.
        files: those of all the files that it names whose content determines the result.
        lacking: a sentence for each package that it needs and that this machine lacks.
    """

    config: TrainConfig
    paths: Mapping[str, Any]
    base_adapters: BaseAdapters
    files: tuple[StepInput, ...]
    lacking: tuple[str, ...] = ()

    def check(self, context: RunContext) -> None:
        """Raise, before any step runs, TrainingError where one of several processes has no device to train on, and
        UnavailableError for what this machine lacks."""
        if self.lacking:
            raise UnavailableError(self.lacking[0])
        check_devices(context)

    def options(self) -> dict[str, Any]:
        """The settings that determine the result, and which files it leaves; what lies elsewhere, such as the base and
        the pictures, counts by digest instead."""
        config = self.config
        kept = {key: getattr(config, key) for key in _KEPT_FILES if getattr(config, key) is not None}
        vae = {"vae": "of its own"} if config.vae is not None else {}
        settings = {
            key: value for key, value in config.settings().items() if key not in ("base", "images", "vae", *KEYS)
        }
        return {**settings, **vae, **kept, **self.base_adapters.options()}

    def with_files(self) -> TrainConfig:
        """The config with the paths of the files that it names."""
        return self.config.model_copy(update=dict(self.paths))

    def kept_epochs(self) -> tuple[int, ...]:
        """The epochs whose files are there once the run has ended."""
        from loratools.train.output.run_folder import staying

        return staying(range(1, self.config.epochs + 1), self.config.save_every_epochs, self.config.save_last_n)

    def pruned_by(self) -> dict[str, int]:
        """The settings by which the run removes epochs' files."""
        given = {"save_every_epochs": self.config.save_every_epochs, "save_last_n": self.config.save_last_n}
        return {name: value for name, value in given.items() if value is not None}


def read_settings(
    request: StepRequest, values: Mapping[str, Any], under: Mapping[str, Any] | None = None
) -> RunSettings:
    """Training's own check of a step's settings, and where what they name lies.

    Args:
        values: the settings, over those of ``under``.
    Raises:
        RecipeError: at the setting: an unknown one or preset, a value that is out of range or would end the run, or a
            file that is not there.
    """
    from loratools.train.config.read import make_config
    from loratools.train.dry_run.check import mistakes

    try:
        config = make_config(values, request.planner.document.source, under=under)
    except RecipeError as error:
        raise request.error(*(error.place or ()), message=error.reason) from error
    base_adapters = read_base_adapters({**(under or {}), **values}, request)
    paths, files = _files_of(config, request)
    settings = RunSettings(config, paths, base_adapters, files)
    lacking = []
    for place, mistake in mistakes(settings.with_files(), request.paths.base_family):
        refused = request.error(*place, message=str(mistake))
        if not isinstance(mistake, UnavailableError):
            raise refused from mistake
        lacking.append(str(refused))
    return replace(settings, lacking=tuple(lacking))


def refuse_keys(settings: Mapping[str, Any], request: StepRequest, own: Collection[str] = ()) -> None:
    """Raise RecipeError for a key that is no setting of training's and none of the kind's ``own``, or that stands
    elsewhere in a recipe."""
    from loratools.train.config.config import TrainConfig

    valid = [key for key in (*TrainConfig.model_fields, *own) if key not in ELSEWHERE]
    for key in settings:
        if key in ELSEWHERE:
            raise request.error(key, message=f"'{key}' does not stand here; {ELSEWHERE[key]}")
        if key not in valid:
            hint = did_you_mean(key, valid)
            message = f"there is no such key{hint}; `loratools recipe steps {request.kind}` lists them"
            raise request.error(key, message=message)


def _files_of(config: TrainConfig, request: StepRequest) -> tuple[dict[str, Any], tuple[StepInput, ...]]:
    """The settings that name files, as paths: beside the recipe or in the current folder; and those of the files whose
    content determines the result.

    Raises:
        RecipeError: if one is not there.
    """
    from loratools.train.config.data import FILES_OF_FOLDER

    paths: dict[str, Any] = {}
    inputs: list[StepInput] = []
    if isinstance(config.sample_prompts, Path):
        paths["sample_prompts"] = path = request.paths.find(str(config.sample_prompts))
        if path is None:
            message = (
                f"there is no '{config.sample_prompts}' beside the recipe or in the current folder; give a file's place"
            )
            raise request.error("sample_prompts", message=message)
    if config.vae is not None:
        text = config.vae.as_posix()
        try:
            vae = request.paths.vae_input(text, offline=config.offline)
        except LoratoolsError as error:
            raise request.error("vae", message=str(error)) from error
        if (here := request.paths.find(text)) is not None:  # one of the hub keeps its id in headers
            paths["vae"], vae = here, replace(vae, label=here.name)
        inputs.append(vae)
    beside = [getattr(subset, key) for subset in config.images for key in FILES_OF_FOLDER]
    inputs += [StepInput(path.name, path, digest_of(path)) for path in beside if path is not None and path.exists()]
    return paths, tuple(inputs)


def outcome_of_run(result: RunResult) -> Outcome:
    """A finished run in a line."""
    losses = [round(loss, 6) for loss in result.losses]
    text = f"{len(result.epochs)} epochs, {result.steps} steps, mean loss {losses[0]:.4f} -> {losses[-1]:.4f}"
    return Outcome(text, {"epochs": len(result.epochs), "steps": result.steps, "losses": losses})


def check_devices(context: RunContext) -> None:
    """Raise TrainingError, before any step runs, where one of several processes has no device to train on."""
    if Rank.here().world > 1:
        from loratools.train.distributed import check_device

        check_device(context.device)


def train_schema() -> dict[str, Any]:
    """The JSON Schema of the settings that a ``train`` step takes, group by group, ``images`` first."""
    from loratools.train.config.config import TrainConfig
    from loratools.train.config.read import presets

    schema = TrainConfig.model_json_schema()
    # pydantic puts the settings of parents first, and the last parent's before the others'
    names = ["images", *(name for model in (TrainConfig, *TrainConfig.__bases__) for name in model.__annotations__)]
    options = {
        name: schema["properties"][name] for name in names if name in schema["properties"] and name not in ELSEWHERE
    }
    seed = {key: item for key, item in options["seed"].items() if key != "default"}
    options["seed"] = seed | {"description": "the recipe's seed if left out"}
    about = {key: options["preset"][key] for key in ("description", "default") if key in options["preset"]}
    options["preset"] = {"enum": sorted(presets()), **about}
    folder: dict[str, Any] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Subset"}]}
    options["images"] = {
        "description": "a folder, a `draw` step, or a list of them, each with settings of its own if need be",
        "anyOf": [{"type": "string"}, {"type": "array", "items": folder, "minItems": 1}],
    }
    subset = _subset_schema(schema["$defs"]["Subset"], options)
    parts = {**schema["$defs"], "Subset": subset}
    return schema | {"properties": options, "required": ["images"], "$defs": parts}


def _subset_schema(schema: dict[str, Any], run: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """A folder's settings; those that are the run's own where they are left out are described as that."""
    options = {
        name: value | {"description": f"of this folder: {run[name]['description']}"}
        if "description" not in value
        else value
        for name, value in schema["properties"].items()
    }
    return schema | {"properties": options, "description": "A folder of pictures, its settings over the run's own."}
