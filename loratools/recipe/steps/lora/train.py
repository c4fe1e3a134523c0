"""``train``: a folder of captioned images, or an earlier ``draw`` step, to one LoRA file an epoch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import LoratoolsError, RecipeError, did_you_mean
from loratools.launch import Rank
from loratools.recipe.plan.base_adapters import KEYS, BaseAdapters, read_base_adapters
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lineage import seal
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.recipe import Step

if TYPE_CHECKING:
    from loratools.train.config.config import TrainConfig
    from loratools.train.trainer import RunResult

REVISION = 1
# settled by the recipe or by flags, or not to be said in one
OURS = ("base", "out", "name", "device", "resume", "force", "datasets", "max_steps")
_BESIDE_IMAGES = ("metadata_file", "mask_folder")
_FILES = ("save_every_epochs", "save_every_steps", "save_last_n")  # change no byte of a file, but which files there are


def default_out(name: str) -> Path:
    """A folder."""
    return Path(name)


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Check the settings by training's own model, and find the images."""
    body = dict(step.train or {})
    refuse_keys(body, name, "train", planner)
    if not body.get("images"):
        raise planner.error(name, "train", message="'images' is missing; name a folder, or a `draw` step")
    entries, sources = _images(body["images"], name, planner)
    values = {
        "base": planner.paths.base,
        "images": entries,
        "out": str(planner.work / (step.out or default_out(name))),
        "name": name,
        "seed": body.get("seed", planner.recipe.seed),
    }
    config = checked_config(values, name, "train", planner, under=body)
    under = read_base_adapters(body, name, "train", planner)
    places, beside = located(config, name, "train", planner)
    check_settings(config.model_copy(update=places), name, "train", planner)
    settings = {key: value for key, value in settings_without_places(config).items() if key not in KEYS}
    return Draft(
        {**settings, "images": _subsets(config), **under.options()},
        (planner.paths.base_input(), *sources, *under.inputs, *beside),
        lambda out, context: _make(out, context, config.model_copy(update=places), under, name, planner),
        check=check_devices,
        epochs=config.epochs,
        family=planner.paths.base_family,
        units=_samples(config, sources, planner),
        numbers=staying(config),
        pruned_by=pruned_by(config),
        assist=lambda out, context: _assist(out, context, config.model_copy(update=places), under, planner),
    )


def staying(config: TrainConfig) -> tuple[int, ...]:
    """The epochs whose files are there once a run has ended."""
    from loratools.train.output import run_folder

    return run_folder.staying(range(1, config.epochs + 1), config.save_every_epochs, config.save_last_n)


def pruned_by(config: TrainConfig) -> dict[str, int]:
    """The settings by which a run removes epochs' files."""
    given = {"save_every_epochs": config.save_every_epochs, "save_last_n": config.save_last_n}
    return {name: value for name, value in given.items() if value is not None}


def checked_config(
    values: Mapping[str, Any], name: str, kind: str, planner: Planner, under: Mapping[str, Any] | None = None
) -> TrainConfig:
    """Training's own check of a step's settings; its error gets the line as it stands in the recipe.

    Raises:
        RecipeError: for an unknown setting or preset, or a value out of range.
    """
    from loratools.train.config.read import make_config

    try:
        return make_config(values, planner.document.source, under=under)
    except RecipeError as error:
        raise planner.error(name, kind, *(error.place or ()), message=error.reason) from error


def check_settings(config: TrainConfig, name: str, kind: str, planner: Planner) -> None:
    """Raise RecipeError for what would end the run although each setting is of the right kind."""
    from loratools.train.dry_run.check import mistakes

    for place, mistake in mistakes(config, planner.paths.base_family):
        raise planner.error(name, kind, *place, message=str(mistake)) from mistake


def _samples(config: TrainConfig, sources: Sequence[StepInput], planner: Planner) -> float:
    """Images shown in all, for an estimate."""
    from loratools.train.data.read import samples_per_epoch

    pairs = zip(config.images, sources, strict=True)
    drawn = {subset.folder: planner.step(source.step).draft.units for subset, source in pairs if source.step}
    return float(
        samples_per_epoch(config, {folder: int(units or 0) for folder, units in drawn.items()}) * config.epochs
    )


def refuse_keys(body: Mapping[str, Any], name: str, kind: str, planner: Planner, own: Collection[str] = ()) -> None:
    """Raise RecipeError for a key that is no setting of training's, none of the step's ``own``, or that a recipe
    settles elsewhere."""
    from loratools.train.config.config import TrainConfig

    valid = [key for key in (*TrainConfig.model_fields, *own) if key not in OURS]
    for key in body:
        if key in OURS:
            raise planner.error(name, kind, key, message=f"'{key}' does not stand here; {_elsewhere(key)}")
        if key not in valid:
            told = f"there is no such key{did_you_mean(key, valid)}; `loratools recipe steps {kind}` lists them"
            raise planner.error(name, kind, key, message=told)


def _elsewhere(key: str) -> str:
    """Where a recipe says what training's setting ``key`` would."""
    return {
        "base": "write `base:` at the top of the recipe",
        "out": "write `out:` beside the step's kind",
        "name": "the step's own name is the run's",
        "datasets": "write folders under `images`, or train by a config of its own",
        "max_steps": "write `epochs`, which other steps can name",
        "resume": "an interrupted run goes on by itself",
    }.get(key, f"use --{key}")


def settings_without_places(config: TrainConfig) -> dict[str, Any]:
    """The settings that determine a run's result, and which files it leaves; what lies elsewhere, such as the base and
    the images, counts by digest instead."""
    kept = {key: getattr(config, key) for key in _FILES if getattr(config, key) is not None}
    own = {"vae": "of its own"} if config.vae is not None else {}
    settings = {key: value for key, value in config.settings().items() if key not in ("base", "images", "vae")}
    return {**settings, **own, **kept}


