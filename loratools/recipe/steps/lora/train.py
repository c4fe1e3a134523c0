"""``train``: a folder of captioned images, or an earlier ``draw`` step, to one LoRA file an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.kinds import BorrowedOptions, StepKind, UnitCost
from loratools.recipe.steps.lora.step_masks import StepMasks, masks_of_step
from loratools.recipe.steps.lora.train_settings import (
    RunSettings,
    outcome_of_run,
    read_settings,
    refuse_keys,
    train_schema,
)

if TYPE_CHECKING:
    from loratools.train.config.config import TrainConfig

OPTIONS = BorrowedOptions(
    "Train",
    train_schema,
    "One LoRA file an epoch. Its options are those of a `loratools train` file; `images` is a folder, a list of "
    "folders, or a step that makes pictures (`draw`, `balance` ...), whose masks are `mask_folder: STEP/masks`; "
    "`base_adapters` and `network_weights` may name steps too.",
)
KIND = StepKind("train", OPTIONS, "run", loads_model=True, shared="required", guess=UnitCost(seconds=0.05))


def draft(request: StepRequest) -> Draft:
    """Check the settings by training's own model, and find the images."""
    given = request.step.settings
    refuse_keys(given, request)
    if not given.get("images"):
        raise request.error(message="'images' is missing; name a folder, or a `draw` step")
    folders, pictures, masks = _images(given["images"], request)
    values = {
        "base": request.paths.base,
        "images": folders,
        "out": str(request.planner.work / (request.step.out or request.name)),
        "name": request.name,
        "seed": given.get("seed", request.planner.recipe.seed),
    }
    settings = read_settings(request, values, under=given)
    step = TrainStep(request, settings, masks)
    return Draft(
        {**settings.options(), "images": _subsets(settings.config), **masks.options()},
        (request.paths.base_input(), *pictures, *settings.base_adapters.inputs, *settings.files, *masks.inputs),
        step.make,
        check=settings.check,
        warnings=settings.lacking,
        epochs=settings.config.epochs,
        family=request.paths.base_family,
        units=_samples(settings.config, pictures, request),
        kept_epochs=settings.kept_epochs(),
        pruned_by=settings.pruned_by(),
        most_processes=settings.config.batch_size,
    )


@dataclass(frozen=True)
class TrainStep:
    """A training whose settings are checked."""

    request: StepRequest
    settings: RunSettings
    masks: StepMasks

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Train into the folder ``out``."""
        from loratools.train.trainer import train

        context.kept.close()
        changed = {"out": out, "device": context.device, "force": context.force, "resume": context.resume}
        changed |= self.settings.base_adapters.settings()
        config = self.masks.added_to(self.settings.with_files().model_copy(update=changed))
        return outcome_of_run(train(config, progress=context.progress, recipe=context.recipe()))


def _samples(config: TrainConfig, pictures: Sequence[StepInput], request: StepRequest) -> float:
    """Images shown in all, for an estimate."""
    from loratools.train.data.read import samples_per_epoch

    pairs = zip(config.images, pictures, strict=True)
    drawn = {subset.folder: request.planner.step(item.step).draft.units for subset, item in pairs if item.step}
    counts = {folder: int(units or 0) for folder, units in drawn.items()}
    return float(samples_per_epoch(config, counts) * config.epochs)


def _images(value: Any, request: StepRequest) -> tuple[list[dict[str, Any]], list[StepInput], StepMasks]:
    """The folders of pictures: each with its settings, as training reads them, and as an input; and masks that steps
    make."""
    from loratools.train.config.data import FILES_OF_FOLDER

    entries, inputs, masks = [], [], dict[int, StepInput]()
    for index, item in enumerate(value if isinstance(value, list) else [value]):
        place = ("images", index) if isinstance(value, list) else ("images",)
        entry = dict(item) if isinstance(item, dict) else {"folder": item}
        if not entry.get("folder"):
            raise request.error(*place, message="'folder' is missing; name a folder, or a `draw` step")
        folder = request.input(str(entry["folder"]), *place)
        if folder.step is not None:
            _check_drawn(folder.step, request, *place)
        else:
            _check_pictures(folder, request, *place, plain_name=bool(entry.get("plain_name")))
        if (made := masks_of_step(request, entry, *place)) is not None:
            masks[index] = made
            del entry["mask_folder"]
        paths = {key: request.paths.find(str(entry[key])) or entry[key] for key in FILES_OF_FOLDER if entry.get(key)}
        entries.append({**entry, **paths, "folder": str(folder.path)})
        inputs.append(folder)
    return entries, inputs, StepMasks(masks)


def _check_drawn(name: str, request: StepRequest, *place: str | int) -> None:
    """Raise RecipeError if the step ``name`` makes no pictures to train on."""
    planned = request.planner.step(name)
    if planned.step_kind.makes != "pictures":
        message = (
            f"the step '{name}' is a {planned.kind}, which makes no pictures to train on; name a `draw` step or a "
            "folder"
        )
        raise request.error(*place, message=message)


def _check_pictures(folder: StepInput, request: StepRequest, *place: str | int, plain_name: bool) -> None:
    """Raise RecipeError if there is no folder, or not one picture in it."""
    from loratools.dataset.folder import folders_read

    if not folder.path.is_dir():
        message = f"'{folder.label}' is a file, and a folder of pictures is needed; name the folder that it lies in"
        raise request.error(*place, message=message)
    if not folders_read(folder.path, plain_name=plain_name):
        inside = sorted(path for path in folder.path.iterdir() if path.is_dir())
        hint = f"name a folder inside it, such as {folder.label}/{inside[0].name}" if inside else "put some there"
        raise request.error(*place, message=f"'{folder.label}' holds no pictures; {hint}")


def _subsets(config: TrainConfig) -> list[dict[str, Any]]:
    """Each folder's settings; of its path only a name such as ``10_name`` counts, which sets the repeats, and of the
    other paths that they are given: what lies there counts by digest."""
    from loratools.dataset.folder import folder_repeats
    from loratools.train.config.data import FILES_OF_FOLDER

    named = [folder_repeats(subset.folder) for subset in config.images]
    names = [f"{name.repeats}_{name.word}" if name else "" for name in named]
    subsets = []
    for subset, name in zip(config.images, names, strict=True):
        given = {key: "given" for key in FILES_OF_FOLDER if getattr(subset, key) is not None}
        own = subset.model_dump(mode="json", exclude={"caption_encoding"} if subset.caption_encoding is None else None)
        subsets.append({**own, **given, "folder": name})
    return subsets
