"""sd-scripts' settings as a recipe that trains: a config of its own, or of a GUI's for it."""

from __future__ import annotations

from pathlib import Path

from loratools.errors import RecipeError
from loratools.recipe.importers.model import Imported, imported_recipe
from loratools.recipe.importers.write import step_name

_ELSEWHERE = ("base", "out", "name", "device", "resume", "force", "images")


def from_config(path: Path, base: str | None, dataset: str | None = None) -> Imported:
    """Training options or a dataset config, as a recipe that trains; read as ``loratools train`` reads them.

    Args:
        dataset: the dataset config, where the options do not name it.
    Raises:
        RecipeError: naming an option that is unknown or not supported, and what to use instead.
    """
    from loratools.train.sd_scripts.config_file import read_sd_scripts

    theirs = read_sd_scripts(path, dataset=dataset)
    options, notes = theirs.settings, [*theirs.notes]
    if not (options.get("images") or options.get("datasets")):
        raise RecipeError(f"{path}: it names no pictures (train_data_dir); give its dataset config after it")
    if len(options.get("datasets") or ()) > 1:
        raise RecipeError(
            f"{path}: it has {len(options['datasets'])} data sets, and a recipe's training has one; train by the file "
            f"itself (`loratools train {path.name}`), or give each its own file and step"
        )
    settings = {key: value for key, value in options.items() if key not in _ELSEWHERE and value is not None}
    if not theirs.of_options:
        notes.append(f"{path.name} says which pictures, not how to train: `preset: default` is this tool's")
    if not (base or options.get("base")):
        notes.append(f"{path.name} names no base: name its file at `base:`")
    if (steps := settings.pop("max_steps", None)) is not None:
        notes.append(f"max_train_steps = {steps} has no place in a recipe, which counts epochs: name them at `epochs:`")
    notes += [f"'{key}: {options[key]}' is left out: results go to runs/, or -o" for key in ("out",) if key in options]
    images = {"images": options["images"]} if options.get("images") else {}
    step = {"train": {**images, **settings}}
    name = step_name(str(options.get("name") or path.stem))
    return imported_recipe(theirs.program, {name: step}, base or options.get("base"), notes)