def located(
    config: TrainConfig, name: str, kind: str, planner: Planner
) -> tuple[dict[str, Any], tuple[StepInput, ...]]:
    """The settings that name files, as they are found beside the recipe or in the current folder, and those of them
    whose content determines the result.

    Raises:
        RecipeError: if one is not there.
    """
    found: dict[str, Any] = {}
    sources: list[StepInput] = []
    if isinstance(config.sample_prompts, Path):
        found["sample_prompts"] = path = planner.paths.find(str(config.sample_prompts))
        if path is None:
            told = (
                f"there is no '{config.sample_prompts}' beside the recipe or in the current folder; give a file's place"
            )
            raise planner.error(name, kind, "sample_prompts", message=told)
    if config.vae is not None:
        text = config.vae.as_posix()
        try:
            source = planner.paths.vae_input(text, offline=config.offline)
        except LoratoolsError as error:
            raise planner.error(name, kind, "vae", message=str(error)) from error
        if (here := planner.paths.find(text)) is not None:  # headers tell a hub's by its id
            found["vae"], source = here, replace(source, label=here.name)
        sources.append(source)
    beside = [getattr(subset, key) for subset in config.images for key in _BESIDE_IMAGES]
    sources += [StepInput(path.name, path, digest_of(path)) for path in beside if path is not None and path.exists()]
    return found, tuple(sources)


def summary_of(result: RunResult) -> Outcome:
    """A finished run in a line."""
    losses = [round(loss, 6) for loss in result.losses]
    text = f"{len(result.epochs)} epochs, {result.steps} steps, mean loss {losses[0]:.4f} -> {losses[-1]:.4f}"
    return Outcome(text, {"epochs": len(result.epochs), "steps": result.steps, "losses": losses})


def _images(value: Any, name: str, planner: Planner) -> tuple[list[dict[str, Any]], list[StepInput]]:
    entries, sources = [], []
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        place = ("train", "images", index) if isinstance(value, list) else ("train", "images")
        entry = dict(item) if isinstance(item, dict) else {"folder": item}
        if not entry.get("folder"):
            raise planner.error(name, *place, message="'folder' is missing; name a folder, or a `draw` step")
        source = planner.input(str(entry["folder"]), name, *place)
        if source.step is not None and planner.step(source.step).kind != "draw":
            kind = planner.step(source.step).kind
            told = (
                f"the step '{source.step}' is a {kind}, which makes no pictures to train on; name a `draw` step "
                "or a folder"
            )
            raise planner.error(name, *place, message=told)
        if source.step is None:
            _check_pictures(source, name, planner, *place)
        paths = {key: planner.paths.find(str(entry[key])) or entry[key] for key in _BESIDE_IMAGES if entry.get(key)}
        entries.append({**entry, **paths, "folder": str(source.path)})
        sources.append(source)
    return entries, sources


def _check_pictures(source: StepInput, name: str, planner: Planner, *place: str | int) -> None:
    """Raise RecipeError if there is no folder, or not one picture in it."""
    from loratools.dataset.folder import folders_read

    if not source.path.is_dir():
        message = f"'{source.label}' is a file, and a folder of pictures is needed; name the folder that it lies in"
        raise planner.error(name, *place, message=message)
    if not folders_read(source.path):
        folders = sorted(path for path in source.path.iterdir() if path.is_dir())
        hint = f"name a folder inside it, such as {source.label}/{folders[0].name}" if folders else "put some there"
        raise planner.error(name, *place, message=f"'{source.label}' holds no pictures; {hint}")


def _subsets(config: TrainConfig) -> list[dict[str, Any]]:
    """Each folder's settings; of its path only a name such as ``10_name`` counts, which tells the repeats, and of the
    other paths that they are given: what lies there counts by digest."""
    from loratools.dataset.folder import folder_repeats

    named = [folder_repeats(subset.folder) for subset in config.images]
    names = [f"{name.repeats}_{name.word}" if name else "" for name in named]
    subsets = []
    for subset, name in zip(config.images, names, strict=True):
        given = {key: "given" for key in _BESIDE_IMAGES if getattr(subset, key) is not None}
        subsets.append({**subset.model_dump(mode="json"), **given, "folder": name})
    return subsets


def sealed(result: RunResult, name: str, planner: Planner) -> Outcome:
    """A finished run in a line, once every epoch's header holds the recipe."""
    lineage = planner.step(name).lineage
    if lineage is not None:
        for path in result.epochs:
            seal(path, lineage)
    return summary_of(result)


def check_devices(context: RunContext) -> None:
    """Raise TrainingError, before any step runs, where one of several processes has no device to train on."""
    if Rank.here().world > 1:
        from loratools.train.distributed import check_device

        check_device(context.device)


def _make(
    out: Path, context: RunContext, config: TrainConfig, under: BaseAdapters, name: str, planner: Planner
) -> Outcome:
    with context.share(resumes=context.resume, needed=True):
        result = _train(out, context, config, under, planner)
    return sealed(result, name, planner)


def _assist(out: Path, context: RunContext, config: TrainConfig, under: BaseAdapters, planner: Planner) -> int:
    _train(out, context, config, under, planner)
    return 0


def _train(out: Path, context: RunContext, config: TrainConfig, under: BaseAdapters, planner: Planner) -> RunResult:
    from loratools.train.trainer import train

    changed = {"out": out, "device": context.device, "force": context.force, "resume": context.resume}
    changed |= under.settings(planner.paths.base_family)
    return train(config.model_copy(update=changed), progress=context.progress)
